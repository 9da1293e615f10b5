"""The gauges that are refreshed in the background (contract, section 14)."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import timedelta

import pytest

from aitp_cp.ops.figures import MAX_TYPES, Figures
from aitp_cp.ops.jobs import refresh
from tests.support.app import App, running_app

pytestmark = pytest.mark.anyio

PREFIX = "aitp_control_plane_"


@pytest.fixture
async def app(database_url: str) -> AsyncIterator[App]:
    async with running_app(database_url, DB_POOL_MAX="3") as running:
        yield running


def gauge(app: App, name: str, **labels: str) -> float | None:
    return app.rt.metrics.registry.get_sample_value(PREFIX + name, labels)


async def test_an_exhausted_pool_shows_and_a_scrape_waits_for_nothing(app: App) -> None:
    async with AsyncExitStack() as everything:
        for _ in range(3):
            await everything.enter_async_context(app.rt.db.connection())
        refreshing = asyncio.create_task(refresh(app.rt))
        async with asyncio.timeout(3):
            while gauge(app, "db_pool_in_use") != 3:
                await asyncio.sleep(0.01)
            scraped = (await app.http.get("/api/metrics")).text
        assert not refreshing.done()
    assert f"{PREFIX}db_pool_in_use 3.0" in scraped
    assert f"{PREFIX}db_pool_max 3.0" in scraped
    await refreshing
    async with asyncio.timeout(3):
        while gauge(app, "db_pool_in_use") != 0:  # the tail reads now and then
            await refresh(app.rt)


async def test_a_clock_that_is_off_shows(app: App) -> None:
    for minutes in (10, -10, 0):
        app.clock.ahead = timedelta(minutes=minutes)
        await app.rt.get(Figures).refresh()
        assert gauge(app, "clock_offset_seconds") == pytest.approx(60 * minutes, abs=30)


async def test_types_beyond_the_limit_share_a_label(app: App) -> None:
    events = [{"type": f"type.{number}"} for number in range(MAX_TYPES + 20)]
    assert (await app.post("/api/events", events)).json()["inserted"] == MAX_TYPES + 20
    async with asyncio.timeout(10):
        while gauge(app, "audit_events", type="other") != 20:
            await asyncio.sleep(0.01)
    assert gauge(app, "audit_events", type=f"type.{MAX_TYPES - 1}") == 1
    assert gauge(app, "audit_events", type=f"type.{MAX_TYPES}") is None


async def test_a_deleted_webhook_has_no_breaker(app: App) -> None:
    created = (await app.post("/api/webhooks", {"url": "http://192.0.3.1/hook"})).json()
    await app.rt.get(Figures).refresh()
    assert gauge(app, "webhook_circuit_breaker_open", state="closed") == 1
    await app.delete(f"/api/webhooks/{created['id']}")
    await app.rt.get(Figures).refresh()
    assert gauge(app, "webhook_circuit_breaker_open", state="closed") == 0
