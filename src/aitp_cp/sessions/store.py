"""Statements on handshake_sessions."""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec

from aitp_cp.db import Connection, Record, Where, shown
from aitp_cp.db.either_side import EitherSide
from aitp_cp.db.keyset import Place, Window
from aitp_cp.db.views import Json, View
from aitp_cp.events.projection import StoredParties, Thing
from aitp_cp.sessions.model import (
    ORDER,
    RANK,
    Failed,
    LastSession,
    Peer,
    SessionChange,
    SessionCount,
    SessionFilter,
    SessionList,
    SessionView,
    Status,
)
from aitp_cp.tcts.callers import Row
from aitp_cp.tcts.queries import RawPage
from aitp_cp.tcts.rows import Table, as_json, as_names

SESSION = "session"  # the kind of a `Thing` here


def _values(change: SessionChange) -> Sequence[Any]:
    return (
        change.session_id,
        change.status,
        change.aid_a,
        change.aid_b,
        as_json(change.grants),
        change.run_id,
        change.boundary,
        change.error,
        change.started_at,
        change.completed_at,
    )


def _state(row: Record) -> SessionChange:
    grants = as_names(row["grants"])
    return SessionChange(
        session_id=row["session_id"],
        # An older control plane may have left others; a report of any end replaces them.
        status=Status(row["status"]) if row["status"] in RANK else Status.STARTED,
        aid_a=row["aid_a"],
        aid_b=row["aid_b"],
        grants=grants,
        run_id=row["run_id"],
        boundary=row["boundary"],
        error=row["error"],
        started_at=row["started_at"],
        completed_at=row["completed_at"],
        claimed=bool(grants),
    )


SESSIONS = Table[str, SessionChange](
    name="handshake_sessions",
    columns={
        "session_id": "text",
        "status": "text",
        "aid_a": "text",
        "aid_b": "text",
        "grants": "jsonb",
        "run_id": "text",
        "boundary": "text",
        "error": "text",
        "started_at": "timestamptz",
        "completed_at": "timestamptz",
    },
    values=_values,
    state=_state,
    decoder=msgspec.json.Decoder(Row[SessionChange]),
    has_updated_at=True,
)

COLUMNS = """session_id, aid_a, aid_b, status, grants, run_id, boundary, error, started_at, completed_at, created_at,
    updated_at, conflict"""

# A handshake took place when its reports say, but not after they came in: clocks that are ahead are not believed.
HAPPENED_AT = "LEAST(created_at, coalesce(started_at, completed_at))"

# Reporters choose the text of an error; an index holds its beginning.
ERROR_CHARACTERS = 100
ERROR_KEY = f"left(error, {ERROR_CHARACTERS})"

MAX_COUNTED = 100_000

_TIMES = {name: shown(name) for name in ("started_at", "completed_at", "created_at", "updated_at")}
VIEW = View(SessionView, {**_TIMES, "conflict": "coalesce(conflict, false)"}, arrays=("grants",))

SIDES = "SELECT session_id, aid_a, aid_b, reported_by FROM handshake_sessions WHERE session_id = ANY($1::text[])"

FIND = f"SELECT {VIEW.sql} FROM handshake_sessions WHERE session_id = $1"

LIST = VIEW.page(ORDER.select(COLUMNS, "handshake_sessions"), ORDER.sql)
LIST_OF_AID = EitherSide(VIEW, f"SELECT {COLUMNS} FROM handshake_sessions", ("aid_a", "aid_b"), ORDER)

# The first condition is what the index serves; the second follows from it but for reports that came in late.
COUNT_SINCE = f"""
SELECT status, boundary, date_bin($2, LEAST({HAPPENED_AT}, '9999-12-31'), 'epoch'::timestamptz) AS bucket,
       count(*) AS count
FROM handshake_sessions
WHERE created_at >= $1 AND {HAPPENED_AT} >= $1
GROUP BY 1, 2, 3
"""

# Exact for a small table, the planner's estimate for a large one.
ESTIMATE = """
SELECT CASE WHEN reltuples < $1 THEN (SELECT count(*) FROM (SELECT 1 FROM handshake_sessions LIMIT $2) AS sample)
            ELSE reltuples END::bigint
FROM pg_class WHERE oid = 'handshake_sessions'::regclass
"""

# Of each agent by itself: two look-ups in an index.
NEWEST_OF = f"""
SELECT DISTINCT ON (aid) aid, CASE WHEN aid_a = aid THEN aid_b ELSE aid_a END AS peer, status, happened_at
FROM unnest($1::text[]) AS of (aid), LATERAL (
    (SELECT aid_a, aid_b, status, created_at, {HAPPENED_AT} AS happened_at FROM handshake_sessions
     WHERE aid_a = aid ORDER BY created_at DESC LIMIT 1)
    UNION ALL
    (SELECT aid_a, aid_b, status, created_at, {HAPPENED_AT} FROM handshake_sessions
     WHERE aid_b = aid ORDER BY created_at DESC LIMIT 1)
) AS either
ORDER BY aid, created_at DESC
"""

# Among the newest sessions of either side: a busy agent has millions.
PEERS = f"""
SELECT peer AS aid, max(happened_at) AS last_at, count(*) FILTER (WHERE status = 'complete') AS complete,
       count(*) FILTER (WHERE status = 'failed') AS failed
FROM (
    (SELECT aid_b AS peer, status, {HAPPENED_AT} AS happened_at FROM handshake_sessions
     WHERE aid_a = $1 ORDER BY created_at DESC LIMIT $2)
    UNION ALL
    (SELECT aid_a, status, {HAPPENED_AT} FROM handshake_sessions
     WHERE aid_b = $1 ORDER BY created_at DESC LIMIT $2)
) AS newest
WHERE peer <> $1 AND ($3::text[] IS NULL OR peer = ANY($3::text[]))
GROUP BY peer
ORDER BY last_at DESC, peer
LIMIT $4
"""

# Counted up to a limit; the agent that took part in most of the newest failures shows where to look.
FAILED = f"""
WITH newest AS MATERIALIZED (
    SELECT aid_a, aid_b FROM handshake_sessions WHERE status = 'failed' AND created_at >= $1
    ORDER BY created_at DESC LIMIT 1000
), most AS (
    SELECT aid, count(*) AS count FROM (SELECT aid_a AS aid FROM newest UNION ALL SELECT aid_b FROM newest) AS sides
    WHERE aid IS NOT NULL GROUP BY aid ORDER BY count DESC, aid LIMIT 1
)
SELECT (SELECT count(*) FROM (SELECT 1 FROM handshake_sessions WHERE status = 'failed' AND created_at >= $1
                              LIMIT {MAX_COUNTED}) AS hour) AS hour,
       (SELECT count(*) FROM (SELECT 1 FROM handshake_sessions WHERE status = 'failed' AND created_at >= $2
                              LIMIT {MAX_COUNTED}) AS day) AS day,
       (SELECT count(*) FROM newest) AS newest, (SELECT aid FROM most) AS aid, (SELECT count FROM most) AS of_aid
"""


async def stored_parties(conn: Connection, things: Collection[Thing]) -> dict[Thing, StoredParties]:
    """Return the sides of those of the sessions that are known."""
    session_ids = [key for kind, key in things if kind == SESSION]
    rows = await conn.fetch(SIDES, session_ids) if session_ids else []
    return {
        (SESSION, row["session_id"]): StoredParties(
            frozenset({row["aid_a"], row["aid_b"]} - {None}), row["reported_by"]
        )
        for row in rows
    }


async def find(conn: Connection, session_id: str) -> SessionView | None:
    return VIEW.find(await conn.fetchrow(FIND, session_id))


async def list_sessions(conn: Connection, filter: SessionFilter, window: Window) -> Json[SessionList]:
    """Return one page, newest first."""
    where = Where()
    where.add("status = {}", filter.status)
    where.add("run_id = {}", filter.run_id)
    where.add(f"created_at >= {{}} AND {HAPPENED_AT} >= {{}}", filter.since)
    where.add(f"{HAPPENED_AT} <= {{}}", filter.until)
    where.add("boundary = {}", filter.boundary)
    where.add(f"{ERROR_KEY} = left({{}}, {ERROR_CHARACTERS}) AND error = {{}}", filter.error)
    if filter.aid is None:
        page = await ORDER.fetch(conn, LIST, where, window)
    else:
        page = await LIST_OF_AID.fetch(conn, where, filter.aid, window)
    return Json(SessionList, sessions=VIEW.raw(page.rows), next_before=page.next_before)


async def of_agent(conn: Connection, aid: str, after: Place | None, limit: int) -> RawPage:
    """Return the next sessions that an agent took part in, newest first, and where to go on."""
    page = await LIST_OF_AID.fetch(conn, Where(), aid, Window(limit, before=after))
    return VIEW.raw(page.rows), page.next


async def newest_of(conn: Connection, aids: list[str]) -> dict[str, LastSession]:
    """Return each agent's newest session."""
    return {row["aid"]: LastSession(*row[1:]) for row in await conn.fetch(NEWEST_OF, aids)}


async def peers(
    conn: Connection, aid: str, sessions: int, *, limit: int | None = None, among: list[str] | None = None
) -> list[Peer]:
    """Return whom an agent met in its newest `sessions` of either side, the last one first."""
    return [Peer(**row) for row in await conn.fetch(PEERS, aid, sessions, among, limit)]


async def count_since(conn: Connection, since: datetime, width: timedelta) -> list[SessionCount]:
    """Count sessions that took place since then, by status, boundary and bucket of that width."""
    return [SessionCount(**row) for row in await conn.fetch(COUNT_SINCE, since, width)]


async def failed(conn: Connection, hour: datetime, day: datetime) -> Failed:
    """Count the handshakes that failed since `hour` and since `day`."""
    row = await conn.fetchrow(FAILED, hour, day)
    assert row is not None
    return Failed(**row)


async def estimate(conn: Connection, limit: int) -> int:
    """Return how many sessions there are, exactly up to `limit`."""
    return int(await conn.fetchval(ESTIMATE, float(limit), limit))
