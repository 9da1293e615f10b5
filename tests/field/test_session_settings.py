"""What ALTER DATABASE and ALTER ROLE say changes no promise (rows 7, 13 and 18)."""

import asyncio
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from aitp_cp.db.connect import PINNED, connect
from aitp_cp.db.migrations import REVISIONS
from aitp_cp.db.migrations.run import upgrade
from tests.cli.support import GOOD, run, said, shell
from tests.support.app import App, running_app
from tests.support.postgres import with_database
from tests.support.process import free_port

pytestmark = pytest.mark.anyio

HOSTILE = {
    "default_transaction_isolation": "'serializable'",
    "default_transaction_deferrable": "on",
    "statement_timeout": "'1s'",
    "lock_timeout": "'1ms'",
    "idle_session_timeout": "'1s'",
    "transaction_timeout": "'1s'",
    "synchronous_commit": "off",
    "row_security": "on",
    "datestyle": "'SQL, DMY'",
    "intervalstyle": "'iso_8601'",
    "standard_conforming_strings": "off",
    "bytea_output": "'escape'",
    "extra_float_digits": "-15",
    "timezone": "'Asia/Kolkata'",
    "client_encoding": "'LATIN1'",
    "jit": "on",
}


async def alter(dsn: str, **settings: str) -> None:
    name = dsn.split("?")[0].rpartition("/")[2]
    conn = await asyncpg.connect(dsn)
    known = {row["name"] for row in await conn.fetch("SELECT name FROM pg_settings")}
    for setting in settings.keys() & known:  # `transaction_timeout` came with PostgreSQL 17
        await conn.execute(f"ALTER DATABASE {name} SET {setting} = {settings[setting]}")
    await conn.close()


async def test_serializable_by_default(empty_database_url: str) -> None:
    """Row 7: `default_transaction_isolation` serializable, 13 concurrent callers; everything is 2xx as always."""
    await alter(empty_database_url, **HOSTILE)
    assert await upgrade(empty_database_url) == list(REVISIONS)
    async with running_app(empty_database_url) as app:
        responses = await asyncio.gather(*(caller(app, number) for number in range(13)))
        assert {status for statuses in responses for status in statuses} <= {200, 201}
        history = (await app.get("/api/events/history", params={"type": "demo.event"})).json()
        assert len(history["events"]) == 13 * 4
        assert {event["payload"]["text"] for event in history["events"]} == {"名前 \\ ' \" é"}
        assert {event["ts"] for event in history["events"]} == {"2026-01-02T03:04:05.678Z"}


async def caller(app: App, number: int) -> list[int]:
    statuses = []
    for turn in range(4):
        event = {"type": "demo.event", "ts": "2026-01-02T03:04:05.678Z", "number": number, "turn": turn}
        response = await app.post("/api/events", [{**event, "text": "名前 \\ ' \" é"}])
        statuses.append(response.status_code)
        statuses.append((await app.post("/api/revocation/entries", {"jti": str(uuid4())})).status_code)
    return statuses


async def test_every_connection_is_pinned(database_url: str) -> None:
    """Row 7: pool, migration and check connect in one way; the database's own settings do not reach them."""
    await alter(database_url, **HOSTILE)
    conn = await connect(database_url)
    try:
        shown = {name: await conn.fetchval("SELECT current_setting($1, true)", name) for name in PINNED}
        same = {"15000": "15s", "5000": "5s"}
        known = {name for name, value in shown.items() if value is not None}
        assert shown.keys() - known <= {"transaction_timeout"}
        assert {name: shown[name] for name in known} == {name: same.get(PINNED[name], PINNED[name]) for name in known}
        assert await conn.fetchval("SHOW synchronous_commit") == "on"
    finally:
        await conn.close()
        await reset(database_url)


async def test_a_stronger_commit_stays(database_url: str) -> None:
    """Row 7: `synchronous_commit` is raised from off, and never lowered."""
    await alter(database_url, synchronous_commit="remote_apply")
    conn = await connect(database_url)
    try:
        assert await conn.fetchval("SHOW synchronous_commit") == "remote_apply"
    finally:
        await conn.close()
        await reset(database_url)


async def reset(dsn: str) -> None:
    conn = await asyncpg.connect(dsn)
    await conn.execute(f"ALTER DATABASE {dsn.split('?')[0].rpartition('/')[2]} RESET ALL")
    await conn.close()


async def test_a_policy_that_hides_rows_is_an_error(database_url: str) -> None:
    """Row 7: row-level security would leave entries out of the deny list without a word; now it is refused."""
    role = f"tenant_{uuid4().hex[:12]}"
    owner = await asyncpg.connect(database_url)
    await owner.execute(f"CREATE ROLE {role} LOGIN; GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}")
    await owner.execute(f"GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {role}")
    await owner.execute("ALTER TABLE revocation_entries ENABLE ROW LEVEL SECURITY")
    conn_dsn = database_url.replace("//postgres@", f"//{role}@")
    conn = await connect(conn_dsn)
    try:
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
            await conn.fetch("SELECT jti FROM revocation_entries")
        checked = await asyncio.to_thread(run, "check", **GOOD, DATABASE_URL=conn_dsn)
        assert "row-level security hides rows of revocation_entries" in said(checked)
    finally:
        await conn.close()
        await owner.execute("ALTER TABLE revocation_entries DISABLE ROW LEVEL SECURITY")
        await owner.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")
        await owner.close()


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_a_database_that_cannot_hold_every_text(empty_database_url: str, encoding: str) -> None:
    """Row 18: migrate and serve refuse what check fails for good, before the first change."""
    name = f"test_{uuid4().hex}"
    asyncio.run(
        execute(
            empty_database_url,
            f"CREATE DATABASE {name} ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0",
        )
    )
    dsn = with_database(empty_database_url, name)
    try:
        sentence = f"stores text as {encoding}, which cannot hold every event: create one with ENCODING 'UTF8'"
        checked, migrated = run("check", **GOOD, DATABASE_URL=dsn), run("migrate", DATABASE_URL=dsn)
        served = shell("serve", "--migrate", **GOOD, DATABASE_URL=dsn, HOST="127.0.0.1", PORT=str(free_port()))
        assert [done.returncode for done in (checked, migrated, served)] == [1, 3, 3]
        assert all(sentence in said(done) for done in (checked, migrated, served)), said(served)
        assert asyncio.run(execute(dsn, "SELECT 1 FROM pg_tables WHERE schemaname = 'public'")) == []
    finally:
        asyncio.run(execute(empty_database_url, f"DROP DATABASE {name} WITH (FORCE)"))


async def execute(dsn: str, statement: str) -> list[Any]:
    conn = await asyncpg.connect(dsn)
    try:
        return list(await conn.fetch(statement))
    finally:
        await conn.close()
