"""One caller leaves the others their share: of reads, of streams, and of database connections (row A7)."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import asyncpg
import httpx
import pytest

from aitp_cp.app import ENDPOINTS
from aitp_cp.web.caller_reads import BUCKET, MAX_READS
from aitp_cp.web.endpoint import Endpoint
from tests.events.support import Reader, replica
from tests.support.app import API_KEY, AUTH, OTHER_KEY, App, running_app
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

OTHER = {"Authorization": f"Bearer {OTHER_KEY}"}
SESSIONS = "/api/sessions"


@asynccontextmanager
async def slow(database_url: str, table: str) -> AsyncIterator[None]:
    """Reads of this table take as long as the block."""
    conn = await asyncpg.connect(database_url)
    try:
        async with conn.transaction():
            await conn.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
            yield
    finally:
        await conn.close()


def asking(app: App, count: int, path: str = SESSIONS, **headers: str) -> "list[asyncio.Task[httpx.Response]]":
    return [asyncio.create_task(app.http.get(path, headers=headers or AUTH)) for _ in range(count)]


def test_every_list_export_and_dashboard_is_marked() -> None:
    """Row A7: what reads many rows counts among the reads of its caller; what reads one does not."""

    def reads_many(endpoint: Endpoint) -> bool:
        paged = endpoint.query is not None and {"offset", "limit"} & set(endpoint.query.__struct_fields__)
        return bool(paged) or endpoint.path.endswith("/export") or endpoint.path.startswith("/api/dashboard/")

    marked = {endpoint.name for endpoint in ENDPOINTS if endpoint.bulk}
    assert marked >= {endpoint.name for endpoint in ENDPOINTS if reads_many(endpoint)}
    # What reads many rows for one answer, or is a list without pages.
    assert marked - {endpoint.name for endpoint in ENDPOINTS if reads_many(endpoint)} == {
        "GET /api/sessions/{id}",
        "GET /api/attention",
        "GET /api/events/types",
        "GET /api/jobs",
        "GET /api/replicas",
        "GET /api/trust/edges",
        "GET /api/webhooks/{id}/health",
    }
    assert not any(endpoint.streaming or endpoint.method != "GET" for endpoint in ENDPOINTS if endpoint.bulk)


async def test_a_caller_runs_eight_reads_at_once(database_url: str) -> None:
    """Row A7: more of them wait a second and are refused; other callers and other requests are not."""
    async with running_app(database_url) as app, slow(database_url, "handshake_sessions"):
        began = time.monotonic()
        reads = asking(app, MAX_READS + 4)
        done, waiting = await asyncio.wait(reads, timeout=3, return_when=asyncio.ALL_COMPLETED)
        assert time.monotonic() - began >= 0.9
        assert (len(done), len(waiting)) == (4, MAX_READS)
        for read in done:
            refused = read.result()
            body = refused.json()
            assert (refused.status_code, body["code"], body["bucket"]) == (429, "RATE_LIMITED", BUCKET)
            assert refused.headers["retry-after"] == "1"
            assert (refused.headers["x-ratelimit-limit"], refused.headers["x-ratelimit-remaining"]) == ("8", "0")
        assert (await app.get("/api/webhooks/" + str(uuid4()))).status_code == 404
        assert (await app.http.get("/api/audit", headers=OTHER)).status_code == 200
        metrics = (await app.http.get("/api/metrics")).text
        assert f'aitp_control_plane_rate_limit_drops{{bucket="{BUCKET}"}} 4.0' in metrics
        for read in waiting:
            read.cancel()
        await asyncio.wait(waiting)


async def test_a_burst_of_short_reads_gets_through(database_url: str) -> None:
    """Row A7: the limit is on what runs, so sixty reads of some milliseconds wait for each other."""
    async with running_app(database_url) as app:
        responses = await asyncio.gather(*asking(app, 60))
        assert {response.status_code for response in responses} == {200}


async def test_readers_that_go_away_free_their_slots(database_url: str) -> None:
    """Row A7: a slot is held as long as its request, and a caller without requests takes no memory."""
    async with running_app(database_url) as app:
        async with slow(database_url, "handshake_sessions"):
            reads = asking(app, MAX_READS + 3)
            await asyncio.sleep(0.2)
            for read in reads:
                read.cancel()
            await asyncio.wait(reads)
            assert (await app.get("/api/audit")).status_code == 200
        assert (await app.get(SESSIONS)).status_code == 200


async def test_an_open_gate_knows_no_callers(database_url: str) -> None:
    """Row A7: a single developer without keys may read and follow as much as the process can serve."""
    async with running_app(database_url, API_KEYS="") as app:
        async with slow(database_url, "handshake_sessions"):
            reads = asking(app, MAX_READS + 4)
            await asyncio.sleep(1.3)
            assert not any(read.done() for read in reads)
        responses = await asyncio.gather(*reads)
        assert {response.status_code for response in responses} == {200}
    slots = {"API_KEYS": "", "MAX_SSE_CONNECTIONS": "2"}
    async with replica(database_url, **slots) as one, one.stream() as first, one.stream() as second:
        assert (first.status, second.status) == (200, 200)


@pytest.mark.parametrize(("settings", "mine", "all_"), [({}, 2, 4), ({"SSE_PER_CALLER": "3"}, 3, 4)])
async def test_one_key_holds_half_of_the_streams(
    database_url: str, settings: dict[str, str], mine: int, all_: int
) -> None:
    """Row A7: the rest is left for other keys, and a stream that ends gives its slot back."""
    async with replica(database_url, MAX_SSE_CONNECTIONS=str(all_), **settings) as one:
        streams = [await one.stream().__aenter__() for _ in range(mine + 1)]
        assert [stream.status for stream in streams] == [200] * mine + [503]
        assert streams[-1].headers["retry-after"] == "30"
        others = [await stream_of(one, OTHER_KEY).__aenter__() for _ in range(all_ - mine)]
        assert {stream.status for stream in others} == {200}
        await streams[0].__aexit__()
        await until(lambda: one.metric("sse_streams_open") == all_ - 1)
        async with one.stream() as again:
            assert again.status == 200
        for stream in [*streams[1:], *others]:
            await stream.__aexit__()


def stream_of(one: Any, key: str) -> Reader:
    reader: Reader = one.stream()
    reader.key = key
    return reader


async def test_slow_reads_leave_connections_for_revocation_and_health(database_url: str) -> None:
    """Row A7: sixty slow reads at once, of eight keys, and a revocation, a report and a health check answer at once."""
    keys = [API_KEY, *(f"key-number-{n}" for n in range(7))]
    async with running_app(database_url, API_KEYS=",".join(keys)) as app:
        async with slow(database_url, "handshake_sessions"):
            reads = [read for key in keys for read in asking(app, 8, Authorization=f"Bearer {key}")]
            await asyncio.sleep(0.3)
            began = time.monotonic()
            revoked, health = await asyncio.gather(
                app.post("/api/revocation/entries", {"jti": str(uuid4())}), app.http.get("/api/health")
            )
            assert (revoked.status_code, health.status_code, health.json()["db"]) == (201, 200, "ok")
            listed = await app.http.get("/.well-known/aitp-revocation-list")
            assert revoked.json()["jti"] in listed.text
            assert time.monotonic() - began < 1.5
            assert not any(read.done() for read in reads)
            assert app.rt.db.in_use < app.rt.db.max_size
        responses = await asyncio.gather(*reads)
        assert {response.status_code for response in responses} <= {200, 503}
        assert (await app.get(SESSIONS)).status_code == 200
