"""Bring a database to the newest revision: one process at a time, any number may ask."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncpg
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import StaticPool

from aitp_cp.db.migrations import SchemaAhead, needs_upgrade
from aitp_cp.db.schema import current_revision

__all__ = ["SchemaAhead", "upgrade"]

_MIGRATION_LOCK_KEY = 4694481020131148802
_POLL_SECONDS = 0.1
# A change of a table waits briefly for its lock, for everyone else queues behind it; then it is tried again.
_LOCK_ATTEMPTS = 20
_SESSION = (
    "SET application_name = 'aitp-cp migrate'",
    "SET lock_timeout = '3s'",
    "SET statement_timeout = 0",
    "SET idle_in_transaction_session_timeout = 0",
)
# lock_not_available, deadlock_detected
_BUSY = {"55P03", "40P01"}

Report = Callable[[str], None]


async def upgrade(dsn: str, *, on_step: Report | None = None) -> list[str]:
    """Apply the missing revisions and return them; `on_step` hears each step as it is done.

    Raises SchemaAhead if the database is newer than this code, and the driver's errors as they are.
    An interrupted run leaves nothing that the next one cannot finish.
    """
    conn = await asyncpg.connect(dsn)
    try:
        if not needs_upgrade(await current_revision(conn)):
            return []
        for statement in _SESSION:
            await conn.execute(statement)
        await _lock(conn)
        if not needs_upgrade(await current_revision(conn)):
            return []
        return await _apply(conn, on_step or (lambda step: None))
    except DBAPIError as wrapped:
        raise wrapped.driver_exception from None
    finally:
        await conn.close()


async def _lock(conn: asyncpg.Connection) -> None:
    """Wait for the migration lock, which the connection keeps until it closes.

    By polling: a blocked pg_advisory_lock() would hold a snapshot, CREATE INDEX CONCURRENTLY in the
    process that has the lock would wait for that snapshot, and both would wait for ever.
    """
    while True:
        if await conn.fetchval("SELECT pg_try_advisory_lock($1)", _MIGRATION_LOCK_KEY):
            return
        await asyncio.sleep(_POLL_SECONDS)


async def _apply(conn: asyncpg.Connection, report: Report) -> list[str]:
    async def the_connection() -> Any:
        return conn

    engine = create_async_engine("postgresql+asyncpg://", async_creator=the_connection, poolclass=StaticPool)
    applied: list[str] = []
    try:
        for attempt in range(1, _LOCK_ATTEMPTS):
            if await _attempt(engine, applied, report):
                return applied
            report("a table is busy, trying again")
            await asyncio.sleep(_POLL_SECONDS * attempt)
        async with engine.connect() as connection:
            await connection.run_sync(_upgrade, applied, report)
        return applied
    finally:
        await engine.dispose()


async def _attempt(engine: AsyncEngine, applied: list[str], report: Report) -> bool:
    """Whether all went well; False when a table was busy, so that trying again makes sense."""
    try:
        async with engine.connect() as connection:
            await connection.run_sync(_upgrade, applied, report)
    except (DBAPIError, asyncpg.PostgresError) as error:
        if not _is_busy(error):
            raise
        return False
    return True


def _upgrade(connection: Connection, applied: list[str], report: Report) -> None:
    def on_version_apply(*, step: Any, **_: Any) -> None:
        applied.append(step.up_revision_id)
        report(f"revision {step.up_revision_id}")

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.attributes.update(connection=connection, report=report, on_version_apply=on_version_apply)
    command.upgrade(config, "head")


def _is_busy(error: BaseException) -> bool:
    cause = error.orig if isinstance(error, DBAPIError) else error
    return getattr(cause, "sqlstate", None) in _BUSY
