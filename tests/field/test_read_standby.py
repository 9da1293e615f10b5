"""Lists, exports and the dashboard read from a hot standby, and nothing that decides does (contract, section 25)."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from uuid import uuid4

import httpx
import pytest

from aitp_cp.app import ENDPOINTS
from aitp_cp.db import Database
from aitp_cp.ops.figures import Figures
from tests.cli.support import GOOD, run, said
from tests.support.agents import manifest, new_agent
from tests.support.app import AUTH, OTHER_KEY, App, running_app
from tests.support.proxy import Proxy
from tests.support.standby import Pair, ask, streaming_pair
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

WITHIN_SECS = 1.0  # that a standby which is away or lags may still be asked
HOUR = "3600000"
LAG = "aitp_control_plane_db_read_lag_seconds"
FALLBACKS = "aitp_control_plane_db_read_fallbacks_total"
READER = {"Authorization": f"Bearer {OTHER_KEY}"}  # somebody else than who writes

# The only endpoints that may show what the standby has; whatever decides, proves or changes something is not here.
FROM_STANDBY = {
    "/api/events/history",
    "/api/sessions",
    "/api/sessions/{id}",
    "/api/sessions/{id}/export",
    "/api/sessions/{id}/replay",
    "/api/tcts",
    "/api/delegations",
    "/api/registry/agents/{aid}/export",
    "/api/dashboard/overview",
    "/api/dashboard/agents",
    "/api/trust/edges",
    "/api/audit/export",
}


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    with streaming_pair() as both:
        yield both


@asynccontextmanager
async def reading(pair: Pair, read_url: str | None = None, **environment: str) -> AsyncIterator[App]:
    """The application, once it uses the standby."""
    await replay(pair, "resume")
    url = read_url or pair.standby.dsn()
    async with running_app(pair.primary.dsn(), DATABASE_READ_URL=url, **environment) as app:
        await until(lambda: on_standby(app), 5)
        yield app


def on_standby(app: App) -> bool:
    return not app.rt.db.reads_primary()


async def replay(pair: Pair, action: str) -> None:
    await ask(pair.standby, f"SELECT pg_wal_replay_{action}()")


async def seen(app: App, run: str, headers: dict[str, str] = READER) -> int:
    """How many events of the run this caller sees in the history."""
    response = await app.http.get("/api/events/history", params={"runId": run}, headers=headers)
    assert response.status_code == 200, response.text
    return len(response.json()["events"])


async def post(app: App, run: str) -> None:
    response = await app.post("/api/events", [{"type": "demo.event", "run_id": run, "payload": {"n": str(uuid4())}}])
    assert response.status_code == 200


def fallbacks(app: App, reason: str) -> float:
    return app.rt.metrics.registry.get_sample_value(FALLBACKS, {"reason": reason}) or 0


async def test_no_endpoint_that_decides_reads_the_standby(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """While replay stands still, everything that decides knows the newest state; lists show the old one."""
    used: set[str] = set()

    async def spying(self: Database, query: Callable[..., Awaitable[object]]) -> object:
        used.add(route)
        return await read(self, query)

    read, route = Database.read, ""
    monkeypatch.setattr(Database, "read", spying)
    async with reading(pair, READ_MAX_LAG_MS=HOUR) as app:
        for endpoint in ENDPOINTS:  # of each the bare path: what decides must not even try
            if endpoint.method == "GET" and not endpoint.streaming:
                route = endpoint.path
                aid = "aid:pubkey:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
                path = route.replace("{aid}", aid).replace("{id}", str(uuid4())).replace("{jti}", str(uuid4()))
                await app.http.get(path, headers=READER)
        assert used == FROM_STANDBY

        await replay(pair, "pause")
        run = str(uuid4())
        await post(app, run)
        assert await seen(app, run) == 0  # so it is the standby that answers
        await decides(app)
        await replay(pair, "resume")
        while not await seen(app, run):
            await asyncio.sleep(0.02)


async def decides(app: App) -> None:
    """Registration, discovery, revocation, its list, keys, idempotency and trust: each as of this moment."""
    agent = new_agent()
    body = manifest(agent)
    token = (await app.http.post("/api/registry/enroll", content=body)).json()["token"]
    registered = await app.http.post("/api/registry/agents", content=body, headers={"Authorization": f"Bearer {token}"})
    assert registered.status_code == 201
    again = await app.http.post("/api/registry/agents", content=body, headers={"Authorization": f"Bearer {token}"})
    assert again.status_code != 201 or again.json() == registered.json()
    for path in (f"/api/registry/agents/{agent.aid}", f"/api/registry/agents/{agent.aid}/manifest"):
        assert (await app.http.get(path)).status_code == 200
    jti = str(uuid4())
    revoked = await app.post("/api/revocation/entries", {"jti": jti})
    assert (await app.post("/api/revocation/entries", {"jti": jti})).json() == revoked.json()
    entries = (await app.http.get("/api/revocation/entries", params={"jti": jti}, headers=READER)).json()
    assert entries["count"] == 1
    async with asyncio.timeout(1):
        while jti not in (await app.http.get("/.well-known/aitp-revocation-list")).text:
            await asyncio.sleep(0.02)
    key = (await app.post("/api/keys", {"name": "fresh", "role": "admin"})).json()
    fresh = {"Authorization": f"Bearer {key['key']}"}
    assert (await app.http.get("/api/whoami", headers=fresh)).status_code == 200
    assert (await app.delete(f"/api/keys/{key['id']}")).status_code == 200
    assert (await app.http.get("/api/whoami", headers=fresh)).status_code == 401
    once = {"Idempotency-Key": str(uuid4())}
    first = await app.post("/api/webhooks", {"url": "https://203.0.113.7/x"}, headers=once)
    second = await app.post("/api/webhooks", {"url": "https://203.0.113.7/x"}, headers=once)
    assert (second.status_code, second.headers.get("idempotency-replayed")) == (first.status_code, "true")


async def test_a_standby_that_lags_is_left_within_a_second(pair: Pair) -> None:
    async with reading(pair, READ_MAX_LAG_MS="1000") as app:
        run = str(uuid4())
        await replay(pair, "pause")
        await post(app, run)
        await until(lambda: not on_standby(app), 1 + WITHIN_SECS)
        assert await seen(app, run) == 1
        assert fallbacks(app, "lag") == 1
        app.rt.get(Figures).show_pool()
        assert (app.rt.metrics.registry.get_sample_value(LAG) or 0) >= 1
        await replay(pair, "resume")
        await until(lambda: on_standby(app), 5)


async def test_pages_are_told_only_of_what_they_can_read(pair: Pair) -> None:
    """The console's bell waits for the standby, or for the primary to answer instead."""
    called: list[str] = []
    async with reading(pair, READ_MAX_LAG_MS=HOUR) as app:
        await replay(pair, "pause")
        run = str(uuid4())
        await post(app, run)
        app.rt.db.when_readable(lambda: called.append("has it"))
        await asyncio.sleep(0.6)
        assert (called, await seen(app, run)) == ([], 0)
        await replay(pair, "resume")
        await until(lambda: called == ["has it"], 2)
        assert await seen(app, run) == 1
    async with reading(pair, READ_MAX_LAG_MS="500") as app:
        await replay(pair, "pause")
        await post(app, str(uuid4()))
        app.rt.db.when_readable(lambda: called.append("is left"))
        await until(lambda: called == ["has it", "is left"], 2)
        await replay(pair, "resume")
    async with running_app(pair.primary.dsn()) as app:
        app.rt.db.when_readable(lambda: called.append("is none"))
        assert called[-1] == "is none"


async def test_an_idle_primary_is_no_lag(pair: Pair) -> None:
    async with reading(pair, READ_MAX_LAG_MS="1000") as app:
        for _ in range(15):
            await asyncio.sleep(0.1)
            assert on_standby(app)


async def test_a_standby_that_vanishes_or_goes_is_left_within_a_second(pair: Pair) -> None:
    """Also by the requests that wait for it: they are answered by the primary."""
    async with Proxy(pair.standby.dsn()) as between, reading(pair, between.dsn, READ_MAX_LAG_MS=HOUR) as app:
        run = str(uuid4())
        await post(app, run)
        between.stall()
        began = time.monotonic()
        responses = await asyncio.gather(*[seen(app, run) for _ in range(8)])
        assert responses == [1] * 8
        assert time.monotonic() - began < WITHIN_SECS + 0.5
        assert not on_standby(app)
        between.resume()
        await until(lambda: on_standby(app), 5)
        await between.stop()
        assert await asyncio.gather(*[seen(app, run) for _ in range(8)]) == [1] * 8
        await between.start()
        await until(lambda: on_standby(app), 5)


async def test_a_start_without_the_standby(pair: Pair) -> None:
    async with running_app(pair.primary.dsn(), DATABASE_READ_URL="postgresql://nobody@127.0.0.1:1/cp") as app:
        assert await seen(app, "none") == 0
        assert fallbacks(app, "away") == 1
        assert (await app.http.get("/api/readyz")).status_code == 200


async def test_another_database_is_never_read(pair: Pair, database_url: str) -> None:
    """A READ_URL that leads elsewhere: another cluster, or a former primary that still runs."""
    async with running_app(pair.primary.dsn(), DATABASE_READ_URL=database_url) as app:
        run = str(uuid4())
        await post(app, run)
        await asyncio.sleep(1)
        assert not on_standby(app)
        assert await seen(app, run) == 1


async def test_callers_read_what_they_wrote_and_find_what_is_new(pair: Pair) -> None:
    async with reading(pair, READ_MAX_LAG_MS=HOUR) as app:
        await replay(pair, "pause")
        run, session = str(uuid4()), str(uuid4())
        await post(app, run)
        event = {"type": "handshake.started", "session_id": session, "aid_a": new_agent().aid}
        assert (await app.post("/api/events", [event])).status_code == 200
        assert (await seen(app, run, AUTH), await seen(app, run)) == (1, 0)
        overview = [(await app.http.get("/api/dashboard/overview", headers=who)).json() for who in (READER, AUTH)]
        assert [session in str(one) for one in overview] == [False, True]
        # What one caller does not see in a list, it finds by its id.
        assert session not in (await app.http.get("/api/sessions", headers=READER)).text
        found: httpx.Response = await app.http.get(f"/api/sessions/{session}", headers=READER)
        assert (found.status_code, found.json()["session"]["sessionId"]) == (200, session)
        await replay(pair, "resume")


def check(pair: Pair, read_url: str, **more: str) -> str:
    environment = {**GOOD, "DATABASE_URL": pair.primary.dsn(), "DATABASE_READ_URL": read_url, **more}
    return said(run("check", **environment))


def test_check_says_how_far_it_is(pair: Pair, database_url: str) -> None:
    """Also for a role without any right beyond its tables."""
    asyncio.run(replay(pair, "resume"))
    asyncio.run(ask(pair.primary, "CREATE ROLE plain LOGIN"))
    pair.catch_up()
    plain = pair.standby.dsn().replace("//postgres@", "//plain@")
    assert "ok read standby has what the primary has" in check(pair, plain)
    asyncio.run(replay(pair, "pause"))
    asyncio.run(ask(pair.primary, "DROP ROLE plain"))
    assert "warn read standby is more than 0.1 s behind" in check(pair, pair.standby.dsn(), READ_MAX_LAG_MS="100")
    asyncio.run(replay(pair, "resume"))
    assert "fail read standby it is not a standby of the primary" in check(pair, database_url)
    refused = check(pair, "postgresql://nobody:canary@127.0.0.1:1/cp")
    assert "warn read standby cannot be reached" in refused
    assert "canary" not in refused
