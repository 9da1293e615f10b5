from collections.abc import AsyncIterator

import pytest

from tests.support.app import App, running_app
from tests.support.proxy import Proxy


@pytest.fixture
async def app(database_url: str) -> AsyncIterator[App]:
    async with running_app(database_url) as running:
        yield running


@pytest.fixture
async def proxy(database_url: str) -> AsyncIterator[Proxy]:
    async with Proxy(database_url) as between:
        yield between


@pytest.fixture
async def distant(proxy: Proxy) -> AsyncIterator[App]:
    """The application with the proxy between it and its database."""
    async with running_app(proxy.dsn) as running:
        yield running
