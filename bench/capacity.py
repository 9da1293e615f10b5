"""`python -m bench.capacity [--check]`: the costs that `aitp-cp plan` computes with, and how far off it is.

Each cost is the difference that a steady load makes, at a rate that leaves the machine some air, because a process
that is always busy groups its work better than most processes ever do. The processes' CPU comes from /proc, that of
PostgreSQL from all its processes together.
"""

import argparse
import asyncio
import itertools
import sys
import tempfile
import time
from collections.abc import Awaitable, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import asyncpg

from aitp_cp.cli.capacity import MEASURED, Costs, Load, needs
from aitp_cp.db import embedded
from aitp_cp.db.migrations.run import upgrade
from bench import history, writes
from bench.fleet import KEY, batches, report
from bench.load import HOST, ask, request
from bench.servers import TICKS, Running, serving
from bench.streams import Arrivals, opened

SECONDS = 5.0
STREAM = request("GET", "/api/events/stream", **KEY)
STREAMS = 100
START_SECS = 12.0  # until a process that has just started is at rest
SETTLE_SECS = 2.0  # after a change of the signed list
LIST = "/.well-known/aitp-revocation-list"
TOLERANCE = 0.25
SIZE = "SELECT sum(pg_total_relation_size(oid)) FROM pg_class WHERE relname = ANY($1)"
LOG = ["audit_events"]
AGENTS = ["agents", "agent_manifests", "enrollment_jtis", "audit_events", "admin_audit_log"]
KEPT = ["handshake_sessions", "issued_tcts", "delegations"]


def database_cpu_secs(server: embedded.Server) -> float:
    """What PostgreSQL has used so far, ended sessions included."""
    total = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if stat.parent.name == str(server.pid):
            total += sum(int(field) for field in fields[11:15])
        elif fields[1] == str(server.pid):
            total += int(fields[11]) + int(fields[12])
    return total / TICKS


class Meter:
    """The cores that processes and PostgreSQL use while something runs."""

    def __init__(self, server: embedded.Server, *processes: Running) -> None:
        self._server = server
        self._processes = processes

    async def of(self, running: Awaitable[object] | None = None) -> tuple[list[float], float]:
        """Cores of each process, and of PostgreSQL, over the seconds that `running` takes."""
        before, began = self._read(), time.perf_counter()
        await (running or asyncio.sleep(SECONDS))
        after, secs = self._read(), time.perf_counter() - began
        each = [(last - first) / secs for first, last in zip(before[0], after[0], strict=True)]
        return each, (after[1] - before[1]) / secs

    def _read(self) -> tuple[list[float], float]:
        return [process.cpu_secs() for process in self._processes], database_cpu_secs(self._server)


async def steady(port: int, requests: Iterator[bytes], rate: float, secs: float = SECONDS) -> int:
    """Send requests at a rate over eight connections; return how many."""
    connections = [await asyncio.open_connection(HOST, port) for _ in range(8)]
    loop = asyncio.get_running_loop()
    began, sent = loop.time(), itertools.count()

    async def send(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> int:
        done = 0
        while (due := next(sent) / rate) < secs:
            await asyncio.sleep(began + due - loop.time())
            status, _ = await ask(reader, writer, next(requests))
            assert status < 300, status
            done += 1
        return done

    counts = await asyncio.gather(*(send(*connection) for connection in connections))
    for _, writer in connections:
        writer.close()
    return sum(counts)


async def measure(server: embedded.Server, dsn: str, folder: Path) -> Costs:
    """The costs on this machine; what is not measured here keeps its value."""
    with serving(dsn, folder / "a.log") as one, serving(dsn, folder / "b.log") as two:
        meter = Meter(server, one, two)
        await asyncio.sleep(START_SECS)
        (idle, _), idle_db = await meter.of()
        aids, registration, registration_db = await _registrations(server, one, idle_db)
        agents = await _bytes(dsn, AGENTS) / len(aids)
        await history.revoke(dsn, 1000)
        await asyncio.sleep(SETTLE_SECS)

        async def cost(requests: Iterator[bytes], rate: float) -> tuple[float, float, float]:
            """Seconds per request in the process asked, in PostgreSQL, and in the other process."""
            (own, other), database = await meter.of(steady(one.port, requests, rate))
            return (own - idle) / rate, (database - idle_db) / rate, (other - idle) / rate

        single, single_db, _ = await cost(map(report, batches(aids, 1, 2000)), 200)
        sizes = await _sizes(dsn)
        batch, batch_db, follow = await cost(map(report, batches(aids, 50, 200)), 30)
        grown = [(after - before) / (30 * SECONDS * 50) for before, after in zip(sizes, await _sizes(dsn), strict=True)]
        event, event_db = (batch - single) / 49, (batch_db - single_db) / 49
        poll, _, _ = await cost(itertools.repeat(request("GET", LIST)), 500)
        read, read_db, _ = await cost(itertools.repeat(request("GET", "/api/events/history?limit=100", **KEY)), 100)
        async with opened(one, [STREAM] * STREAMS, Arrivals()):
            (own, _), _ = await meter.of(steady(one.port, map(report, batches(aids, 1, 2000)), 50))
            alone = (own - idle - 50 * single) / 50 / STREAMS
            (own, _), _ = await meter.of(steady(one.port, map(report, batches(aids, 50, 200)), 10))
            together = (own - idle - 10 * batch) / 10 / STREAMS
        frame = (together - alone) / 49
    return replace(
        MEASURED,
        idle=idle,
        idle_db=idle_db / 2,
        request=single - event,
        request_db=single_db - event_db,
        event=event,
        event_db=event_db,
        follow=follow / 50,
        wake=alone - frame,
        frame=frame,
        poll=poll - 71_450 * MEASURED.poll_byte,
        registration=registration,
        registration_db=registration_db,
        agent_bytes=agents,
        read=read,
        read_db=read_db,
        event_bytes=grown[0],
        kept_bytes=grown[1],
        wal_bytes=grown[2],
    )


async def _registrations(server: embedded.Server, process: Running, idle_db: float) -> tuple[list[str], float, float]:
    """Enrol the fleet; return its AIDs and what each agent cost."""
    before, began = database_cpu_secs(server), time.perf_counter()
    aids, row = await writes.enrol(process)
    spent = database_cpu_secs(server) - before - idle_db * (time.perf_counter() - began)
    return aids, (row.cpu_us or 0) / 1e6, spent / len(aids)


async def _sizes(dsn: str) -> list[float]:
    conn = await asyncpg.connect(dsn)
    try:
        wal = await conn.fetchval("SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')")
    finally:
        await conn.close()
    return [await _bytes(dsn, LOG), await _bytes(dsn, KEPT), float(wal)]


async def _bytes(dsn: str, tables: list[str]) -> float:
    conn = await asyncpg.connect(dsn)
    try:
        return float(await conn.fetchval(SIZE, tables))
    finally:
        await conn.close()


# One point in the middle of what two cores carry, everything at once.
POINT = Load(
    agents=1000, events_per_second=1000, tokens_share=0, streams=20, polling_peers=6000, reads_per_second=50, replicas=2
)


async def check(server: embedded.Server, dsn: str, folder: Path, costs: Costs) -> float:
    """Run `POINT` against two processes; return by how much the model is off, as a share of what was used."""
    load = POINT
    with serving(dsn, folder / "c.log") as one, serving(dsn, folder / "d.log") as two:
        aids, _ = await writes.enrol(one)
        async with AsyncExitStack() as stack:
            for process in (one, two):
                await stack.enter_async_context(opened(process, [STREAM] * (load.streams // 2), Arrivals()))
            await asyncio.sleep(SETTLE_SECS)
            halves = [process.port for process in (one, two)]
            running = asyncio.gather(*(_half(port, aids, load) for port in halves))
            each, database = await Meter(server, one, two).of(running)
    expected = needs(replace(load, agents=0), costs)
    used, model = sum(each) + database, expected.process_cores + expected.database_cores
    print(f"processes: {sum(each):.3f} cores used, {expected.process_cores:.3f} computed")
    print(f"PostgreSQL: {database:.3f} cores used, {expected.database_cores:.3f} computed")
    print(f"together: {used:.3f} used, {model:.3f} computed, {model / used - 1:+.0%}")
    return abs(model / used - 1)


async def _half(port: int, aids: Sequence[str], load: Load) -> None:
    """Half of the load, on one process."""
    secs = 2 * SECONDS
    events = load.events_per_second / load.batch / 2
    polls, reads = load.polling_peers / load.poll_secs / 2, load.reads_per_second / 2
    page = request("GET", "/api/events/history?limit=100", **KEY)
    await asyncio.gather(
        steady(port, map(report, batches(aids, load.batch, int(events * secs) + 20)), events, secs),
        steady(port, itertools.repeat(request("GET", LIST)), polls, secs),
        steady(port, itertools.repeat(page), reads, secs),
    )


async def main(*, checks: bool) -> int:
    with tempfile.TemporaryDirectory() as name, embedded.start(Path(name) / "pg") as server:
        dsn = server.dsn("capacity")
        conn = await asyncpg.connect(server.dsn())
        await conn.execute("CREATE DATABASE capacity")
        await conn.close()
        await upgrade(dsn)
        costs = await measure(server, dsn, Path(name))
        for field, value in vars(costs).items():
            print(f"{field}: {value:.3g}")
        return int(checks and await check(server, dsn, Path(name), costs) > TOLERANCE)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.capacity", description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare the model with one synthetic load")
    sys.exit(asyncio.run(main(checks=parser.parse_args().check)))
