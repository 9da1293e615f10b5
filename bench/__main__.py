"""`make bench`: rates and latencies of the real command on an embedded Postgres, beside the limit of each.

The limit of an HTTP read is a bare ASGI application under the same server giving the same bytes. Results go to
`bench/results/<date>.json` with the facts of the machine.
"""

import asyncio
import json
import os
import platform
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import uvloop
from rich.console import Console
from rich.table import Table

from aitp_cp.db import embedded
from aitp_cp.db.migrations.run import upgrade
from bench import scenes
from bench.servers import Bare, serving

RESULTS = Path(__file__).with_name("results")


async def measure(dsn: str, folder: Path) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    with serving(dsn, folder / "server.log") as server:
        await scenes.prepare(server)
        for scene in scenes.SCENES:
            outcome, sample = await scene.run(server)
            limit = await scene.limit(Bare(folder / "bare.log"), sample) if scene.has_limit else None
            rows.append(scene.row(outcome, limit))
            show(rows[-1:])
    return rows


def show(rows: list[dict[str, object]]) -> None:
    table = Table("path", "rate/s", "p50 ms", "p99 ms", "refused", "limit/s", "of limit")
    for row in rows:
        table.add_row(*(str(row[name]) for name in ("path", "rate", "p50", "p99", "refused", "limit", "share")))
    Console(width=120).print(table)


def machine() -> dict[str, object]:
    return {"cpus": os.cpu_count(), "python": platform.python_version(), "system": platform.platform()}


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, embedded.start(Path(folder) / "pg") as server:
        asyncio.run(upgrade(server.dsn()))
        rows = uvloop.run(measure(server.dsn(), Path(folder)))
    show(rows)
    RESULTS.mkdir(exist_ok=True)
    now = datetime.now(UTC)
    path = RESULTS / f"{now:%Y-%m-%d}.json"
    path.write_text(json.dumps({"at": now.isoformat(), "machine": machine(), "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
