"""aitp-cp retention run."""

import asyncio

from rich.table import Table

from aitp_cp.cli import running
from aitp_cp.cli.database import failures_explained, opened
from aitp_cp.cli.exits import settings_or_stop
from aitp_cp.clock import now
from aitp_cp.db import Database
from aitp_cp.retention import service
from aitp_cp.settings import Settings
from aitp_cp_client.commands.output import err, notices, out
from aitp_cp_client.commands.progress import counting

# Counting on would take longer than it tells; the table shows such a count as "at least".
COUNT_LIMIT = 1_000_000
BUSY_PAUSE_SECS = 1.0

Counts = dict[str, int]


def run(*, dry_run: bool) -> None:
    """Sweep until nothing is due, one transaction per batch; a signal leaves whole batches behind."""
    with failures_explained():
        settings = settings_or_stop("tool")
        running.run(lambda ending: _run(settings, dry_run=dry_run))


async def _run(settings: Settings, *, dry_run: bool) -> None:
    async with opened(settings, max_size=2) as db:
        due = await _due(db, settings)
        gone = {} if dry_run else await _sweep_all(db, settings, due)
    _show(settings, due, None if dry_run else gone)


async def _due(db: Database, settings: Settings) -> Counts:
    async with db.connection() as conn:
        return await service.due(conn, settings, await service.moment(conn, now()), COUNT_LIMIT)


async def _sweep_all(db: Database, settings: Settings, due: Counts) -> Counts:
    total = dict.fromkeys(due, 0)
    with counting("sweeping") as progress:
        bar = progress.add_task("", total=sum(due.values()))
        while batch := await _sweep(db, settings):
            for table, rows in batch.items():
                total[table] += rows
            progress.update(bar, advance=sum(batch.values()))
    return total


async def _sweep(db: Database, settings: Settings) -> Counts:
    """One batch, waiting for whoever else is sweeping; empty when nothing was due."""
    while True:
        async with db.transaction() as conn:
            swept = await service.sweep(conn, settings, await service.moment(conn, now()))
        if swept is not None:
            return swept if any(swept.values()) else {}
        err.print("another process is sweeping; waiting for it")
        await asyncio.sleep(BUSY_PAUSE_SECS)


def _show(settings: Settings, due: Counts, gone: Counts | None) -> None:
    table = Table("table", "kept", "due")
    if gone is not None:
        table.add_column("deleted")
    for policy in service.POLICIES:
        rows = due[policy.table]
        cells = [f"≥ {rows}" if rows >= COUNT_LIMIT else str(rows)]
        if gone is not None:
            cells.append(str(gone[policy.table]))
        table.add_row(policy.table, _kept(settings, policy.days), *cells)
    (out if gone is None else notices).print(table)  # after a sweep, a failure to print must not fail the command


def _kept(settings: Settings, variable: str | None) -> str:
    if variable is None:
        return "until they expire"
    days: int = getattr(settings, variable)
    return f"{days} days" if days else "for ever"
