from collections.abc import AsyncIterator

import pytest

from tests.support.app import App, running_app


@pytest.fixture
async def app(database_url: str) -> AsyncIterator[App]:
    """The console behind the open gate of development."""
    async with running_app(database_url, API_KEYS="", CP_BASE_URL="http://cp.test") as running:
        yield running


@pytest.fixture
async def guarded(database_url: str) -> AsyncIterator[App]:
    """The console behind a key."""
    async with running_app(database_url) as running:
        yield running
