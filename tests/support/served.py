"""One real server for all tests of a module: starting one takes longer than most of them.

A room's conftest imports the fixture; its tests share a database and must not mind each other's rows.
"""

from collections.abc import Iterator

import pytest

from tests.support.postgres import migrated_database
from tests.support.process import Process


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    log = tmp_path_factory.mktemp("server") / "log"
    with migrated_database() as dsn, Process(dsn, log, WEBHOOK_ALLOWED_CIDRS="127.0.0.0/8") as process:
        yield process
        assert "Traceback" not in process.log()
