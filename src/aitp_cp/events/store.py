"""SQL of the event log: append, read in order, first and last position. `history` has the SQL of the lists."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import msgspec

from aitp_cp.db import Connection, Where, shown
from aitp_cp.db.views import View
from aitp_cp.events.model import Event, HistoryFilter, LogExtent, LogPage, LogReach, LogSpan, NewEvent, type_prefix

# nextval() is called in the subquery's order, so `seq` follows the order of the batch. The notification is part of the
# statement: a second round trip would hold the log lock longer.
# `ts` orders history, so it is at most five minutes after the receipt; `claimed_ts` keeps the reported time.
LATEST = "$11::timestamptz + interval '5 minutes'"
INSERT_MISSING = f"""
WITH inserted AS (
    INSERT INTO audit_events
        (id, type, ts, claimed_ts, aid_a, aid_b, session_id, run_id, grants, payload, source, created_at, reported_by,
         proof, seq)
    SELECT id, type, least(ts, {LATEST}), CASE WHEN ts > {LATEST} THEN ts END, aid_a, aid_b, session_id, run_id,
           grants::jsonb, payload::jsonb, source, $11::timestamptz, reported_by, proof, nextval('audit_events_seq')
    FROM (
        SELECT * FROM unnest($1::uuid[], $2::text[], $3::timestamptz[], $4::text[], $5::text[], $6::text[],
                             $7::text[], $8::text[], $9::text[], $10::text[], $12::text[], $13::text[])
        WITH ORDINALITY AS new (id, type, ts, aid_a, aid_b, session_id, run_id, grants, payload, source, reported_by,
                                proof, position)
        ORDER BY position
    ) AS ordered
    ON CONFLICT (id) DO NOTHING
    RETURNING id, seq
)
SELECT id, seq, (SELECT pg_notify('aitp_cp_log', max(seq)::text) FROM inserted) AS rung FROM inserted
"""

RING = "SELECT pg_notify('aitp_cp_log', $1)"

FIND_KNOWN = "SELECT id FROM audit_events WHERE id = ANY($1::uuid[])"

COLUMNS = "id, type, ts, claimed_ts, aid_a, aid_b, session_id, run_id, grants, payload, source, seq, reported_by, proof"

VIEW = View(Event, {"ts": shown("coalesce(claimed_ts, ts)")}, arrays=("grants",))

# Payloads are measured as the text that is sent. The first row is returned whatever its size, so that a reader always
# advances. The horizon is returned even without a row, from the same snapshot.
READ_LOG = """
SELECT {shown}, horizon.deleted_through, anchor, total
FROM (
    SELECT (SELECT coalesce(max(deleted_through), 0) FROM log_horizon) AS deleted_through,
           (SELECT id FROM audit_events WHERE seq = {after}) AS anchor
) AS horizon
LEFT JOIN (
    SELECT {columns},
           count(*) OVER () AS total,
           sum(octet_length(payload)) OVER (ORDER BY seq ROWS UNBOUNDED PRECEDING) - octet_length(payload) AS before
    FROM (
        SELECT id, type, ts, claimed_ts, aid_a, aid_b, session_id, run_id, grants, payload::text AS payload, source,
               seq, reported_by, proof
        FROM audit_events
        WHERE {where}
        ORDER BY seq
        LIMIT {rows}
    ) AS next
) AS page ON before < {size}
ORDER BY seq
"""

REACH = """
SELECT (SELECT max(seq) FROM (SELECT seq FROM audit_events WHERE seq > $1 ORDER BY seq LIMIT $2) AS next) AS through,
       coalesce((SELECT max(seq) FROM audit_events), 0) AS newest
"""

FIND = f"SELECT {VIEW.sql} FROM audit_events WHERE id = $1"

NEWEST_POSITION = "SELECT coalesce(max(seq), 0) FROM audit_events"

RECEIVED = "SELECT id, created_at FROM audit_events WHERE id = ANY($1::uuid[])"
BEFORE_RECEIVED = """
SELECT coalesce(min(seq) FILTER (WHERE created_at >= $1) - 1, max(seq), 0)
FROM (SELECT seq, created_at FROM audit_events WHERE seq IS NOT NULL ORDER BY seq DESC LIMIT $2) AS newest
"""

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

# In log order, so that the log loses only its beginning; rows without a position are deleted when they are due.
# SKIP LOCKED: the job that numbers legacy rows locks them for a moment, under the log lock.
DELETE_OLDEST = """
WITH first AS MATERIALIZED (
    (SELECT id, created_at FROM audit_events WHERE seq <= $3 ORDER BY seq LIMIT $2)
    UNION ALL
    (SELECT id, created_at FROM audit_events WHERE seq IS NULL AND created_at < $1 LIMIT $2)
), oldest AS MATERIALIZED (
    SELECT audit_events.id FROM audit_events
    JOIN (SELECT id FROM first WHERE created_at < $1 LIMIT $2) AS due ON due.id = audit_events.id
    FOR UPDATE OF audit_events SKIP LOCKED
), gone AS (
    DELETE FROM audit_events USING oldest WHERE audit_events.id = oldest.id RETURNING seq
), raised AS (
    INSERT INTO log_horizon (deleted_through)
    SELECT max(seq) FROM gone HAVING max(seq) IS NOT NULL
    ON CONFLICT (only_row) DO UPDATE
    SET deleted_through = greatest(log_horizon.deleted_through, excluded.deleted_through)
)
SELECT count(*) FROM gone
"""


async def insert_missing(conn: Connection, events: Sequence[NewEvent], now: datetime) -> dict[UUID, int]:
    """Insert the new events and notify every replica's tail at commit; return the positions of the new ones."""
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
        [event.reported_by for event in events],
        [event.proof for event in events],
    )
    return {row["id"]: row["seq"] for row in rows}


async def ring(conn: Connection, seq: int) -> None:
    """Notify every replica's tail at commit; the payload is the position."""
    await conn.execute(RING, str(seq))


async def known(conn: Connection, ids: Sequence[UUID]) -> set[UUID]:
    """Return the ids that are in the log."""
    return {row["id"] for row in await conn.fetch(FIND_KNOWN, ids)}


async def read_log(conn: Connection, filter: HistoryFilter, span: LogSpan) -> LogPage:
    """Read the next events of a span; uses only types, run, AID, reporter, proof and adoption of the filter."""
    where = Where()
    where.add("seq > {}", span.after)
    where.add("seq <= {}", span.through)
    add_type(where, filter.type)
    where.add("run_id = {}", filter.run_id)
    where.add("{} IN (aid_a, aid_b)", filter.aid)
    where.add("type = ANY({}::text[])", filter.types)
    where.add("adopted = {}", filter.adopted)
    where.add("reported_by = {}", filter.reported_by)
    where.add("proof = {}", filter.proof)
    statement = READ_LOG.format(
        shown=VIEW.sql,
        columns=COLUMNS,
        where=where.sql(),
        after=where.bind(span.after),
        rows=where.bind(span.rows),
        size=where.bind(span.size),
    )
    rows = await conn.fetch(statement, *where.args)
    first, last = rows[0], rows[-1]
    if first["seq"] is None:
        return LogPage([], span.after, False, first["deleted_through"], first["anchor"])
    more = first["total"] > len(rows) or len(rows) == span.rows
    return LogPage([VIEW.read(row) for row in rows], last["seq"], more, first["deleted_through"], first["anchor"])


async def reach(conn: Connection, after: int, rows: int) -> LogReach:
    row = await conn.fetchrow(REACH, after, rows)
    assert row is not None
    return LogReach(row["through"], row["newest"])


async def newest_position(conn: Connection) -> int:
    """Return the newest position in the log, 0 while it is empty."""
    return int(await conn.fetchval(NEWEST_POSITION))


async def find(conn: Connection, event_id: UUID) -> Event | None:
    return VIEW.find(await conn.fetchrow(FIND, event_id))


async def received(conn: Connection, ids: Sequence[UUID]) -> dict[UUID, datetime]:
    """Return when these events arrived, which their reporters do not tell."""
    return {row["id"]: row["created_at"] for row in await conn.fetch(RECEIVED, ids)}


async def before_received(conn: Connection, since: datetime, rows: int = 5000) -> int:
    """Return the position before the first event received since a time, among the newest `rows`; else the newest."""
    return int(await conn.fetchval(BEFORE_RECEIVED, since, rows))


async def extent(conn: Connection, cursor: int) -> LogExtent:
    row = await conn.fetchrow(EXTENT, cursor)
    assert row is not None
    return LogExtent(row["oldest"], row["newest"], row["deleted_through"], row["holds_cursor"])


async def before_newest(conn: Connection, count: int) -> int:
    """Return the position before the newest `count` events; with 0 the newest position."""
    return int(await conn.fetchval(BEFORE_NEWEST, count))


async def has_unsequenced(conn: Connection) -> bool:
    return bool(await conn.fetchval(HAS_UNSEQUENCED))


async def forget(conn: Connection, before: datetime, limit: int, through: int = 2**63 - 1) -> int:
    """Delete at most `limit` events received before a time, in log order; return the number. For retention.

    Deletes nothing beyond the position `through`, up to which all consumers have read. Readers with a deleted cursor
    get `event: reset`.
    """
    return int(await conn.fetchval(DELETE_OLDEST, before, limit, through))


def add_type(where: Where, type: str | None) -> None:
    """Restrict to an exact type, or to those that begin as `handshake.*` says."""
    prefix = type_prefix(type)
    where.add("type = {}" if prefix is None else "type ^@ {}", type if prefix is None else prefix)
