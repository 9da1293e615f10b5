"""Statements on handshake_sessions."""

from collections.abc import Sequence
from datetime import datetime

import msgspec

from aitp_cp.db import Connection, Record, Where, shown
from aitp_cp.db.arrays import stored_array
from aitp_cp.db.keyset import Place, Window
from aitp_cp.sessions.model import ORDER, RANK, SessionChange, SessionFilter, SessionList, SessionView
from aitp_cp.tcts.merging import greatest_text_sql, least_sql, least_text_sql, on_conflict, union_sql


def _rank(row: str) -> str:
    ranks = " ".join(f"WHEN '{status}' THEN {rank}" for status, rank in RANK.items())
    return f"CASE {row}.status {ranks} ELSE 0 END"


def _of_winner(column: str, among_equals: str) -> str:
    """What belongs to the status comes from the reports of the winning one only."""
    return f"""CASE sign({_rank("excluded")} - {_rank("stored")})
        WHEN 1 THEN excluded.{column} WHEN 0 THEN {among_equals} ELSE stored.{column} END"""


# Rows come in key order, so that two transactions never wait for each other's.
MERGE = f"""
INSERT INTO handshake_sessions AS stored
    (session_id, status, aid_a, aid_b, grants, run_id, boundary, error, started_at, completed_at, created_at,
     updated_at)
SELECT session_id, status, aid_a, aid_b, grants::jsonb, run_id, boundary, error, started_at, completed_at, $11, $11
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
            $9::timestamptz[], $10::timestamptz[])
     AS new (session_id, status, aid_a, aid_b, grants, run_id, boundary, error, started_at, completed_at)
{
    on_conflict(
        "session_id",
        {
            "status": _of_winner("status", "stored.status"),
            "aid_a": least_text_sql("aid_a"),
            "aid_b": greatest_text_sql("aid_b"),
            "grants": union_sql("grants"),
            "run_id": least_text_sql("run_id"),
            "boundary": least_text_sql("boundary"),
            "error": _of_winner("error", least_text_sql("error")),
            "started_at": least_sql("started_at"),
            "completed_at": _of_winner("completed_at", least_sql("completed_at")),
        },
        extra=", updated_at = excluded.updated_at",
    )
}
"""

COLUMNS = """session_id, aid_a, aid_b, status, grants, run_id, boundary, error, started_at, completed_at, created_at,
    updated_at"""

# A handshake took place when its reports say, but not after they came in: clocks that are ahead are not believed.
HAPPENED_AT = "LEAST(created_at, coalesce(started_at, completed_at))"

# In the order of `SessionView`.
SHOWN = f"""session_id, aid_a, aid_b, status, grants, run_id, boundary, error, {shown("started_at")},
    {shown("completed_at")}, {shown("created_at")}, {shown("updated_at")}"""

FIND = f"SELECT {SHOWN} FROM handshake_sessions WHERE session_id = $1"

LIST = """
SELECT {shown}, created_at FROM handshake_sessions
WHERE {where}
ORDER BY {order}
LIMIT {limit} OFFSET {offset}
"""

# Each side on its own index; an OR over both sides would read and sort everything a busy agent ever did.
LIST_OF_AID = """
SELECT {shown}, created_at FROM (
    (SELECT {columns} FROM handshake_sessions WHERE {where} AND aid_a = {aid}
     ORDER BY {order} LIMIT {reach})
    UNION ALL
    (SELECT {columns} FROM handshake_sessions WHERE {where} AND aid_b = {aid} AND aid_a IS DISTINCT FROM {aid}
     ORDER BY {order} LIMIT {reach})
) AS either
ORDER BY {order}
LIMIT {limit} OFFSET {offset}
"""

SessionPage = tuple[list[SessionView], Place | None]


async def merge(conn: Connection, changes: Sequence[SessionChange], now: datetime) -> None:
    """Insert what is new and merge the rest; `changes` name each session once, in key order."""
    await conn.execute(
        MERGE,
        [change.session_id for change in changes],
        [change.status for change in changes],
        [change.aid_a for change in changes],
        [change.aid_b for change in changes],
        [msgspec.json.encode(change.grants).decode() for change in changes],
        [change.run_id for change in changes],
        [change.boundary for change in changes],
        [change.error for change in changes],
        [change.started_at for change in changes],
        [change.completed_at for change in changes],
        now,
    )


async def find(conn: Connection, session_id: str) -> SessionView | None:
    row = await conn.fetchrow(FIND, session_id)
    return None if row is None else _view(row)


async def list_sessions(conn: Connection, wanted: SessionFilter, window: Window) -> SessionList:
    where = Where()
    where.add("status = {}", wanted.status)
    where.add("run_id = {}", wanted.run_id)
    where.add(f"created_at >= {{}} AND {HAPPENED_AT} >= {{}}", wanted.since)
    ORDER.restrict(where, window.before)
    page = ORDER.page(await _newest(conn, where, wanted.aid, window.rows, window.offset), window)
    return SessionList([_view(row) for row in page.rows], page.next_before)


async def of_agent(conn: Connection, aid: str, after: Place | None, limit: int) -> SessionPage:
    """The next sessions that an agent took part in, newest first, and where to go on."""
    where = Where()
    ORDER.restrict(where, after)
    rows = await _newest(conn, where, aid, limit, 0)
    full = len(rows) == limit
    return [_view(row) for row in rows], ORDER.place(rows[-1]) if full else None


async def _newest(conn: Connection, where: Where, aid: str | None, limit: int, offset: int) -> list[Record]:
    parts = {"columns": COLUMNS, "shown": SHOWN, "order": ORDER.sql, "where": where.sql()}
    if aid is None:
        statement = LIST.format(limit=where.rows(limit), offset=where.rows(offset), **parts)
    else:
        parts |= {"aid": where.bind(aid), "reach": where.bind(limit + offset)}
        statement = LIST_OF_AID.format(limit=where.bind(limit), offset=where.bind(offset), **parts)
    return await conn.fetch(statement, *where.args)


def _view(row: Record) -> SessionView:
    session_id, aid_a, aid_b, status, grants, run_id, boundary, error, *times = row
    return SessionView(session_id, aid_a, aid_b, status, stored_array(grants), run_id, boundary, error, *times[:4])
