"""A standby is promoted under load (contract, part II, section 25); two replicas know both hosts.

`FAILOVER_PROMOTIONS` says how often in a row; `make acceptance` does it twenty times.
"""

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
import pytest

from aitp_cp.db import pool
from tests.support.app import AUTH, App, running_app
from tests.support.process import Process
from tests.support.proxy import Proxy
from tests.support.standby import Node, Pair, ask, streaming_pair

pytestmark = pytest.mark.anyio

PROMOTIONS = int(os.environ.get("FAILOVER_PROMOTIONS", "1"))
SERVES_AGAIN_SECS = 5.0
LOAD_SECS = 0.5  # before and after each promotion
LIST = "/.well-known/aitp-revocation-list"
SENT = "SELECT json_agg(payload->>'n' ORDER BY seq)::text FROM audit_events WHERE type = 'demo.sent'"

IN_DOUBT = "SELECT count(*) FROM audit_events WHERE type = 'demo.doubted'"


@dataclass
class Record:
    """What was acknowledged, and what each stream has shown."""

    events: set[str] = field(default_factory=set)
    revocations: set[str] = field(default_factory=set)
    frames: list[list[tuple[int, str]]] = field(default_factory=list)
    resets: int = 0
    last_ok: list[float] = field(default_factory=list)  # of each replica, monotonic
    responses: set[int] = field(default_factory=set)


async def report(http: httpx.AsyncClient, record: Record, replica: int) -> None:
    """Send events, each again until it is acknowledged, and now and then a revocation."""
    number = 0
    while True:
        number += 1
        name, jti = f"{replica}-{number}-{uuid4()}", str(uuid4())
        event = {"type": "demo.sent", "ts": time.time(), "payload": {"n": name}}
        await acknowledged(http, record, "/api/events", [event])
        record.events.add(name)
        record.last_ok[replica] = time.monotonic()
        if number % 10 == 0:
            await acknowledged(http, record, "/api/revocation/entries", {"jti": jti})
            record.revocations.add(jti)


async def acknowledged(http: httpx.AsyncClient, record: Record, path: str, body: object) -> None:
    while True:
        response = await http.post(path, json=body)
        record.responses.add(response.status_code)
        if response.is_success:
            return
        assert response.status_code == 503, response.text
        assert int(response.headers["Retry-After"]) <= 2
        await asyncio.sleep(0.1)


async def watch(http: httpx.AsyncClient, record: Record, frames: list[tuple[int, str]]) -> None:
    """Follow the stream; if it ends, go on behind the last frame."""
    while True:
        headers = {"Last-Event-ID": str(frames[-1][0])} if frames else {}
        with suppress(httpx.TransportError):
            async with http.stream("GET", "/api/events/stream?type=demo.sent", headers=headers) as stream:
                seq = 0
                async for line in stream.aiter_lines():
                    record.resets += line == "event: reset"
                    if line.startswith("id: "):
                        seq = int(line[4:])
                    elif line.startswith("data: ") and "payload" in line:
                        frames.append((seq, json.loads(line[6:])["payload"]["n"]))
        await asyncio.sleep(0.1)


@asynccontextmanager
async def load(replicas: list[Process], record: Record) -> AsyncIterator[None]:
    """Two reporters and two streams on each replica."""
    tasks = []
    clients = [httpx.AsyncClient(base_url=replica.url, headers=AUTH, timeout=30) for replica in replicas]
    record.last_ok = [0.0] * len(clients)
    for number, http in enumerate(clients):
        tasks += [asyncio.create_task(report(http, record, number)) for _ in range(2)]
        for _ in range(2):
            record.frames.append([])
            tasks.append(asyncio.create_task(watch(http, record, record.frames[-1])))
    try:
        yield
        assert not [task for task in tasks if task.done()], [task.exception() for task in tasks if task.done()]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        for http in clients:
            await http.aclose()


@pytest.fixture(scope="module")
def servers() -> Iterator[Pair]:
    with streaming_pair() as both:
        yield both


@pytest.fixture
def pair(servers: Pair) -> Iterator[Pair]:
    yield servers
    servers.rejoin()


@pytest.fixture(scope="module")
def replicas(servers: Pair, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Process]]:
    logs = tmp_path_factory.mktemp("failover")
    with Process(servers.dsn, logs / "one.log") as one, Process(servers.dsn, logs / "two.log") as two:
        yield [one, two]


async def until_all_serve(record: Record, promoted_at: float) -> float:
    """Wait until each replica has acknowledged a write to the new primary; returns the seconds since the promotion."""
    while min(record.last_ok) <= promoted_at:
        assert time.monotonic() - promoted_at < SERVES_AGAIN_SECS, "a replica does not serve again"
        await asyncio.sleep(0.01)
    return max(record.last_ok) - promoted_at


async def stored_on(node: Node) -> list[str]:
    return list(json.loads(str(await ask(node, SENT))))


async def test_synchronous_nothing_acknowledged_is_lost(pair: Pair, replicas: list[Process]) -> None:
    """Streams go on without gap or repetition, revocations are in each list, replicas serve within five seconds."""
    record, waits = Record(), []
    async with load(replicas, record):
        for number in range(PROMOTIONS):
            if number:
                await asyncio.to_thread(pair.rejoin)
            await asyncio.to_thread(pair.synchronise)
            await asyncio.sleep(LOAD_SECS)
            waits.append(await until_all_serve(record, await asyncio.to_thread(pair.fail_over)))
            await asyncio.sleep(LOAD_SECS)
    print(f"{PROMOTIONS} promotions, {len(record.events)} events, serving again after {max(waits):.2f} s at most")
    stored = await stored_on(pair.primary)
    assert len(stored) == len(set(stored))
    assert record.events <= set(stored)
    assert record.responses <= {200, 201, 503}
    assert record.resets == 0
    for frames in record.frames:
        seen = [name for _, name in frames]
        assert [seq for seq, _ in frames] == sorted({seq for seq, _ in frames})
        first = stored.index(seen[0])
        assert seen == stored[first : first + len(seen)]
    for replica in replicas:
        assert record.revocations <= {entry["jti"] for entry in listed(replica)}


async def test_asynchronous_only_what_the_standby_lacked_is_lost(pair: Pair, replicas: list[Process]) -> None:
    """Followers start anew with a reset, and the log says so."""
    record, lost = Record(), Record()
    async with load(replicas, record):
        await asyncio.sleep(LOAD_SECS)
    await pair.caught_up()
    await asyncio.to_thread(pair.standby.set, primary_conninfo="")
    async with asyncio.timeout(20):
        while await ask(pair.standby, "SELECT count(*) FROM pg_stat_wal_receiver"):
            await asyncio.sleep(0.02)
    safe = set(record.events)
    async with load(replicas, lost):
        await asyncio.sleep(LOAD_SECS)
        promoted_at = await asyncio.to_thread(pair.fail_over)
        await until_all_serve(lost, promoted_at)
        async with asyncio.timeout(SERVES_AGAIN_SECS):
            while lost.resets < len(lost.frames):
                await asyncio.sleep(0.05)
        await asyncio.sleep(LOAD_SECS)
    stored = set(await stored_on(pair.primary))
    assert safe <= stored
    assert lost.events - stored, "the standby lacked nothing: the test shows nothing"
    for replica in replicas:
        assert "log_replaced" in replica.log()
        assert "database_moved" in replica.log()
        assert record.revocations <= {entry["jti"] for entry in listed(replica)}


async def test_a_machine_that_vanishes(pair: Pair) -> None:
    """No packet comes back, and requests wait for it: they end, and the next go to the promoted standby."""
    async with Proxy(pair.primary.dsn()) as one, Proxy(pair.standby.dsn()) as two:
        ports = ",".join(str(urlsplit(proxy.dsn).port) for proxy in (one, two))
        dsn = f"postgresql://postgres@/cp?host=127.0.0.1,127.0.0.1&port={ports}&sslmode=disable"
        async with running_app(dsn) as app:
            assert await post(app) == 200
            one.stall()
            waiting = [asyncio.create_task(post(app)) for _ in range(20)]
            await asyncio.sleep(0.5)
            promoted_at = await asyncio.to_thread(pair.promote)
            assert set(await asyncio.gather(*waiting)) <= {200, 503}
            while await post(app) != 200:
                await asyncio.sleep(0.1)
            assert time.monotonic() - promoted_at < SERVES_AGAIN_SECS
            assert (await app.http.get("/api/readyz")).status_code == 200
            one.resume()  # a former primary that comes back is not asked again by anybody
            assert await post(app) == 200
            assert app.rt.db.in_use <= 2


async def post(app: App) -> int:
    return (await app.post("/api/events", [{"type": "demo.event"}])).status_code


async def test_a_commit_that_the_standby_does_not_confirm(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is answered 503 and stays invisible: tried again, it is not taken for stored before the standby has it."""
    monkeypatch.setattr(pool, "COMMIT_TIMEOUT_SECS", 0.5)
    event = {"type": "demo.doubted", "ts": time.time()}
    async with running_app(pair.dsn) as app:
        await asyncio.to_thread(pair.synchronise)
        await asyncio.to_thread(pair.standby.stop)
        assert (await app.post("/api/events", [event])).status_code == 503
        assert await ask(pair.primary, IN_DOUBT) == 0
        await asyncio.to_thread(pair.standby.start)
        async with asyncio.timeout(10):
            while (await app.post("/api/events", [event])).status_code != 200:
                await asyncio.sleep(0.1)
        assert await ask(pair.primary, IN_DOUBT) == 1


def listed(replica: Process) -> list[dict[str, str]]:
    entries: list[dict[str, str]] = httpx.get(replica.url + LIST).json()["revocation_list"]["entries"]
    return entries
