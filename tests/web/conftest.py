from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from tests.support.app import App, running_app
from tests.support.postgres import migrated_database


@pytest.fixture(scope="module")
def shared_database_url() -> Iterator[str]:
    """One database for the tests of a module that leave nothing behind for each other."""
    with migrated_database() as dsn:
        yield dsn


@pytest.fixture(scope="module")
async def app(shared_database_url: str, anyio_backend: Any) -> AsyncIterator[App]:
    async with running_app(shared_database_url) as running:
        yield running
