"""`python -m bench.reporter [--away MINUTES]`: what reporting costs an agent, and a control plane that is away.

The table: `report()` calls a second from one thread while a real control plane takes the events (at least 20,000),
the longest of these calls, and when all events were safe and sent. With `--away` the control plane is killed for that
long under steady load; afterwards its log must hold every event that was not dropped, once and in order.
"""

import argparse
import asyncio
import resource
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import asyncpg
from rich.console import Console
from rich.table import Table

from aitp_cp.db import embedded
from aitp_cp.db.migrations.run import upgrade
from aitp_cp_client import ControlPlane, Limits, ThreadReporter
from tests.support.app import API_KEY
from tests.support.process import Process

CALLS = 40_000
AWAY_RATE = 500  # events a second: more than 16 MiB in five minutes
MIB = 1024 * 1024
LIMITS = Limits(memory_bytes=16 * MIB, spool_bytes=256 * MIB)


def report(reporter: ThreadReporter, n: int, run_id: str) -> None:
    reporter.report("capability.invoked", run_id=run_id, grants=["demo.echo"], payload={"n": n, "tool": "echo"})


def rate(url: str, spool: Path | None) -> tuple[str, ...]:
    with ThreadReporter(url, API_KEY, spool=spool, limits=LIMITS) as reporter:
        began = last = time.perf_counter()
        longest = 0.0
        for n in range(CALLS):
            report(reporter, n, "rate")
            now = time.perf_counter()
            longest, last = max(longest, now - last), now
        called = last - began
        assert reporter.safe(60)
        safe = time.perf_counter() - began
        assert reporter.flush(120), reporter.counters
        sent = time.perf_counter() - began
        assert (reporter.counters.sent, reporter.counters.dropped) == (CALLS, 0), reporter.counters
    kind = "memory" if spool is None else "spool"
    return kind, f"{CALLS / called:,.0f}", f"{longest * 1000:.1f}", f"{safe:.2f}", f"{sent:.2f}"


def away(process: Process, minutes: float, spool: Path | None) -> tuple[str, ...]:
    """Report for so long into the void; return the row of what came of it."""
    process.kill()
    run_id = "away-memory" if spool is None else "away-spool"
    with ThreadReporter(process.url, API_KEY, spool=spool, limits=LIMITS) as reporter:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        began, n = time.monotonic(), 0
        while time.monotonic() - began < minutes * 60:
            for _ in range(AWAY_RATE // 10):
                report(reporter, n, run_id)
                n += 1
            time.sleep(0.1)
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        process.start()
        assert reporter.flush(300), reporter.counters
        counters = reporter.counters
    logged = asyncio.run(numbers(process.url, run_id))
    assert all(one < other for one, other in pairwise(logged)), "twice, or out of order"
    assert len(logged) + counters.dropped == n == counters.reported, counters
    return run_id, f"{n:,}", f"{counters.dropped:,}", f"{len(logged):,}", f"{counters.retries}", f"{grown:.1f}"


async def numbers(url: str, run_id: str) -> list[int]:
    async with ControlPlane(url, API_KEY) as control_plane:
        return [event.payload["n"] async for event in control_plane.events.log(run_id=run_id)]


async def prepare(server: embedded.Server) -> None:
    conn = await asyncpg.connect(server.dsn())
    await conn.execute("CREATE DATABASE control")
    await upgrade(server.dsn("control"))
    await conn.close()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.reporter", description=__doc__)
    parser.add_argument("--away", type=float, metavar="MINUTES")
    minutes = parser.parse_args().away
    with tempfile.TemporaryDirectory() as name, embedded.start(Path(name) / "pg") as server:
        folder = Path(name)
        asyncio.run(prepare(server))
        with Process(server.dsn("control"), folder / "log", LOG_LEVEL="error") as process:
            if minutes is None:
                table = Table("queue", "calls/s", "longest call ms", "safe after s", "sent after s")
                for spool in (None, folder / "spool"):
                    table.add_row(*rate(process.url, spool))
            else:
                table = Table("queue", "reported", "dropped", "stored", "retries", "memory grew by MiB")
                for spool in (None, folder / "spool"):
                    table.add_row(*away(process, minutes, spool))
        Console(width=120).print(table)


if __name__ == "__main__":
    main()
