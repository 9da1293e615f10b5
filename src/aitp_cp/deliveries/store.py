"""Statements on the outbox and the delivery log; the queue's are in `queue` and `results`."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import msgspec

from aitp_cp.db import Connection, Where
from aitp_cp.db.keyset import Window
from aitp_cp.db.pages import json_size
from aitp_cp.db.sweep import OldRows
from aitp_cp.db.views import View
from aitp_cp.deliveries.model import (
    ORDER,
    Cursor,
    DeliveryFilter,
    DeliveryPage,
    DeliveryStatus,
    DeliveryView,
    NewDelivery,
    RequestView,
    Subscriber,
    event_types,
)
from aitp_cp.events import positions

CURSOR = """
SELECT enqueued_through AS through, moved_at, date_trunc('milliseconds', now()) AS now,
       (SELECT count(*) FROM webhooks WHERE active) AS webhooks
FROM webhook_outbox
"""

HOLD_CURSOR = f"{CURSOR} FOR UPDATE OF webhook_outbox SKIP LOCKED"

BEGIN_CURSOR = "INSERT INTO webhook_outbox (enqueued_through) VALUES ($1) ON CONFLICT DO NOTHING"

MOVE_CURSOR = "UPDATE webhook_outbox SET enqueued_through = $1, moved_at = now()"

# Key-share keeps a concurrent delete of a webhook from breaking the insert of its deliveries.
LOCK_ACTIVE = (
    "SELECT id, events, coalesce(sees_after, 0) AS sees_after FROM webhooks WHERE active ORDER BY id FOR KEY SHARE"
)

# Deliveries fall due a microsecond apart, so a webhook gets them in the order of these arrays.
INSERT_DELIVERIES = """
INSERT INTO webhook_deliveries
    (id, webhook_id, event_type, payload, body, event_id, event_seq, status, attempts, next_retry_at, created_at)
SELECT id, webhook_id, event_type, payload::jsonb, body, event_id, event_seq, 'pending', 0,
       now() + place * interval '1 microsecond', $8
FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::uuid[], $7::bigint[])
     WITH ORDINALITY AS new (id, webhook_id, event_type, payload, body, event_id, event_seq, place)
ON CONFLICT (event_id, webhook_id) DO NOTHING
"""

# Where a webhook's events begin, whenever it was paused since; what an older version created has no such position.
SUBSCRIBER = """
SELECT id, events, created_after, created_at FROM webhooks WHERE id = $1 AND deleted_at IS NULL FOR KEY SHARE
"""

DELIVERED_EVENTS = "SELECT event_id FROM webhook_deliveries WHERE webhook_id = $1 AND event_id = ANY($2::uuid[])"

WEBHOOK_IS_ACTIVE = "SELECT active FROM webhooks WHERE id = $1 AND deleted_at IS NULL"

DELIVERY = View(DeliveryView)

# 600 bytes are the limit of all members but `error`.
LIST = ORDER.list(DELIVERY.sql, "webhook_deliveries", size=f"600 + {json_size('error')}")

FIND = f"SELECT {DELIVERY.sql} FROM webhook_deliveries WHERE id = $1 AND webhook_id = $2"

WEBHOOK_OF = "SELECT webhook_id FROM webhook_deliveries WHERE id = $1"

FIND_REQUEST = """
SELECT coalesce(body, payload::text) AS body, event_id, event_seq FROM webhook_deliveries
WHERE id = $1 AND webhook_id = $2
"""

FAIL = "UPDATE webhook_deliveries SET status = 'failed', error = $2, next_retry_at = NULL WHERE id = $1"

COUNT_UNFINISHED = "SELECT count(*) FROM webhook_deliveries WHERE status NOT IN ('delivered', 'failed')"

COUNT_OF_EVENT = "SELECT status, count(*) AS count FROM webhook_deliveries WHERE event_id = $1 GROUP BY status"

COUNT_BY_STATUS = """
SELECT kind.status, (
    SELECT count(*) FROM (SELECT 1 FROM webhook_deliveries AS d WHERE d.status = kind.status LIMIT $2) AS sample
) AS count
FROM unnest($1::text[]) AS kind (status)
"""

FINISHED = OldRows("webhook_deliveries", "created_at", "status IN ('delivered', 'failed')")

OLDEST_DUE = """
SELECT min(due) FROM webhooks AS w CROSS JOIN LATERAL (
    SELECT coalesce(lease_until, next_retry_at, created_at) AS due FROM webhook_deliveries
    WHERE webhook_id = w.id AND status NOT IN ('delivered', 'failed')
    ORDER BY coalesce(lease_until, next_retry_at, created_at) LIMIT 1
) AS first
WHERE w.active AND w.deleted_at IS NULL AND w.breaker_state = 'closed'
"""


async def count_unfinished(conn: Connection) -> int:
    """Count the deliveries that are queued or in flight."""
    return int(await conn.fetchval(COUNT_UNFINISHED))


async def oldest_due(conn: Connection) -> datetime | None:
    """Return since when a delivery is due that no breaker holds back; None when none waits."""
    due: datetime | None = await conn.fetchval(OLDEST_DUE)
    return due


async def count_by_status(conn: Connection, limit: int) -> dict[str, int]:
    """Count the deliveries of each status, up to `limit`."""
    return {row["status"]: row["count"] for row in await conn.fetch(COUNT_BY_STATUS, list(DeliveryStatus), limit)}


async def count_of_event(conn: Connection, event_id: UUID) -> dict[str, int]:
    """Count the deliveries of one event by status."""
    return {row["status"]: row["count"] for row in await conn.fetch(COUNT_OF_EVENT, event_id)}


async def cursor(conn: Connection) -> Cursor | None:
    """Return the cursor; None where somebody deleted it."""
    row = await conn.fetchrow(CURSOR)
    return None if row is None else Cursor(**row)


async def hold_cursor(conn: Connection) -> Cursor | None:
    """Lock the cursor to the end of the transaction; None while another process holds it."""
    row = await conn.fetchrow(HOLD_CURSOR)
    return None if row is None else Cursor(**row)


async def begin_cursor(conn: Connection, through: int) -> None:
    """Insert the cursor, unless there is one."""
    await conn.execute(BEGIN_CURSOR, through)


async def move_cursor(conn: Connection, through: int) -> None:
    await conn.execute(MOVE_CURSOR, through)


async def lock_active(conn: Connection) -> list[Subscriber]:
    rows = await conn.fetch(LOCK_ACTIVE)
    return [Subscriber(row["id"], frozenset(event_types(row["events"])), row["sees_after"]) for row in rows]


async def subscriber(conn: Connection, webhook_id: UUID) -> Subscriber | None:
    """Return a webhook, active or not, with the position of its creation; locks it against deletion."""
    row = await conn.fetchrow(SUBSCRIBER, webhook_id)
    if row is None:
        return None
    created = row["created_after"]
    begins = await positions.before(conn, row["created_at"]) if created is None else created
    return Subscriber(row["id"], frozenset(event_types(row["events"])), begins)


async def delivered_events(conn: Connection, webhook_id: UUID, event_ids: Sequence[UUID]) -> set[UUID]:
    """Return which of these events have a delivery to the webhook."""
    return {row["event_id"] for row in await conn.fetch(DELIVERED_EVENTS, webhook_id, event_ids)}


async def insert_deliveries(conn: Connection, deliveries: Sequence[NewDelivery], now: datetime) -> None:
    """Insert deliveries that are due at once, in this order; an event's delivery to a webhook is inserted once."""
    columns = zip(*map(msgspec.structs.astuple, deliveries), strict=True)
    await conn.execute(INSERT_DELIVERIES, *map(list, columns), now)


async def webhook_is_active(conn: Connection, webhook_id: UUID) -> bool | None:
    """Tell whether a webhook is active; None when there is no such webhook."""
    active: bool | None = await conn.fetchval(WEBHOOK_IS_ACTIVE, webhook_id)
    return active


async def list_deliveries(conn: Connection, webhook_id: UUID, filter: DeliveryFilter, window: Window) -> DeliveryPage:
    """List a webhook's deliveries, newest first."""
    page = await ORDER.fetch(conn, LIST, narrowed(webhook_id, filter), window)
    return DeliveryPage([DELIVERY.read(row) for row in page.rows], len(page.rows), page.next_before)


def narrowed(webhook_id: UUID, filter: DeliveryFilter) -> Where:
    """Return the conditions of a filter on webhook_deliveries."""
    where, codes = Where(), filter.codes
    where.add("webhook_id = {}", webhook_id)
    where.add("id = ANY({}::uuid[])", filter.ids)
    where.add("status = {}", filter.status)
    where.add("event_type = {}", filter.type)
    where.add("created_at >= {}", filter.since)
    where.add("created_at <= {}", filter.until)
    if codes is not None:
        where.add("status_code >= {}", codes.low)
        where.add("status_code <= {}", codes.high)
        if codes.low is None:
            where.always("status_code IS NULL AND attempts > 0")
    return where


async def find(conn: Connection, webhook_id: UUID, id: UUID) -> DeliveryView | None:
    return DELIVERY.find(await conn.fetchrow(FIND, id, webhook_id))


async def webhook_of(conn: Connection, id: UUID) -> UUID | None:
    """Return the webhook of a delivery, None for an unknown one."""
    webhook_id: UUID | None = await conn.fetchval(WEBHOOK_OF, id)
    return webhook_id


async def find_request(conn: Connection, webhook_id: UUID, id: UUID) -> RequestView | None:
    """Return what a delivery sends."""
    row = await conn.fetchrow(FIND_REQUEST, id, webhook_id)
    return None if row is None else RequestView(**row)


async def fail(conn: Connection, id: UUID, error: str) -> None:
    """Fail a delivery that nobody has leased, before its first attempt."""
    await conn.execute(FAIL, id, error)
