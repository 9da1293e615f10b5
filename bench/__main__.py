"""`make bench` and `make bench-growth`: the real command on an embedded Postgres, on this machine alone.

Each row stands beside its limit, measured in the same run. Results go to `bench/results/<date>.json` with the facts of
the machine, and with `--page` into `docs/performance.md`.
"""

import argparse
import asyncio
import tempfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import asyncpg
import uvloop
from rich.console import Console

from aitp_cp.db import embedded
from aitp_cp.db.migrations.run import upgrade
from bench import console, deliveries, growth, history, life, reads, report, streams, trust, writes
from bench.report import Row
from bench.servers import serving

PARTS = ("writes", "trust", "life", "reads", "console", "streams", "deliveries")
PAST = 1_000_000
REVOCATIONS = 1000


async def measure(server: embedded.Server, folder: Path, parts: set[str]) -> AsyncIterator[Row]:
    """The rows of these parts, in an order in which nothing disturbs what comes later."""
    dsn, log = server.dsn("control"), folder / "server.log"
    with serving(dsn, log) as process:
        aids, row = await writes.enrol(process)
        yield row
        if "writes" in parts:
            await writes.copy_agents(dsn, server.dsn("other"))
            for ingest in writes.INGEST:
                yield await ingest.run(process, aids, server.dsn("other"))
            yield await writes.revoke(process)
        if "trust" in parts:
            async for row in trust.measure(process, aids, dsn, folder):
                yield row
    await history.load(dsn, 0, PAST)
    await history.revoke(dsn, REVOCATIONS)
    if "life" in parts:
        for row in life.measure(dsn, log):
            yield row
    if "reads" in parts:
        async for row in reads.measure(dsn, log, aids):
            yield row
    if "console" in parts:
        async for row in console.measure(dsn, log, aids):
            yield row
    if "streams" in parts:
        yield await streams.fan_out(dsn, log)
        yield await streams.memory(dsn, log)
    if "deliveries" in parts:
        yield await deliveries.measure(dsn, log, aids)


async def bench(server: embedded.Server, folder: Path, parts: set[str], *, page: bool) -> None:
    rows = []
    async for row in measure(server, folder, parts):
        rows.append(row)
        Console(stderr=True).print("  ".join(filter(None, row.cells())), markup=False, highlight=False)
    report.show(rows)
    report.save("", {"rows": report.as_dicts(rows)})
    if page:
        report.write_page("bench", report.page(rows))


async def bench_growth(server: embedded.Server, folder: Path, sizes: Sequence[int], *, page: bool) -> None:
    measured = await growth.measure(server.dsn("control"), folder, sizes)
    growth.show(measured)
    growth.store(measured)
    if page:
        report.write_page("bench-growth", growth.page(measured))


async def prepare(server: embedded.Server) -> None:
    conn = await asyncpg.connect(server.dsn())
    for name in ("control", "other"):
        await conn.execute(f"CREATE DATABASE {name}")
        await upgrade(server.dsn(name))
    await conn.close()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("what", nargs="?", choices=("table", "growth"), default="table")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="parts of the table")
    parser.add_argument("--sizes", nargs="+", type=int, default=growth.SIZES, help="numbers of events for `growth`")
    parser.add_argument("--page", action="store_true", help="write the table into docs/performance.md too")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, embedded.start(Path(name) / "pg") as server:
        folder = Path(name)
        asyncio.run(prepare(server))
        if asked.what == "growth":
            uvloop.run(bench_growth(server, folder, asked.sizes, page=asked.page))
        else:
            uvloop.run(bench(server, folder, set(asked.only), page=asked.page))


if __name__ == "__main__":
    main()
