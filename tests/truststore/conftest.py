from collections.abc import AsyncIterator

import pytest

from aitp_cp.truststore.refresher import JwksRefresher
from tests.support.app import App, running_app
from tests.support.provider import Provider


@pytest.fixture
async def app(database_url: str) -> AsyncIterator[App]:
    async with running_app(database_url) as running:
        yield running


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    async with Provider() as serving:
        yield serving


@pytest.fixture
async def by_hand(database_url: str) -> AsyncIterator[App]:
    """The application, which may reach providers on this machine; its refresher does what a test tells it to."""
    async with running_app(database_url, WEBHOOK_ALLOWED_CIDRS="127.0.0.0/8") as running:
        yield running


@pytest.fixture
async def refreshing(database_url: str) -> AsyncIterator[App]:
    """The application with its refresher at work, which may reach providers on this machine."""
    async with running_app(database_url, WEBHOOK_ALLOWED_CIDRS="127.0.0.0/8") as running:
        refresher = running.rt.get(JwksRefresher)
        refresher.start()
        try:
            yield running
        finally:
            await refresher.stop()
