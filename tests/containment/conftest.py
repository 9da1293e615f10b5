from collections.abc import AsyncIterator

import pytest

from tests.support.app import App, running_app


@pytest.fixture
async def app(database_url: str) -> AsyncIterator[App]:
    async with running_app(database_url) as running:
        yield running
