"""Bring a database to the newest revision: any number of processes may try, one at a time works."""

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import StaticPool

from aitp_cp.db import numbering
from aitp_cp.db.connect import connect
from aitp_cp.db.fitness import unfit
from aitp_cp.db.locks import MIGRATION
from aitp_cp.db.migrations import REVISIONS, CannotMigrate, SchemaAhead, needs_upgrade
from aitp_cp.db.migrations.adoption import obstacle
from aitp_cp.db.migrations.waiting import REPORT_AFTER_SECS, Report, other_migration, watched
from aitp_cp.db.schema import OLD_VERSION_TABLE, VERSION_TABLE, current_revision

__all__ = ["CannotMigrate", "SchemaAhead", "upgrade"]

_POLL_SECONDS = 0.1
_REPORT_EVERY_SECONDS = 30.0
# A change of a table waits briefly for its lock, because all other sessions queue behind it; then it is retried.
_LOCK_ATTEMPTS = 20
_SESSION = {"lock_timeout": "3s", "statement_timeout": "0", "idle_in_transaction_session_timeout": "0"}
# Nothing further down the search path is read, created or changed.
_THIS_SCHEMA_ONLY = "SELECT set_config('search_path', quote_ident(current_schema()), false)"
# As Alembic makes it, with the revision that an older version kept under another name.
_ADOPT_VERSION = (
    f"""
    CREATE TABLE IF NOT EXISTS {VERSION_TABLE} (
        version_num varchar(32) NOT NULL, CONSTRAINT {VERSION_TABLE}_pkc PRIMARY KEY (version_num)
    )
    """,
    f"INSERT INTO {VERSION_TABLE} (version_num) SELECT $1 WHERE NOT EXISTS (SELECT 1 FROM {VERSION_TABLE})",
)
_HAS_VERSION = f"SELECT to_regclass(quote_ident(current_schema()) || '.{VERSION_TABLE}') IS NOT NULL"
# Replicas of the previous version read this table to see whether they are still ready.
_HAS_OLD_VERSION = f"SELECT 1 WHERE to_regclass('{OLD_VERSION_TABLE}') IS NOT NULL"
_UPDATE_OLD_VERSION = f"UPDATE {OLD_VERSION_TABLE} SET version_num = $1 WHERE version_num = ANY($2::text[])"
# lock_not_available, deadlock_detected
_BUSY = {"55P03", "40P01"}


@dataclass(frozen=True, slots=True)
class _Run:
    applied: list[str]
    report: Report
    has_old_version: bool


async def upgrade(dsn: str, *, on_step: Report | None = None) -> list[str]:
    """Apply the missing revisions and return them; `on_step` is called after each step.

    Also repairs the log's sequence. Raises `SchemaAhead` if the database is newer than this code, `CannotMigrate`
    before the first change, and the driver's errors as they are. The next run finishes an interrupted one.
    """
    report = on_step or (lambda step: None)
    if reason := await unfit(dsn):
        raise CannotMigrate(reason)
    conn = await connect(dsn, application_name="aitp-cp migrate", session=_SESSION)
    try:
        current = await current_revision(conn)
        if needs_upgrade(current) or not await conn.fetchval(_HAS_VERSION):
            applied = await _upgrade_locked(dsn, conn, report)
        else:
            applied = []
    except DBAPIError as wrapped:
        raise wrapped.driver_exception from None
    finally:
        await conn.close()
    await _repair_sequence(dsn, report)
    return applied


async def _upgrade_locked(dsn: str, conn: asyncpg.Connection, report: Report) -> list[str]:
    if reason := await obstacle(conn):
        raise CannotMigrate(reason)
    await conn.execute(_THIS_SCHEMA_ONLY)
    await _lock(conn, report)
    async with watched(dsn, conn.get_server_pid(), report):
        current = await current_revision(conn)
        if current is not None:
            await conn.execute(_ADOPT_VERSION[0])
            await conn.execute(_ADOPT_VERSION[1], current)
        return await _apply(conn, report) if needs_upgrade(current) else []


async def _repair_sequence(dsn: str, report: Report) -> None:
    conn = await connect(dsn, application_name="aitp-cp migrate")
    try:
        repaired = await numbering.repair(conn)
    except numbering.RepairRefused:
        raise CannotMigrate(numbering.BEHIND_AND_REFUSED) from None
    finally:
        await conn.close()
    if repaired:
        report(f"the log's sequence stood at {repaired.next}, the log ends at {repaired.log_end}: set right")


async def _lock(conn: asyncpg.Connection, report: Report) -> None:
    """Wait for the migration lock, which the connection keeps until it closes.

    By polling: a blocked pg_advisory_lock() would hold a snapshot, CREATE INDEX CONCURRENTLY in the process that has
    the lock would wait for that snapshot, and neither would ever go on.
    """
    report_at = asyncio.get_running_loop().time() + REPORT_AFTER_SECS
    while not await conn.fetchval("SELECT pg_try_advisory_lock($1)", MIGRATION.key):
        if asyncio.get_running_loop().time() >= report_at:
            report(await other_migration(conn))
            report_at += _REPORT_EVERY_SECONDS
        await asyncio.sleep(_POLL_SECONDS)


async def _apply(conn: asyncpg.Connection, report: Report) -> list[str]:
    async def the_connection() -> Any:
        return conn

    engine = create_async_engine("postgresql+asyncpg://", async_creator=the_connection, poolclass=StaticPool)
    run = _Run([], report, await conn.fetchval(_HAS_OLD_VERSION) is not None)
    attempt = 1
    try:
        while not await _attempt(engine, run, is_last=attempt == _LOCK_ATTEMPTS):
            report("a table is busy, trying again")
            await asyncio.sleep(_POLL_SECONDS * attempt)
            attempt += 1
    finally:
        await engine.dispose()
    return run.applied


async def _attempt(engine: AsyncEngine, run: _Run, *, is_last: bool) -> bool:
    """Return False when a table was busy, so that trying again makes sense."""
    try:
        async with engine.connect() as connection:
            await connection.run_sync(_upgrade, run)
    except (DBAPIError, asyncpg.PostgresError) as error:
        if is_last or not _is_busy(error):
            raise
        return False
    return True


def _upgrade(connection: Connection, run: _Run) -> None:
    def on_version_apply(*, step: Any, **_: Any) -> None:
        run.applied.append(step.up_revision_id)
        if run.has_old_version:
            connection.exec_driver_sql(_UPDATE_OLD_VERSION, (step.up_revision_id, list(REVISIONS)))
        run.report(f"revision {step.up_revision_id}")

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.attributes.update(connection=connection, report=run.report, on_version_apply=on_version_apply)
    command.upgrade(config, "head")


def _is_busy(error: BaseException) -> bool:
    cause = error.orig if isinstance(error, DBAPIError) else error
    return getattr(cause, "sqlstate", None) in _BUSY
