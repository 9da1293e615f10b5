"""A migration that cannot go on says what it waits for, and for whom (row 21)."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest

from aitp_cp.cli.migrate import _say
from aitp_cp.db.locks import MIGRATION
from aitp_cp.db.migrations import REVISIONS
from aitp_cp.db.migrations.run import upgrade

pytestmark = pytest.mark.anyio

SOON_SECS = 10.0  # two seconds, on a machine that is busy


class Said:
    def __init__(self) -> None:
        self.lines: list[str] = []

    async def until(self, *parts: str) -> str:
        async with asyncio.timeout(SOON_SECS):
            while True:
                for line in self.lines:
                    if all(part in line for part in parts):
                        return line
                await asyncio.sleep(0.05)


@asynccontextmanager
async def session(dsn: str, name: str) -> AsyncIterator[asyncpg.Connection]:
    conn = await asyncpg.connect(dsn, server_settings={"application_name": name})
    try:
        yield conn
    finally:
        await conn.close()


async def test_an_old_open_transaction(empty_database_url: str) -> None:
    """Row 21: an index build waits for a transaction that touches nothing of ours; pid and application are said."""
    said = Said()
    async with session(empty_database_url, "nightly report") as old:
        transaction = old.transaction(isolation="repeatable_read")
        await transaction.start()
        await old.fetchval("SELECT count(*) FROM pg_class")
        run = asyncio.create_task(upgrade(empty_database_url, on_step=said.lines.append))
        line = await said.until("waiting for process", str(old.get_server_pid()), "nightly report")
        assert "idle in transaction" in line
        assert "since 20" in line
        assert not run.done()
        await transaction.rollback()
        assert await run == list(REVISIONS)


async def test_a_lock_on_a_table(empty_database_url: str) -> None:
    """Row 21: somebody holds a table that a revision changes; the table is named too."""
    said = Said()
    await upgrade(empty_database_url)
    async with session(empty_database_url, "a console") as other:
        await other.execute("UPDATE aitp_cp_version SET version_num = '0001_baseline'")
        async with other.transaction():
            await other.execute("LOCK TABLE audit_events IN ACCESS EXCLUSIVE MODE")
            run = asyncio.create_task(upgrade(empty_database_url, on_step=said.lines.append))
            await said.until("a console", str(other.get_server_pid()), "holds audit_events")
        assert await run == list(REVISIONS[1:])


async def test_another_migration(empty_database_url: str) -> None:
    """Row 21: a second migration names the session that has the migration lock."""
    said = Said()
    async with session(empty_database_url, "aitp-cp migrate") as first:
        await first.execute("SELECT pg_advisory_lock($1)", MIGRATION.key)
        run = asyncio.create_task(upgrade(empty_database_url, on_step=said.lines.append))
        await said.until("waiting for another migration", str(first.get_server_pid()), "aitp-cp migrate", "since 20")
        await first.execute("SELECT pg_advisory_unlock($1)", MIGRATION.key)
        assert await run == list(REVISIONS)


async def test_what_is_said_is_one_line_of_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    """Row 21: `serve --migrate` cut it at 80 columns, so that a search for the process found half of it."""
    _say("waiting for process 4711 " + "(application nightly report, role reports) " * 4)
    assert capsys.readouterr().out.count("\n") == 1


async def test_nothing_is_said_when_nothing_waits(empty_database_url: str) -> None:
    """Row 21: a migration that goes on does not talk of waiting."""
    said = Said()
    await upgrade(empty_database_url, on_step=said.lines.append)
    assert [line for line in said.lines if line.startswith("waiting")] == []
