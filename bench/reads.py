"""Reads over HTTP, each beside a bare ASGI application that gives the same bytes."""

import asyncio
import itertools
import json
import statistics
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote

from bench.fleet import KEY, RARE_CAPABILITY, events, report
from bench.load import HOST, Outcome, ask, drive, request
from bench.report import NOTHING, Row, Target, http_row
from bench.servers import Running, bare, serving

TURNS, SECONDS = 3, 0.7
WARMING_SECS = 0.3
REPORTS_PER_SEC, REPORTERS = 100, 8
COLD_READS = 5
COLD_SECS = 1.1


@dataclass(frozen=True)
class Read:
    """One row of the table: these paths in turn, over so many connections."""

    what: str
    paths: Sequence[str]
    target: Target = NOTHING
    connections: int = 32
    keyed: bool = False

    def requests(self) -> Iterator[bytes]:
        return itertools.cycle([request("GET", path, **(KEY if self.keyed else {})) for path in self.paths])

    async def run(self, server: Running, log: Path) -> Row:
        """Take turns with the limit, so that other load on the machine hits both."""
        outcome, limit, spent = Outcome(), Outcome(), 0.0
        with bare((await self._drive(server, WARMING_SECS)).body, log) as other:
            await self._drive(other, WARMING_SECS)
            for _ in range(TURNS):
                before = server.cpu_secs()
                outcome.add(await self._drive(server, SECONDS))
                spent += server.cpu_secs() - before
                limit.add(await self._drive(other, SECONDS))
        return replace(http_row(self.what, outcome, self.target, spent), limit=limit.rate)

    async def run_while_reporting(self, server: Running, aids: Sequence[str]) -> Row:
        """Take turns with the same read on an idle server, whose rate is the limit."""
        busy, idle, spent = Outcome(), Outcome(), 0.0
        await self._drive(server, WARMING_SECS)
        for _ in range(TURNS):
            idle.add(await self._drive(server, SECONDS))
            async with reporting(server.port, aids):
                before = server.cpu_secs()
                busy.add(await self._drive(server, SECONDS))
                spent += server.cpu_secs() - before
        what = f"{self.what}, while {REPORTS_PER_SEC} requests/s report events"
        return replace(http_row(what, busy, Target(share=0.70), spent), limit=idle.rate)

    async def _drive(self, server: Running, seconds: float) -> Outcome:
        return await drive(server.port, self.requests(), connections=self.connections, seconds=seconds)


@asynccontextmanager
async def reporting(port: int, aids: Sequence[str]) -> AsyncIterator[None]:
    """Report events one by one, at a steady rate over a few connections."""
    stream = (report(body) for body in map(_body, events(aids)))
    tasks = [asyncio.create_task(_report(port, stream)) for _ in range(REPORTERS)]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def _report(port: int, stream: Iterator[bytes]) -> None:
    reader, writer = await asyncio.open_connection(HOST, port)
    loop = asyncio.get_running_loop()
    due = loop.time()
    try:
        for body in stream:
            due += REPORTERS / REPORTS_PER_SEC
            await asyncio.sleep(due - loop.time())
            status, _ = await ask(reader, writer, body)
            assert status == 200
    finally:
        writer.close()


def _body(event: dict[str, object]) -> bytes:
    return json.dumps([event]).encode()


async def cold(server: Running) -> Row:
    """Read the overview more than a second after its last reader."""
    overview = request("GET", "/api/dashboard/overview", **KEY)
    millis = []
    for _ in range(COLD_READS):
        await asyncio.sleep(COLD_SECS)
        millis.append((await drive(server.port, iter([overview]), connections=1, seconds=60)).percentile(1))
    return Row("`GET /api/dashboard/overview`, cold, 1 M events", "ms", statistics.median(millis), Target(at_most=100))


def agents(aids: Sequence[str]) -> tuple[Read, ...]:
    """The reads of the registry, which come from memory where `REGISTRY_CACHE_MIB` allows it."""
    paths = [f"/api/registry/agents/{quote(aid, safe='')}" for aid in aids]
    return (
        Read("`GET /api/registry/agents/{aid}`", paths[:1], Target(share=0.50)),
        Read("the same, each of 1,000 agents in turn", paths, Target(share=0.40)),
        Read("`GET /api/registry/agents/{aid}/manifest`", [paths[0] + "/manifest"], Target(share=0.50)),
        Read(
            "`GET /api/registry/agents?capability=`, 5 of 1,000",
            [f"/api/registry/agents?capability={RARE_CAPABILITY}"],
            Target(share=0.40),
        ),
    )


def documents() -> tuple[Read, ...]:
    """What the control plane signs itself."""
    signed_list = "/.well-known/aitp-revocation-list"
    return (
        Read("`GET /.well-known/aitp-manifest`", ["/.well-known/aitp-manifest"], Target(share=0.50)),
        Read(f"`GET {signed_list}`, 1,000 entries", [signed_list], Target(share=0.50)),
    )


def others() -> tuple[Read, ...]:
    """Everything else that is read often."""
    page = {"target": Target(rate=1500), "connections": 8, "keyed": True}
    overview = "/api/dashboard/overview"
    return (
        Read("`GET /api/events/history`, 100 rows", ["/api/events/history?limit=100"], **page),
        Read("`GET /api/tcts`, 100 rows", ["/api/tcts?limit=100"], **page),
        Read("`GET /api/sessions`, 100 rows", ["/api/sessions?limit=100"], **page),
        Read("`GET /api/metrics`", ["/api/metrics"], Target(rate=3000), connections=8),
        Read("`GET /api/health`", ["/api/health"], Target(rate=3000)),
        Read(f"`GET {overview}`, 1 M events", [overview], Target(rate=500), connections=8, keyed=True),
    )


async def measure(dsn: str, log: Path, aids: Sequence[str]) -> AsyncIterator[Row]:
    """All rows: cold, from memory, the same while events are reported, and without the cache of the registry."""
    bare_log = log.with_name("bare.log")
    with serving(dsn, log) as server:
        yield await cold(server)
        cached = (*documents(), *agents(aids))
        for read in (*cached, *others()):
            yield await read.run(server, bare_log)
        for read in cached:
            yield await read.run_while_reporting(server, aids)
    with serving(dsn, log, REGISTRY_CACHE_MIB="0") as server:
        for read in agents(aids):
            yield await replace(read, what=f"{read.what}, uncached", target=NOTHING).run(server, bare_log)
