"""Statements on containments."""

from collections.abc import Mapping
from datetime import datetime
from uuid import UUID

import msgspec

from aitp_cp.containment.model import (
    ORDER,
    Act,
    ContainmentPage,
    ContainmentQuery,
    ContainmentView,
    Pending,
    Plan,
    Stored,
)
from aitp_cp.db import Connection, Record, Where, shown
from aitp_cp.db.keyset import Window
from aitp_cp.db.views import View

VIEW = View(ContainmentView, {"contained_at": shown("contained_at"), "released_at": shown("released_at")})
SHOWN = f"""{VIEW.sql}, plan::text AS plan, event_id, remaining, pending, listed_version, listed_at,
    half_confirmed_at, most_confirmed_at, contained_at AS act_at"""
STATE = set(Stored.__struct_fields__) - {"view", "plan"}

FIND = f"SELECT {SHOWN} FROM containments WHERE id = $1"
FIND_OPEN = f"SELECT {SHOWN} FROM containments WHERE aid = $1 AND released_at IS NULL"

# By the column, not by the text that is shown.
NEWEST_OPEN = f"""
SELECT {SHOWN} FROM containments WHERE released_at IS NULL ORDER BY containments.contained_at DESC, id DESC LIMIT $1
"""
CONFIRM = "UPDATE containments SET half_confirmed_at = $2, most_confirmed_at = $3 WHERE id = $1"

LIST = VIEW.page(ORDER.select("*", "containments"), ORDER.sql)

INSERT = """
INSERT INTO containments (id, aid, reason, ticket, held_delegations, include, contained_at, contained_by, event_id,
                          plan, plan_digest, remaining, pending, listed_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10::jsonb, $11, $12, $12 > 0, CASE WHEN $12 = 0 THEN $7::timestamptz END)
"""

RELEASE = "UPDATE containments SET released_at = $2, released_by = $3, release_reason = $4 WHERE id = $1"

FIRST_PENDING = """
SELECT id, aid, include, held_delegations FROM containments WHERE pending ORDER BY contained_at LIMIT 1
"""

# `listed_version` is the version of the list that holds everything.
ADVANCE = """
UPDATE containments
SET remaining = greatest(0, remaining - $2), pending = pending AND NOT $3,
    listed_at = CASE WHEN $3 THEN coalesce(listed_at, $4) END, listed_version = greatest(listed_version, $5)
WHERE id = $1
"""

# In key order, like every statement that locks rows.
COUNT_LATER = """
UPDATE containments SET later_listed = later_listed + listed, claimed_only = claimed_only + claimed
FROM (
    SELECT stored.id, listed, claimed
    FROM containments AS stored JOIN unnest($1::uuid[], $2::int[], $3::int[]) AS new (id, listed, claimed) USING (id)
    ORDER BY id FOR NO KEY UPDATE OF stored
) AS counted
WHERE containments.id = counted.id
"""


async def find(conn: Connection, id: UUID) -> Stored | None:
    row = await conn.fetchrow(FIND, id)
    return None if row is None else _stored(row)


async def find_open(conn: Connection, aid: str) -> Stored | None:
    """Return the containment of an agent that has not ended."""
    row = await conn.fetchrow(FIND_OPEN, aid)
    return None if row is None else _stored(row)


async def newest_open(conn: Connection, limit: int) -> list[Stored]:
    return [_stored(row) for row in await conn.fetch(NEWEST_OPEN, limit)]


async def confirm(conn: Connection, id: UUID, half: datetime | None, most: datetime | None) -> None:
    """Note when half and nearly all of a containment's peers were confirmed."""
    await conn.execute(CONFIRM, id, half, most)


async def page(conn: Connection, query: ContainmentQuery, window: Window) -> ContainmentPage:
    """Return one page, newest first."""
    where = Where()
    where.add("aid = {}", query.aid)
    where.add("(released_at IS NULL) = {}", query.open)
    page = await ORDER.fetch(conn, LIST, where, window)
    return ContainmentPage(VIEW.decode(VIEW.raw(page.rows)), page.next_before)


async def insert(conn: Connection, act: Act, now: datetime) -> None:
    body = act.body
    terms = body.reason, body.ticket, body.held_delegations, body.include
    plan = msgspec.json.encode(act.plan).decode()
    done = act.by, act.event_id, plan, act.plan.plan_digest, act.remaining
    await conn.execute(INSERT, act.id, act.aid, *terms, now, *done)


async def release(conn: Connection, id: UUID, by: str, reason: str, now: datetime) -> None:
    await conn.execute(RELEASE, id, now, by, reason)


async def first_pending(conn: Connection) -> Pending | None:
    """Return the oldest containment that is not done."""
    row = await conn.fetchrow(FIRST_PENDING)
    return None if row is None else Pending(**row)


async def advance(conn: Connection, id: UUID, revoked: int, version: int, now: datetime, *, done: bool) -> None:
    """Note that `revoked` more ids are in the list of `version`, and whether that was all."""
    await conn.execute(ADVANCE, id, revoked, done, now, version)


async def count_later(conn: Connection, counts: Mapping[UUID, tuple[int, int]]) -> None:
    """Count what was reported of contained agents: by containment, how much is listed and how much only claimed."""
    columns = [listed for listed, _ in counts.values()], [claimed for _, claimed in counts.values()]
    await conn.execute(COUNT_LATER, list(counts), *columns)


def _stored(row: Record) -> Stored:
    plan = msgspec.json.decode(row["plan"], type=Plan)
    return Stored(view=VIEW.read(row), plan=plan, **{column: row[column] for column in STATE})
