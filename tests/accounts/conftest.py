from collections.abc import AsyncIterator

import pytest

from tests.support.app import App, running_app
from tests.support.shared import database_url, module_database_url

__all__ = ["app", "database_url", "module_database_url"]


@pytest.fixture
async def app(database_url: str) -> AsyncIterator[App]:
    async with running_app(database_url) as running:
        yield running
