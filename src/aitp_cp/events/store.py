"""Statements on audit_events."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import msgspec

from aitp_cp.clock import iso
from aitp_cp.db import Connection, Record, Where, shown
from aitp_cp.db.arrays import stored_array
from aitp_cp.db.keyset import Window
from aitp_cp.events.invocations import UNCOUNT_GONE
from aitp_cp.events.model import (
    HISTORY_ORDER,
    Event,
    HistoryFilter,
    HistoryPage,
    LogExtent,
    LogPage,
    LogReach,
    LogSpan,
    NewEvent,
)

# The subquery's order is the order in which nextval() is called, so seq follows the batch's own order. The bell is rung
# here, if there is anything to ring for: everybody else waits for the log while a statement more is sent.
# `ts` orders history, so it is at most five minutes after the receipt; what is shown then is `claimed_ts`.
LATEST = "$11::timestamptz + interval '5 minutes'"
INSERT_MISSING = f"""
WITH inserted AS (
    INSERT INTO audit_events
        (id, type, ts, claimed_ts, aid_a, aid_b, session_id, run_id, grants, payload, source, created_at, seq)
    SELECT id, type, least(ts, {LATEST}), CASE WHEN ts > {LATEST} THEN ts END, aid_a, aid_b, session_id, run_id,
           grants::jsonb, payload::jsonb, source, $11::timestamptz, nextval('audit_events_seq')
    FROM (
        SELECT * FROM unnest($1::uuid[], $2::text[], $3::timestamptz[], $4::text[], $5::text[], $6::text[],
                             $7::text[], $8::text[], $9::text[], $10::text[])
        WITH ORDINALITY AS new (id, type, ts, aid_a, aid_b, session_id, run_id, grants, payload, source, place)
        ORDER BY place
    ) AS ordered
    ON CONFLICT (id) DO NOTHING
    RETURNING id, seq
)
SELECT id, seq, (SELECT pg_notify('aitp_cp_log', max(seq)::text) FROM inserted) AS rung FROM inserted
"""

RING = "SELECT pg_notify('aitp_cp_log', $1)"

FIND_KNOWN = "SELECT id FROM audit_events WHERE id = ANY($1::uuid[])"

COLUMNS = "id, type, ts, claimed_ts, aid_a, aid_b, session_id, run_id, grants, payload, source, seq"

# In the order of `Event`.
SHOWN = f"id, type, {shown('coalesce(claimed_ts, ts)')}, aid_a, aid_b, session_id, run_id, grants, payload, source, seq"

NEWEST = """
SELECT {shown}, ts FROM audit_events
WHERE {where}
ORDER BY {order}
LIMIT {limit} OFFSET {offset}
"""

# Each branch on an index of its own; an OR over them would read and sort everything a busy agent ever did.
BRANCH = "(SELECT {columns} FROM audit_events WHERE {where} AND {branch} ORDER BY {order} LIMIT {reach})"
NEWEST_OF_BRANCHES = """
SELECT {shown}, ts FROM ({branches}) AS either
ORDER BY {order}
LIMIT {limit} OFFSET {offset}
"""

AFTER = """
SELECT {shown} FROM audit_events
WHERE {where}
ORDER BY seq
LIMIT {limit}
"""

# Payloads are measured as the text that is sent. The first row comes whatever its size, so that a reader always
# moves on; the horizon comes even with no row, and as of the same snapshot.
READ_LOG = """
SELECT horizon.deleted_through, anchor, found, {columns}
FROM (
    SELECT (SELECT coalesce(max(deleted_through), 0) FROM log_horizon) AS deleted_through,
           (SELECT id FROM audit_events WHERE seq = {after}) AS anchor
) AS horizon
LEFT JOIN (
    SELECT {columns},
           count(*) OVER () AS found,
           sum(octet_length(payload)) OVER (ORDER BY seq ROWS UNBOUNDED PRECEDING) - octet_length(payload) AS before
    FROM (
        SELECT id, type, ts, claimed_ts, aid_a, aid_b, session_id, run_id, grants, payload::text AS payload, source, seq
        FROM audit_events
        WHERE {where}
        ORDER BY seq
        LIMIT {rows}
    ) AS next
) AS page ON before < {size}
ORDER BY seq
"""

PLACES = "SELECT seq FROM audit_events WHERE seq > $1 AND seq <= $2 ORDER BY seq LIMIT $3"

REACH = """
SELECT (SELECT max(seq) FROM (SELECT seq FROM audit_events WHERE seq > $1 ORDER BY seq LIMIT $2) AS next) AS through,
       coalesce((SELECT max(seq) FROM audit_events), 0) AS newest
"""

NEWEST_POSITION = "SELECT coalesce(max(seq), 0) FROM audit_events"

BEFORE_RECEIVED = """
SELECT coalesce(min(seq) FILTER (WHERE created_at >= $1) - 1, max(seq), 0)
FROM (SELECT seq, created_at FROM audit_events WHERE seq IS NOT NULL ORDER BY seq DESC LIMIT $2) AS newest
"""

ID_AT = "SELECT id FROM audit_events WHERE seq = $1"

EXTENT = """
SELECT (SELECT min(seq) FROM audit_events) AS oldest,
       (SELECT max(seq) FROM audit_events) AS newest,
       (SELECT coalesce(max(deleted_through), 0) FROM log_horizon) AS deleted_through,
       EXISTS (SELECT 1 FROM audit_events WHERE seq = $1) AS holds_cursor
"""

BEFORE_NEWEST = """
SELECT coalesce(
    (SELECT min(seq) - 1
     FROM (SELECT seq FROM audit_events WHERE seq IS NOT NULL ORDER BY seq DESC LIMIT $1) AS newest),
    (SELECT max(seq) FROM audit_events),
    0
)
"""

HAS_UNSEQUENCED = "SELECT EXISTS (SELECT 1 FROM audit_events WHERE seq IS NULL)"

# In log order, so that what is gone is the beginning of the log; rows without a position go when they are due, too.
# SKIP LOCKED: the job that numbers legacy rows holds them for a moment, under the log lock.
DELETE_OLDEST = f"""
WITH first AS MATERIALIZED (
    (SELECT id, created_at FROM audit_events WHERE seq <= $3 ORDER BY seq LIMIT $2)
    UNION ALL
    (SELECT id, created_at FROM audit_events WHERE seq IS NULL AND created_at < $1 LIMIT $2)
), oldest AS MATERIALIZED (
    SELECT audit_events.id FROM audit_events
    JOIN (SELECT id FROM first WHERE created_at < $1 LIMIT $2) AS due ON due.id = audit_events.id
    FOR UPDATE OF audit_events SKIP LOCKED
), gone AS (
    DELETE FROM audit_events USING oldest WHERE audit_events.id = oldest.id RETURNING seq, type, ts, payload, grants
), uncounted AS ({UNCOUNT_GONE}), raised AS (
    INSERT INTO log_horizon (deleted_through)
    SELECT max(seq) FROM gone HAVING max(seq) IS NOT NULL
    ON CONFLICT (only_row) DO UPDATE
    SET deleted_through = greatest(log_horizon.deleted_through, excluded.deleted_through)
)
SELECT count(*) FROM gone
"""


# Exports and replays read on by place, (ts, seq): only what has a place in the log appears in them.
OF_SESSION = """
SELECT {columns} FROM audit_events
WHERE session_id = $1 AND seq IS NOT NULL AND {where}
ORDER BY ts, seq
LIMIT {limit}
"""

OF_AID = """
SELECT {columns} FROM (
    (SELECT {columns} FROM audit_events WHERE aid_a = $1 AND seq IS NOT NULL AND {where}
     ORDER BY ts DESC, seq DESC LIMIT {limit})
    UNION ALL
    (SELECT {columns} FROM audit_events
     WHERE aid_b = $1 AND aid_a IS DISTINCT FROM $1 AND seq IS NOT NULL AND {where}
     ORDER BY ts DESC, seq DESC LIMIT {limit})
) AS either
ORDER BY ts DESC, seq DESC
LIMIT {limit}
"""

# The clamped time is never later than the one that is shown, and has an index.
UNTIL = "ts <= {} AND (claimed_ts IS NULL OR claimed_ts <= {})"

EventPlace = tuple[datetime, int]
EventPage = tuple[list[Event], EventPlace | None]


async def insert_missing(conn: Connection, events: Sequence[NewEvent], now: datetime) -> dict[UUID, int]:
    """Insert what is not there yet and wake every replica's tail at commit; the new rows' places by id."""
    rows = await conn.fetch(
        INSERT_MISSING,
        [event.id for event in events],
        [event.type for event in events],
        [event.ts for event in events],
        [event.aid_a for event in events],
        [event.aid_b for event in events],
        [event.session_id for event in events],
        [event.run_id for event in events],
        [None if event.grants is None else msgspec.json.encode(event.grants).decode() for event in events],
        [event.payload for event in events],
        [event.source for event in events],
        now,
    )
    return {row["id"]: row["seq"] for row in rows}


async def ring(conn: Connection, seq: int) -> None:
    """Wake every replica's tail at commit; the payload is only a number."""
    await conn.execute(RING, str(seq))


async def find_known(conn: Connection, ids: Sequence[UUID]) -> set[UUID]:
    return {row["id"] for row in await conn.fetch(FIND_KNOWN, ids)}


async def newest(conn: Connection, wanted: HistoryFilter, window: Window) -> HistoryPage:
    """A page in `HISTORY_ORDER`; `count` is its length."""
    where = _conditions(wanted)
    HISTORY_ORDER.restrict(where, window.before)
    branches = _branches(wanted, where)
    parts = {"shown": SHOWN, "order": HISTORY_ORDER.sql, "where": where.sql()}
    if not branches:
        statement = NEWEST.format(limit=where.rows(window.rows), offset=where.rows(window.offset), **parts)
    else:
        parts |= {"columns": COLUMNS, "reach": where.bind(window.rows + window.offset)}
        selects = [BRANCH.format(branch=branch, **parts) for branch in branches]
        statement = NEWEST_OF_BRANCHES.format(
            branches=" UNION ALL ".join(selects),
            limit=where.bind(window.rows),
            offset=where.bind(window.offset),
            **parts,
        )
    page = HISTORY_ORDER.page(await conn.fetch(statement, *where.args), window)
    return HistoryPage([_shown(row) for row in page.rows], len(page.rows), next_before=page.next_before)


def _branches(wanted: HistoryFilter, where: Where) -> list[str]:
    """The conditions that an index of its own serves each: either side, and `since` by the order or by the claim."""
    sides = ["true"]
    if wanted.aid is not None:
        aid = where.bind(wanted.aid)
        sides = [f"aid_a = {aid}", f"aid_b = {aid} AND aid_a IS DISTINCT FROM {aid}"]
    if wanted.since is not None:
        since = where.bind(wanted.since)
        times = (f"ts >= {since}", f"ts < {since} AND claimed_ts >= {since}")
        return [f"{side} AND {time}" for side in sides for time in times]
    return [] if wanted.aid is None else sides


async def after(conn: Connection, wanted: HistoryFilter, seq: int, limit: int) -> list[Event]:
    """The next events in log order; those of legacy writers appear once they have been given a place."""
    where = _conditions(wanted)
    where.add("coalesce(claimed_ts, ts) >= {}", wanted.since)
    where.add("seq > {}", seq)
    where.add("(aid_a = {} OR aid_b = {})", wanted.aid)
    statement = AFTER.format(shown=SHOWN, where=where.sql(), limit=where.bind(limit))
    return [_shown(row) for row in await conn.fetch(statement, *where.args)]


async def read_log(conn: Connection, wanted: HistoryFilter, span: LogSpan) -> LogPage:
    """The next events of a span; of the filter only types, run, AID and adoption count."""
    where = Where()
    where.add("seq > {}", span.after)
    where.add("seq <= {}", span.through)
    where.add("type = {}", wanted.type)
    where.add("run_id = {}", wanted.run_id)
    where.add("{} IN (aid_a, aid_b)", wanted.aid)
    where.add("type = ANY({}::text[])", wanted.types)
    where.add("adopted = {}", wanted.adopted)
    statement = READ_LOG.format(
        columns=COLUMNS,
        where=where.sql(),
        after=where.bind(span.after),
        rows=where.bind(span.rows),
        size=where.bind(span.size),
    )
    found = await conn.fetch(statement, *where.args)
    deleted_through, anchor = found[0]["deleted_through"], found[0]["anchor"]
    if found[0]["seq"] is None:
        return LogPage([], span.after, False, deleted_through, anchor=anchor)
    more = found[0]["found"] > len(found) or len(found) == span.rows
    return LogPage([_event(row) for row in found], found[-1]["seq"], more, deleted_through, anchor=anchor)


async def places(conn: Connection, span: LogSpan) -> list[int]:
    """The positions alone, which can be read whatever the rows hold."""
    return [row["seq"] for row in await conn.fetch(PLACES, span.after, span.through, span.rows)]


async def reach(conn: Connection, after: int, rows: int) -> LogReach:
    row = await conn.fetchrow(REACH, after, rows)
    assert row is not None
    return LogReach(row["through"], row["newest"])


async def newest_position(conn: Connection) -> int:
    """0 while the log is empty."""
    return int(await conn.fetchval(NEWEST_POSITION))


async def before_received(conn: Connection, since: datetime, rows: int) -> int:
    """The position before the first of the newest `rows` events that was received since then; else the newest."""
    return int(await conn.fetchval(BEFORE_RECEIVED, since, rows))


async def id_at(conn: Connection, seq: int) -> UUID | None:
    id: UUID | None = await conn.fetchval(ID_AT, seq)
    return id


async def extent(conn: Connection, cursor: int) -> LogExtent:
    row = await conn.fetchrow(EXTENT, cursor)
    assert row is not None
    return LogExtent(row["oldest"], row["newest"], row["deleted_through"], row["holds_cursor"])


async def before_newest(conn: Connection, count: int) -> int:
    """The position after which `count` events follow, or all there are; with 0 the newest one."""
    return int(await conn.fetchval(BEFORE_NEWEST, count))


async def has_unsequenced(conn: Connection) -> bool:
    return bool(await conn.fetchval(HAS_UNSEQUENCED))


async def delete_oldest(conn: Connection, before: datetime, limit: int, through: int) -> int:
    """Delete events received before a time, the first of the log, and raise the horizon to the highest; how many.

    None beyond the position `through`.
    """
    return int(await conn.fetchval(DELETE_OLDEST, before, limit, through))


async def of_session(conn: Connection, wanted: HistoryFilter, after: EventPlace | None, limit: int) -> EventPage:
    """The next events of `wanted.session_id` between `since` and `until`, oldest first, and where to go on."""
    where = Where()
    where.bind(wanted.session_id)
    where.add("coalesce(claimed_ts, ts) >= {}", wanted.since)
    where.add(UNTIL, wanted.until)
    return await _page(conn, OF_SESSION, where, ">", after, limit)


async def of_aid(conn: Connection, aid: str, after: EventPlace | None, limit: int) -> EventPage:
    """The next events with this agent on either side, newest first, and where to go on."""
    where = Where()
    where.bind(aid)
    return await _page(conn, OF_AID, where, "<", after, limit)


async def _page(
    conn: Connection, query: str, where: Where, beyond: str, after: EventPlace | None, limit: int
) -> EventPage:
    if after is not None:
        where.always(f"(ts, seq) {beyond} ({where.bind(after[0])}::timestamptz, {where.bind(after[1])}::bigint)")
    statement = query.format(columns=COLUMNS, where=where.sql(), limit=where.bind(limit))
    rows = await conn.fetch(statement, *where.args)
    full = len(rows) == limit
    return [_event(row) for row in rows], (rows[-1]["ts"], rows[-1]["seq"]) if full else None


def _conditions(wanted: HistoryFilter) -> Where:
    """All filters but the side and `since`."""
    where = Where()
    where.add("type = {}", wanted.type)
    where.add("session_id = {}", wanted.session_id)
    where.add("run_id = {}", wanted.run_id)
    where.add(UNTIL, wanted.until)
    return where


def _shown(row: Record) -> Event:
    id, type, ts, aid_a, aid_b, session_id, run_id, grants, payload, source, seq, *_ = row
    payload = msgspec.Raw(payload.encode())
    return Event(id, type, ts, aid_a, aid_b, session_id, run_id, stored_array(grants), payload, source, seq)


def _event(row: Record) -> Event:
    return Event(
        id=row["id"],
        type=row["type"],
        ts=iso(row["claimed_ts"] or row["ts"]),
        aid_a=row["aid_a"],
        aid_b=row["aid_b"],
        session_id=row["session_id"],
        run_id=row["run_id"],
        grants=stored_array(row["grants"]),
        payload=msgspec.Raw(row["payload"].encode()),
        source=row["source"],
        seq=row["seq"],
    )
