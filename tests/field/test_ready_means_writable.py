"""A server that takes no writes is left at once, and a process on it is not ready (row 1)."""

import asyncio
import time
from collections.abc import Iterator

import asyncpg
import pytest

from tests.support.app import App, running_app
from tests.support.standby import Pair, Switch, streaming_pair

pytestmark = pytest.mark.anyio

NEXT_PING_SECS = 1.05
SECONDS = 5.0


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    with streaming_pair() as both:
        yield both


async def probes(app: App) -> tuple[int, str, int, str]:
    """Of readiness its status and reason, of health its status and what it says of the database."""
    await asyncio.sleep(NEXT_PING_SECS)
    ready, health = await app.http.get("/api/readyz"), await app.http.get("/api/health")
    return ready.status_code, ready.json().get("reason", ""), health.status_code, health.json()["db"]


async def post(app: App) -> int:
    return (await app.post("/api/events", [{"type": "demo.event"}])).status_code


NOT_READY = (503, "database_unavailable", 503, "error")
READY = (200, "", 200, "ok")


async def test_a_name_that_leads_to_a_standby_and_then_to_the_primary(pair: Pair) -> None:
    """Row 1: new connections lead to the primary while the standby stays up; writes go on within seconds."""
    async with Switch(pair.standby.dsn()) as name, running_app(name.dsn) as app:
        assert await post(app) == 503
        assert await probes(app) == NOT_READY
        assert "aitp_control_plane_db_up 0.0" in (await app.http.get("/api/metrics")).text
        assert (await app.http.get("/api/livez")).status_code == 200
        name.lead_to(pair.primary)
        began = time.monotonic()
        while await post(app) != 200:
            assert time.monotonic() - began < SECONDS
            await asyncio.sleep(0.1)
        assert await probes(app) == READY


async def test_without_any_write_the_probe_finds_the_way(pair: Pair) -> None:
    """Row 1: a process that nobody writes to becomes ready by itself; the idle connections are replaced too."""
    async with Switch(pair.standby.dsn()) as name, running_app(name.dsn) as app:
        busy = [asyncio.create_task(hold(app)) for _ in range(4)]
        await asyncio.gather(*busy)
        assert await probes(app) == NOT_READY
        name.lead_to(pair.primary)
        began = time.monotonic()
        while await probes(app) != READY:
            assert time.monotonic() - began < SECONDS
        assert [await on_standby(app) for _ in range(8)] == [False] * 8


async def test_a_database_set_to_read_only_and_back(database_url: str) -> None:
    """Row 1: default_transaction_read_only, an operator's stop sign; sessions from before it are replaced as well."""
    name = database_url.split("?")[0].rpartition("/")[2]
    async with running_app(database_url) as app:
        assert (await post(app), await probes(app)) == (200, READY)
        await alter(database_url, f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        await app.rt.db.renew()
        assert await post(app) == 503
        assert await probes(app) == NOT_READY
        assert (await app.get("/api/events/history")).status_code == 200  # what is only read is still served
        await alter(database_url, f"ALTER DATABASE {name} RESET default_transaction_read_only")
        began = time.monotonic()
        while await probes(app) != READY:
            assert time.monotonic() - began < SECONDS
        assert await post(app) == 200


async def hold(app: App) -> None:
    async with app.rt.db.connection() as conn:
        await conn.fetchval("SELECT pg_sleep(0.2)")


async def on_standby(app: App) -> bool:
    async with app.rt.db.connection() as conn:
        return bool(await conn.fetchval("SELECT pg_is_in_recovery()"))


async def alter(dsn: str, statement: str) -> None:
    conn = await asyncpg.connect(dsn)
    await conn.execute("SET default_transaction_read_only = off")
    await conn.execute(statement)
    await conn.close()
