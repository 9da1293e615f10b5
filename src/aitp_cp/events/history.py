"""The lists of events: the newest, the log in order, and the events of a session or an agent (contract, section 9)."""

from datetime import datetime

import msgspec

from aitp_cp.db import Connection, Where
from aitp_cp.db.either_side import EitherSide
from aitp_cp.db.keyset import Key, Order, Place, Window
from aitp_cp.db.views import Json
from aitp_cp.events.counts import MAX_TYPES, known_types
from aitp_cp.events.model import HISTORY_ORDER, HistoryFilter, HistoryPage, type_prefix
from aitp_cp.events.store import COLUMNS, VIEW, add_type

MAX_BRANCHED_TYPES = 20  # each is read as far as the page reaches, offset included

# Exports and replays contain only what has a position in the log.
SESSION_ORDER = Order("events of a session", Key("ts", datetime), Key("seq", int))

NEWEST = VIEW.page(
    HISTORY_ORDER.select(COLUMNS, "audit_events"),
    HISTORY_ORDER.sql,
)

# Each branch on an index of its own; an OR over them would read and sort everything a busy agent ever did.
BRANCH = f"""
(SELECT {COLUMNS} FROM audit_events WHERE {{where}} AND {{branch}} ORDER BY {HISTORY_ORDER.sql} LIMIT {{reach}})
"""
NEWEST_OF_BRANCHES = VIEW.page(
    f"""
    SELECT {COLUMNS} FROM ({{branches}}) AS either
    ORDER BY {HISTORY_ORDER.sql}
    LIMIT {{limit}} OFFSET {{offset}}
    """,
    HISTORY_ORDER.sql,
)

AFTER = VIEW.page(f"SELECT {COLUMNS} FROM audit_events WHERE {{where}} ORDER BY seq LIMIT {{limit}}", "seq")

OF_SESSION = VIEW.page(
    f"""
    SELECT {COLUMNS} FROM audit_events
    WHERE session_id = $1 AND seq IS NOT NULL AND {{where}}
    ORDER BY {SESSION_ORDER.sql}
    LIMIT {{limit}}
    """,
    SESSION_ORDER.sql,
)

OF_AID = EitherSide(VIEW, f"SELECT {COLUMNS} FROM audit_events", ("aid_a", "aid_b"), HISTORY_ORDER)

HAS_RUN = "SELECT EXISTS (SELECT 1 FROM audit_events WHERE run_id = $1)"
MENTIONS = """
SELECT EXISTS (SELECT 1 FROM audit_events WHERE aid_a = $1) OR EXISTS (SELECT 1 FROM audit_events WHERE aid_b = $1)
"""

# The clamped time is never later than the one that is shown, and has an index.
UNTIL = "ts <= {} AND (claimed_ts IS NULL OR claimed_ts <= {})"

EventPage = tuple[list[msgspec.Raw], Place | None]  # each is an `Event`


async def newest(conn: Connection, filter: HistoryFilter, window: Window) -> Json[HistoryPage]:
    """Return a page, newest first by `ts`, which counts as 5 minutes after the receipt at most."""
    filter = await _with_types(conn, filter)
    where = conditions(filter)
    HISTORY_ORDER.restrict(where, window.before)
    branches = _branches(filter, where)
    if not branches:
        statement = NEWEST.format(where=where.sql(), limit=where.rows(window.rows), offset=where.rows(window.offset))
    else:
        parts = {"where": where.sql(), "reach": where.bind(window.rows + window.offset)}
        statement = NEWEST_OF_BRANCHES.format(
            branches=" UNION ALL ".join(BRANCH.format(branch=branch, **parts) for branch in branches),
            limit=where.bind(window.rows),
            offset=where.bind(window.offset),
        )
    page = HISTORY_ORDER.page(await conn.fetch(statement, *where.args), window)
    return Json(HistoryPage, events=VIEW.raw(page.rows), count=len(page.rows), next_before=page.next_before)


async def after(conn: Connection, filter: HistoryFilter, seq: int, limit: int) -> Json[HistoryPage]:
    """Return a page in log order; `next_after` is the cursor of the next one, unmoved when there is nothing new.

    Events of legacy writers appear once they have a position.
    """
    where = conditions(filter)
    where.add("coalesce(claimed_ts, ts) >= {}", filter.since)
    where.add("seq > {}", seq)
    where.add("(aid_a = {} OR aid_b = {})", filter.aid)
    rows = await conn.fetch(AFTER.format(where=where.sql(), limit=where.bind(limit)), *where.args)
    next_after = rows[-1]["seq"] if rows else seq
    return Json(HistoryPage, events=VIEW.raw(rows), count=len(rows), next_after=next_after)


async def of_session(conn: Connection, filter: HistoryFilter, place: Place | None, limit: int) -> EventPage:
    """Return the next events of `filter.session_id` between `since` and `until`, oldest first, and where to go on."""
    where = Where()
    where.bind(filter.session_id)
    where.add("coalesce(claimed_ts, ts) >= {}", filter.since)
    where.add(UNTIL, filter.until)
    page = await SESSION_ORDER.fetch(conn, OF_SESSION, where, Window(limit, before=place))
    return VIEW.raw(page.rows), page.next


async def of_aid(conn: Connection, aid: str, place: Place | None, limit: int) -> EventPage:
    """Return the next events with this agent on either side, newest first, and where to go on."""
    where = Where()
    where.always("seq IS NOT NULL")
    page = await OF_AID.fetch(conn, where, aid, Window(limit, before=place))
    return VIEW.raw(page.rows), page.next


async def has_run(conn: Connection, run_id: str) -> bool:
    """Return whether an event of this run is in the log."""
    return bool(await conn.fetchval(HAS_RUN, run_id))


async def mentions(conn: Connection, aid: str) -> bool:
    """Return whether the log has an event with this agent on either side."""
    return bool(await conn.fetchval(MENTIONS, aid))


async def _with_types(conn: Connection, filter: HistoryFilter) -> HistoryFilter:
    """Name the types that a prefix stands for, where only their index bounds what is read."""
    prefix = type_prefix(filter.type)
    others = (filter.aid, filter.session_id, filter.run_id, filter.reported_by, filter.proof)
    if prefix is None or any(other is not None for other in others):
        return filter
    types = await known_types(conn)
    matching = tuple(type for type in types if type.startswith(prefix))
    if len(types) >= MAX_TYPES or len(matching) > MAX_BRANCHED_TYPES:
        return filter
    return msgspec.structs.replace(filter, type=None, types=matching)


def _branches(filter: HistoryFilter, where: Where) -> list[str]:
    """The conditions that an index of its own serves each: either side, and `since` by the order or by the claim."""
    sides = ["true"]
    if filter.types is not None:  # each by its name: how old its events are decides which index serves it
        sides = [f"type = {where.bind(type)}" for type in filter.types] or ["false"]
    if filter.aid is not None:
        aid = where.bind(filter.aid)
        sides = [f"aid_a = {aid}", f"aid_b = {aid} AND aid_a IS DISTINCT FROM {aid}"]
    if filter.since is not None:
        since = where.bind(filter.since)
        times = (f"ts >= {since}", f"ts < {since} AND claimed_ts >= {since}")
        return [f"{side} AND {time}" for side in sides for time in times]
    return [] if filter.aid is None and filter.types is None else sides


def conditions(filter: HistoryFilter) -> Where:
    """Return all filters but the side and `since`."""
    where = Where()
    add_type(where, filter.type)
    where.add("session_id = {}", filter.session_id)
    where.add("run_id = {}", filter.run_id)
    where.add("reported_by = {}", filter.reported_by)
    if filter.proof is not None:  # one of three constants: where it stands in the text, it has an index of its own
        where.always(f"proof = '{filter.proof}'")
    where.add(UNTIL, filter.until)
    return where
