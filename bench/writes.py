"""Enrolment and ingest, and what the database takes without HTTP."""

import asyncio
import itertools
import json
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from uuid import uuid4

import asyncpg

from aitp_cp.clock import now
from aitp_cp.db import Database
from aitp_cp.ingest import service
from aitp_cp.protocol.reports import Report, Reporter, normalise
from bench.fleet import AGENTS, KEY, batches, manifests, report
from bench.load import HOST, Outcome, ask, drive, request
from bench.report import Row, Target, http_row
from bench.servers import Running

ENROLLING = 8
REVOKING = 32
WARMING = 100  # agents that are not measured: connections are opened and statements prepared for the first ones
SECONDS = 4.0


async def enrol(server: Running) -> tuple[list[str], Row]:
    """Enrol and register the fleet; its AIDs, and how fast that went."""
    fleet = await asyncio.to_thread(manifests, AGENTS)
    waiting = iter(fleet)
    await enrol_all(server.port, itertools.islice(waiting, WARMING), Outcome())
    outcome = Outcome()
    before, began = server.cpu_secs(), time.perf_counter()
    await enrol_all(server.port, waiting, outcome)
    outcome.seconds = time.perf_counter() - began
    spent = server.cpu_secs() - before
    return [aid for aid, _ in fleet], http_row("enrol + register", outcome, Target(rate=400), spent, unit="agents/s")


async def enrol_all(port: int, waiting: Iterator[tuple[str, bytes]], outcome: Outcome) -> None:
    await asyncio.gather(*(_enrol_some(port, waiting, outcome) for _ in range(ENROLLING)))


async def _enrol_some(port: int, waiting: Iterator[tuple[str, bytes]], outcome: Outcome) -> None:
    reader, writer = await asyncio.open_connection(HOST, port)
    for _, manifest in waiting:
        began = time.perf_counter()
        _, response = await ask(reader, writer, request("POST", "/api/registry/enroll", manifest))
        bearer = {"authorization": f"Bearer {json.loads(response)['token']}"}
        status, _ = await ask(reader, writer, request("POST", "/api/registry/agents", manifest, **bearer))
        outcome.latencies.append(time.perf_counter() - began)
        outcome.refused += status != 201
    writer.close()


@dataclass(frozen=True)
class Ingest:
    """Reports of `size` events over so many connections; `prepared` is what no machine finishes in the time."""

    what: str
    size: int
    connections: int
    prepared: int
    target: Target

    async def run(self, server: Running, aids: Sequence[str], limit_dsn: str) -> Row:
        warming, bodies = (batches(aids, self.size, count) for count in (self.prepared // 20, self.prepared))
        await drive(server.port, map(report, warming), connections=self.connections, seconds=SECONDS)
        before = server.cpu_secs()
        outcome = await drive(server.port, map(report, bodies), connections=self.connections, seconds=SECONDS)
        spent = server.cpu_secs() - before
        unit = "events/s" if self.size > 1 else "req/s"
        row = http_row(self.what, outcome, self.target, spent, unit=unit, times=self.size)
        return replace(row, limit=await self._limit(limit_dsn, bodies))

    async def _limit(self, dsn: str, bodies: Sequence[bytes]) -> float:
        """Events a second by the same statements, in groups of all that could be waiting at a moment."""
        reports = [one for body in bodies for one in normalise(body, Reporter("bench"), now(), uuid4).reports]
        group = self.size * self.connections
        async with _opened(dsn) as db:
            return await _store(db, [reports[at : at + group] for at in range(0, len(reports), group)])


async def revoke(server: Running) -> Row:
    """Revocations of tokens that nobody has reported, each a request and an answer of its own."""
    for _ in range(2):  # the first round opens connections and prepares statements
        before = server.cpu_secs()
        outcome = await drive(server.port, _revocations(), connections=REVOKING, seconds=SECONDS)
        spent = server.cpu_secs() - before
    what = f"`POST /api/revocation/entries`, one by one, {REVOKING} connections"
    return http_row(what, outcome, Target(rate=1500), spent, unit="req/s")


def _revocations() -> Iterator[bytes]:
    while True:
        body = json.dumps({"jti": str(uuid4()), "reason": "key compromised"}).encode()
        yield request("POST", "/api/revocation/entries", body, **KEY)


async def _store(db: Database, groups: Sequence[Sequence[Report]]) -> float:
    stored, began = 0, time.perf_counter()
    for group in groups:
        async with db.transaction() as conn:
            stored += len((await service.store_group(conn, group, now())).new)
        if time.perf_counter() - began > SECONDS:
            break
    return stored / (time.perf_counter() - began)


@asynccontextmanager
async def _opened(dsn: str) -> AsyncIterator[Database]:
    db = Database(dsn, max_size=1)
    await db.open()
    try:
        yield db
    finally:
        await db.close()


async def copy_agents(dsn: str, other: str) -> None:
    """The registry of one database into another, so that reports meet the same agents there."""
    source, goal = await asyncpg.connect(dsn), await asyncpg.connect(other)
    try:
        rows = await source.fetch("SELECT * FROM agents")
        await goal.copy_records_to_table("agents", records=rows, columns=list(rows[0].keys()))
    finally:
        await source.close()
        await goal.close()


INGEST = (
    Ingest("`POST /api/events`, 50 per batch, 8 connections", 50, 8, 1600, Target(rate=10_000, share=0.55)),
    Ingest("`POST /api/events`, one by one, 32 connections", 1, 32, 20_000, Target(rate=2500)),
)
