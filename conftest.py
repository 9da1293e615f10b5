import logging
import os
import signal
from collections.abc import Iterator
from typing import Any

import hypothesis
import pytest
import structlog

from tests.support.postgres import database_url, empty_database_url, pytest_configure, pytest_unconfigure

__all__ = ["database_url", "empty_database_url", "pytest_configure", "pytest_unconfigure"]

# A shell that runs the tests in the background makes them ignore Ctrl-C, and with them every process that a test
# interrupts: an ignored signal is inherited.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The default draws every local variable of every frame, which takes seconds for one failed request.
structlog.configure(
    processors=[
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback),
    ]
)


# A test that is slow once, on a busy machine, has not failed. Everybody tries the same examples, so that a change is
# judged by what it changes; EXPLORE=1 looks for new ones (`make acceptance`).
hypothesis.settings.register_profile("repeatable", deadline=None, derandomize="EXPLORE" not in os.environ)
hypothesis.settings.load_profile("repeatable")


@pytest.fixture
def own_logging() -> Iterator[None]:
    """Put back how this process logs after a test that configures it."""
    root = logging.getLogger()
    handlers, level, config = root.handlers, root.level, structlog.get_config()
    yield
    root.handlers, root.level = handlers, level
    structlog.configure(**config)
    logging.captureWarnings(False)


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "asyncio", {"use_uvloop": True}
