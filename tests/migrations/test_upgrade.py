import asyncio
import importlib
import subprocess
import sys

import asyncpg
import pytest

from aitp_cp.db.migrations import HEAD, REVISIONS, SchemaAhead
from aitp_cp.db.migrations.run import upgrade
from aitp_cp.db.schema import current_revision
from tests.migrations import existing
from tests.migrations.introspect import describe

pytestmark = pytest.mark.anyio

EXTENDED = set(importlib.import_module("aitp_cp.db.migrations.versions.0001_baseline").EXTENDED_BY)

# Indexes that a longer one of the same operators begins with: the pair serves the same questions, and both cost every
# write.
PREFIXES = """
WITH indexes AS (
    SELECT indexrelid::regclass::text AS name, indrelid, indisunique, (
        SELECT string_agg(concat(key, ':', class, ' '), '' ORDER BY place)
        FROM ROWS FROM (unnest(indkey::int2[]), unnest(indclass::oid[])) WITH ORDINALITY AS part (key, class, place)
    ) AS columns
    FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid JOIN pg_am ON pg_am.oid = relam
    WHERE relnamespace = 'public'::regnamespace AND amname = 'btree' AND indpred IS NULL AND indexprs IS NULL
)
SELECT shorter.name || ' begins ' || longer.name AS pair
FROM indexes AS shorter JOIN indexes AS longer ON longer.indrelid = shorter.indrelid AND longer.name <> shorter.name
WHERE NOT shorter.indisunique AND starts_with(longer.columns, shorter.columns)
"""

MIGRATE = """
import asyncio, sys
from aitp_cp.db.migrations.run import upgrade
print(*asyncio.run(upgrade(sys.argv[1], on_step=lambda step: print("-", step, file=sys.stderr, flush=True))), sep="\\n")
"""


def migrate(dsn: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", MIGRATE, dsn]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


async def test_a_fresh_database_gets_everything(empty_database_url: str, conn: asyncpg.Connection) -> None:
    steps: list[str] = []
    assert await current_revision(conn) is None
    assert await upgrade(empty_database_url, on_step=steps.append) == list(REVISIONS)
    assert await current_revision(conn) == HEAD
    assert [step for step in steps if step.startswith("revision")] == [f"revision {name}" for name in REVISIONS]
    schema = await describe(conn)
    found = {(table, name): tuple(rest) for table, name, *rest in schema["columns"]}
    assert {(table, name): tuple(rest) for table, name, *rest in existing.FACTS["columns"]}.items() <= found.items()
    assert {row[1] for row in existing.FACTS["indexes"]} - EXTENDED <= {row[1] for row in schema["indexes"]}
    assert all(valid for *_, valid in schema["indexes"])


async def test_no_index_of_a_fresh_database_begins_another(empty_database_url: str, conn: asyncpg.Connection) -> None:
    await upgrade(empty_database_url)
    assert [row["pair"] for row in await conn.fetch(PREFIXES)] == []


async def test_a_second_run_changes_nothing(empty_database_url: str, conn: asyncpg.Connection) -> None:
    await upgrade(empty_database_url)
    before = await describe(conn)
    steps: list[str] = []
    assert await upgrade(empty_database_url, on_step=steps.append) == []
    assert steps == []
    assert await describe(conn) == before


async def test_revisions_can_be_repeated(empty_database_url: str, conn: asyncpg.Connection) -> None:
    await upgrade(empty_database_url)
    before = await describe(conn)
    await conn.execute("DELETE FROM aitp_cp_version")
    assert await upgrade(empty_database_url) == list(REVISIONS)
    assert await describe(conn) == before


async def test_a_newer_database_is_refused(empty_database_url: str, conn: asyncpg.Connection) -> None:
    await upgrade(empty_database_url)
    await conn.execute("UPDATE aitp_cp_version SET version_num = '9999_from_the_future'")
    await conn.execute("DROP INDEX sessions_newest_idx")
    before = await describe(conn)
    with pytest.raises(SchemaAhead):
        await upgrade(empty_database_url)
    assert await describe(conn) == before


async def test_five_processes_at_once(existing_url: str, conn: asyncpg.Connection) -> None:
    runs = [migrate(existing_url) for _ in range(5)]
    outputs = await asyncio.gather(*(asyncio.to_thread(run.communicate) for run in runs))
    assert [run.returncode for run in runs] == [0] * 5, outputs
    assert sorted(name for out, _ in outputs for name in out.split()) == list(REVISIONS)
    assert await current_revision(conn) == HEAD


async def test_an_index_that_was_interrupted_is_built_again(existing_url: str, conn: asyncpg.Connection) -> None:
    await upgrade(existing_url)
    before = await describe(conn)
    for name in ("audit_events_type_ts_idx", "audit_events_seq_key", "sessions_status_idx"):
        table, column = ("handshake_sessions", "status") if name.startswith("sessions") else ("audit_events", "type")
        await conn.execute(f"DROP INDEX {name}")
        await conn.execute(f"UPDATE {table} SET {column} = 'the same'")
        with pytest.raises(asyncpg.UniqueViolationError):
            await conn.execute(f"CREATE UNIQUE INDEX CONCURRENTLY {name} ON {table} ({column})")
    assert [row[1] for row in (await describe(conn))["indexes"] if not row[3]] != []
    await conn.execute("DELETE FROM aitp_cp_version")
    await upgrade(existing_url)
    assert await describe(conn) == before


async def test_a_run_that_was_killed_is_finished_by_the_next(existing_url: str, conn: asyncpg.Connection) -> None:
    await existing.add_events(conn, 25_000)
    run = migrate(existing_url)
    assert run.stderr is not None
    for line in run.stderr:
        if "events numbered" in line:
            break
    run.kill()
    run.communicate()
    assert await upgrade(existing_url) == list(REVISIONS[1:])
    assert await conn.fetchval("SELECT count(*) FROM audit_events WHERE seq IS NULL") == 0
    assert all(valid for *_, valid in (await describe(conn))["indexes"])


async def test_a_busy_table_is_tried_again(existing_url: str, conn: asyncpg.Connection) -> None:
    steps: list[str] = []
    release = asyncio.Event()

    def on_step(step: str) -> None:
        steps.append(step)
        if "busy" in step:
            release.set()

    async with conn.transaction():
        await conn.fetchval("SELECT count(*) FROM audit_events")
        run = asyncio.create_task(upgrade(existing_url, on_step=on_step))
        await asyncio.wait_for(release.wait(), timeout=30)
    assert await run == list(REVISIONS)
    assert "a table is busy, trying again" in steps
