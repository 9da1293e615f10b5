"""What probes are told (contract, section 6)."""

import asyncio
import time
from itertools import pairwise

import asyncpg
import pytest

from aitp_cp.db.migrations import State
from aitp_cp.ops.health import PING_BUDGET_SECS, DatabaseProbe
from tests.support.app import App, running_app
from tests.support.proxy import Proxy

pytestmark = pytest.mark.anyio

OWN_AID = "aid:pubkey:4t-mlXibB8B84Slm3pn3l4p49MfY0jYnp8id3kzF3U8"
SERVICE = {"service": "aitp-control-plane", "aid": OWN_AID}
NEXT_PING_SECS = 1.05


async def state(app: App) -> tuple[int, bool, bool | str]:
    """Liveness, health and readiness as a probe sees them."""
    live, health, ready = [await app.http.get(f"/api/{probe}") for probe in ("livez", "health", "readyz")]
    assert live.json() == {"ok": True}
    assert health.status_code == (200 if health.json()["ok"] else 503)
    assert health.json() == {"ok": health.json()["ok"], "db": "ok" if health.json()["ok"] else "error"} | SERVICE
    assert ready.status_code == (200 if ready.json()["ready"] else 503)
    return live.status_code, health.json()["ok"], ready.json().get("reason", ready.json()["ready"])


async def test_all_is_well(database_url: str) -> None:
    async with running_app(database_url) as app:
        assert (await app.http.get("/api/health")).json() == {"ok": True, "db": "ok"} | SERVICE
        assert (await app.http.get("/api/readyz")).json() == {"ready": True}
        assert await state(app) == (200, True, True)


async def test_a_draining_process_is_healthy_but_not_ready(database_url: str) -> None:
    async with running_app(database_url) as app:
        app.rt.draining = True
        ready = await app.http.get("/api/readyz")
        assert (ready.status_code, ready.json()) == (503, {"ready": False, "reason": "shutting_down"})
        assert await state(app) == (200, True, "shutting_down")


async def test_a_schema_that_is_behind(database_url: str) -> None:
    conn = await asyncpg.connect(database_url)
    head = await conn.fetchval("SELECT version_num FROM aitp_cp_version")
    await conn.execute("UPDATE aitp_cp_version SET version_num = '0001_baseline'")
    async with running_app(database_url) as app:
        ready = await app.http.get("/api/readyz")
        assert (ready.status_code, ready.json()) == (503, {"ready": False, "reason": "migrations_pending"})
        await conn.execute("UPDATE aitp_cp_version SET version_num = $1", head)
        await asyncio.sleep(NEXT_PING_SECS)
        assert await state(app) == (200, True, True)
    await conn.close()


async def test_a_schema_that_changes_under_a_ready_process(database_url: str) -> None:
    conn = await asyncpg.connect(database_url)
    async with running_app(database_url) as app:
        assert await state(app) == (200, True, True)
        for revision, ready in (("0001_baseline", "migrations_pending"), ("9999_of_the_next_version", True)):
            await conn.execute("UPDATE aitp_cp_version SET version_num = $1", revision)
            await asyncio.sleep(NEXT_PING_SECS)
            assert await state(app) == (200, True, ready)
    await conn.close()


async def test_a_database_that_goes_and_comes_back(database_url: str) -> None:
    async with Proxy(database_url) as proxy, running_app(proxy.dsn) as app:
        assert await state(app) == (200, True, True)
        await proxy.stop()
        await asyncio.sleep(NEXT_PING_SECS)
        assert await state(app) == (200, False, "database_unavailable")
        refused = await app.get("/api/audit")
        assert (refused.status_code, refused.json()["code"]) == (503, "DATABASE_UNAVAILABLE")
        assert int(refused.headers["retry-after"]) >= 1
        assert (await app.http.get("/.well-known/aitp-manifest")).status_code == 200
        assert "aitp_control_plane_db_up 0.0" in (await app.http.get("/api/metrics")).text

        await proxy.start()
        await asyncio.sleep(NEXT_PING_SECS)
        assert await state(app) == (200, True, True)
        assert (await app.get("/api/audit")).status_code == 200
        assert "aitp_control_plane_db_up 1.0" in (await app.http.get("/api/metrics")).text


async def test_a_silent_database_costs_a_probe_two_seconds(database_url: str) -> None:
    async with Proxy(database_url) as proxy, running_app(proxy.dsn) as app:
        await state(app)
        await asyncio.sleep(NEXT_PING_SECS)
        proxy.stall()
        began = time.monotonic()
        responses = await asyncio.gather(*(app.http.get(f"/api/{probe}") for probe in ("health", "readyz") * 5))
        assert 0.95 * PING_BUDGET_SECS < time.monotonic() - began < 2 * PING_BUDGET_SECS  # one ping for all of them
        assert {response.status_code for response in responses} == {503}
        assert (await app.http.get("/api/livez")).status_code == 200
        proxy.resume()
        await asyncio.sleep(NEXT_PING_SECS)
        assert await state(app) == (200, True, True)


async def test_probes_at_once_share_one_ping_a_second(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pings = []
    ping = DatabaseProbe._ping

    async def watched(probe: DatabaseProbe) -> State | None:
        pings.append(time.monotonic())
        return await ping(probe)

    monkeypatch.setattr(DatabaseProbe, "_ping", watched)
    async with running_app(database_url) as app:
        async with asyncio.timeout(15):
            while len(pings) < 3:
                await asyncio.gather(*(app.http.get(f"/api/{probe}") for probe in ("health", "readyz") * 10))
    assert [later - earlier >= 1 for earlier, later in pairwise(pings)] == [True, True]
