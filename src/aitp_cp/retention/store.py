"""Statements of the sweep: oldest first, a bounded number of rows, found through an index."""

from datetime import datetime

from aitp_cp.db import Connection
from aitp_cp.retention.model import Sweep

DELETE = """
DELETE FROM {table} WHERE ctid = ANY(ARRAY(
    SELECT ctid FROM {table} WHERE {column} < $1{only} ORDER BY {column} LIMIT $2 FOR UPDATE SKIP LOCKED
))
"""

# An older control plane that runs beside this one leaves no date: the grace begins when that is noticed.
DATE_THE_GONE = """
UPDATE agents SET deregistered_at = now() WHERE status = 'deregistered' AND deregistered_at IS NULL
"""

DATABASE_TIME = "SELECT now()"

COUNT_DUE = "SELECT count(*) FROM (SELECT 1 FROM {table} WHERE {column} < $1{only} LIMIT $2) AS due"

# Of the first rows of the log, which the next sweep looks at.
COUNT_DUE_EVENTS = """
SELECT count(*) FROM (SELECT created_at FROM audit_events ORDER BY seq LIMIT $2) AS first WHERE created_at < $1
"""


def delete_before(table: str, column: str, only: str = "") -> Sweep:
    """A sweep of one table by one time column; `only` is a further condition, beginning with AND."""
    statement = DELETE.format(table=table, column=column, only=only)

    async def sweep(conn: Connection, before: datetime, limit: int) -> int:
        done = await conn.execute(statement, before, limit)
        return int(done.rpartition(" ")[2])

    return sweep


def count_before(table: str, column: str, only: str = "") -> Sweep:
    """How many rows the next sweep would delete, at most `limit`."""
    statement = COUNT_DUE.format(table=table, column=column, only=only)

    async def count(conn: Connection, before: datetime, limit: int) -> int:
        return int(await conn.fetchval(statement, before, limit))

    return count


async def count_events(conn: Connection, before: datetime, limit: int) -> int:
    """How many events the next sweep would delete, at most `limit`."""
    return int(await conn.fetchval(COUNT_DUE_EVENTS, before, limit))


async def date_the_gone(conn: Connection) -> None:
    """Give agents that left without a date one."""
    await conn.execute(DATE_THE_GONE)


async def database_time(conn: Connection) -> datetime:
    theirs: datetime = await conn.fetchval(DATABASE_TIME)
    return theirs
