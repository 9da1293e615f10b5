"""What was appended after a position, newest first: for a reader that keeps up by leaving out what it cannot show."""

from datetime import datetime
from typing import Any

import msgspec

from aitp_cp.db import Connection
from aitp_cp.events.history import conditions
from aitp_cp.events.model import Event, HistoryFilter
from aitp_cp.events.store import COLUMNS, VIEW

MAX_DISTANCE = 100_000  # positions that are looked at: about 50 ms where none matches
MAX_COUNTED = 50_000

NEWER = VIEW.page(f"SELECT {COLUMNS} FROM audit_events WHERE {{where}} ORDER BY seq DESC LIMIT {{limit}}", "seq DESC")

SKIPPED = """
SELECT count(*) AS count, min(shown) AS since, max(shown) AS until
FROM (SELECT coalesce(claimed_ts, ts) AS shown FROM audit_events WHERE {where} LIMIT {limit}) AS skipped
"""


class Skipped(msgspec.Struct, frozen=True):
    """Events between two that are shown: how many, from when to when; `more` if they were not all counted."""

    count: int
    more: bool
    since: datetime | None
    until: datetime | None


class Newer(msgspec.Struct, frozen=True):
    """`events` are the newest; `skipped` lie between them and the position that the reader had."""

    events: list[Event]
    skipped: Skipped | None


async def newer(conn: Connection, filter: HistoryFilter, after: int, through: int, limit: int) -> Newer:
    """Return the newest events in (after, through], at most `limit`, and what was left out between."""
    start = max(after, through - MAX_DISTANCE)
    statement, args = statement_of(NEWER, filter, start, through, limit)
    rows = await conn.fetch(statement, *args)
    events = VIEW.decode(VIEW.raw(rows))
    full = bool(rows) and (len(rows) == limit or rows[-1]["more"])
    if not full and start == after:
        return Newer(events, None)
    statement, args = statement_of(SKIPPED, filter, start, rows[-1]["seq"] - 1 if full else start, MAX_COUNTED)
    skipped = await conn.fetchrow(statement, *args)
    assert skipped is not None
    more = start > after or skipped["count"] == MAX_COUNTED
    if not skipped["count"] and not more:
        return Newer(events, None)
    return Newer(events, Skipped(skipped["count"], more, skipped["since"], skipped["until"]))


def statement_of(form: str, filter: HistoryFilter, after: int, through: int, limit: int) -> tuple[str, list[Any]]:
    """Return a statement on the events in (after, through] that match, and its arguments."""
    where = conditions(filter)
    where.add("coalesce(claimed_ts, ts) >= {}", filter.since)
    where.add("seq > {}", after)
    where.add("seq <= {}", through)
    where.add("(aid_a = {} OR aid_b = {})", filter.aid)
    return form.format(where=where.sql(), limit=where.bind(limit)), where.args
