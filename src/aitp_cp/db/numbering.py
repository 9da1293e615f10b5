"""Positions in the log: those that older rows lack, and the sequence, compared with the log and repaired.

A restore of single tables, or a setval by hand, can leave the sequence behind the rows. Then events would be refused
as duplicates of a position, or get positions that every follower has passed.
"""

from typing import NamedTuple

import asyncpg

from aitp_cp.db.locks import LOG, lock
from aitp_cp.db.pool import Connection

# The last value is null before the first use, also after setval(…, false): then the next one is taken to be 1.
_READ = """
SELECT coalesce(pg_sequence_last_value('audit_events_seq'::regclass), 0) + 1,
       greatest(
           (SELECT max(seq) FROM audit_events), (SELECT max(deleted_through) FROM log_horizon), 0
       )
"""
_SET = "SELECT setval('audit_events_seq', $1)"
# SKIP LOCKED: the holder of the log lock must not wait for a row that retention is deleting.
_NUMBER_UNSEQUENCED = """
WITH oldest AS MATERIALIZED (
    SELECT id FROM audit_events WHERE seq IS NULL ORDER BY ts, id LIMIT $1 FOR UPDATE SKIP LOCKED
), numbered AS MATERIALIZED (
    SELECT id, nextval('audit_events_seq') AS seq FROM oldest
), adopted AS (
    UPDATE audit_events SET seq = numbered.seq{mark} FROM numbered WHERE audit_events.id = numbered.id RETURNING 1
)
SELECT count(*) FROM adopted
"""

BEHIND_AND_REFUSED = (
    "the sequence audit_events_seq is behind the log, and the role may not set it: run `aitp-cp migrate` as the role "
    "that owns it"
)


class Numbering(NamedTuple):
    """The next position, and the highest one used so far, deleted rows included."""

    next: int
    log_end: int

    @property
    def behind(self) -> bool:
        return self.next <= self.log_end


class RepairRefused(Exception):
    """The role may not set the sequence; `aitp-cp migrate`, run by its owner, may."""


async def read(conn: Connection) -> Numbering:
    row = await conn.fetchrow(_READ)
    assert row is not None
    return Numbering(row[0], row[1])


async def repair(conn: Connection) -> Numbering | None:
    """Set the sequence to the end of the log if it is behind; return what it was then, else None.

    Needs UPDATE on the sequence; raises `RepairRefused` without it.
    """
    if not (await read(conn)).behind:
        return None
    try:
        async with conn.transaction():
            await lock(conn, LOG)
            numbering = await read(conn)  # another replica may have been first
            if not numbering.behind:
                return None
            await conn.fetchval(_SET, numbering.log_end)
    except asyncpg.InsufficientPrivilegeError as refused:
        raise RepairRefused from refused
    return numbering


async def number_unsequenced(conn: Connection, limit: int, *, adopt: bool) -> int:
    """Give the next log positions to at most `limit` events without one, oldest first; return how many.

    `adopt` marks them, which needs the current schema: an older control plane has delivered them.
    """
    statement = _NUMBER_UNSEQUENCED.format(mark=", adopted = true" if adopt else "")
    async with conn.transaction():
        await lock(conn, LOG)
        return int(await conn.fetchval(statement, limit))
