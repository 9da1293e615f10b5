"""Statements on webhooks and their deliveries as an outbox and a log; the dispatcher has its own."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import msgspec

from aitp_cp.clock import iso, iso_or_none
from aitp_cp.db import Connection, Record, Where
from aitp_cp.db.keyset import Window
from aitp_cp.db.pages import json_bytes, within_bytes
from aitp_cp.webhooks.model import (
    DELIVERY_ORDER,
    ORDER,
    BreakerView,
    Cursor,
    DeliveryPage,
    DeliveryView,
    NewDelivery,
    Subscriber,
    Webhook,
    epoch_ms,
)

# Key-share keeps a concurrent delete of a webhook from breaking the insert of its deliveries.
LOCK_ACTIVE = (
    "SELECT id, events, coalesce(sees_after, 0) AS sees_after FROM webhooks WHERE active ORDER BY id FOR KEY SHARE"
)

# Due in the order in which they are given: a microsecond apart.
INSERT_DELIVERIES = """
INSERT INTO webhook_deliveries
    (id, webhook_id, event_type, payload, body, event_id, event_seq, status, attempts, next_retry_at, created_at)
SELECT id, webhook_id, event_type, payload::jsonb, body, event_id, event_seq, 'pending', 0,
       now() + place * interval '1 microsecond', $8
FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::uuid[], $7::bigint[])
     WITH ORDINALITY AS new (id, webhook_id, event_type, payload, body, event_id, event_seq, place)
ON CONFLICT (event_id, webhook_id) DO NOTHING
"""

CURSOR = """
SELECT enqueued_through AS through, moved_at, date_trunc('milliseconds', now()) AS now,
       (SELECT count(*) FROM webhooks WHERE active) AS webhooks
FROM webhook_outbox
"""

HOLD_CURSOR = f"{CURSOR} FOR UPDATE OF webhook_outbox SKIP LOCKED"

BEGIN_CURSOR = "INSERT INTO webhook_outbox (enqueued_through) VALUES ($1) ON CONFLICT DO NOTHING"

MOVE_CURSOR = "UPDATE webhook_outbox SET enqueued_through = $1, moved_at = now()"

WEBHOOK = "id, url, events, active, created_at, updated_at"

COUNT = "SELECT count(*) FROM webhooks WHERE deleted_at IS NULL"

INSERT = f"""
INSERT INTO webhooks (id, url, events, secret, active, created_at, updated_at, sees_after)
VALUES ($1, $2, $3::jsonb, $4, $5, $6, $6, $7)
RETURNING {WEBHOOK}
"""

LIST = f"SELECT {WEBHOOK} FROM webhooks WHERE {{where}} ORDER BY {ORDER.sql} LIMIT {{limit}} OFFSET {{offset}}"

FIND = f"SELECT {WEBHOOK} FROM webhooks WHERE id = $1 AND deleted_at IS NULL"

LOCK = f"{FIND} FOR NO KEY UPDATE"

REPLACE = f"""
UPDATE webhooks
SET url = $2, events = $3::jsonb, secret = coalesce($4, secret), active = $5, updated_at = $6,
    deactivated_reason = CASE WHEN $5 THEN NULL ELSE deactivated_reason END,
    sees_after = CASE WHEN $5 AND NOT active THEN $7 ELSE sees_after END
WHERE id = $1
RETURNING {WEBHOOK}
"""

# Its thousands of deliveries go later, in batches; nobody can see or send them from here on.
MARK_DELETED = """
UPDATE webhooks
SET deleted_at = now(), active = false, url = '', secret = '', breaker_state = 'closed'
WHERE id = $1 AND deleted_at IS NULL
RETURNING true
"""

BREAKER = "breaker_state, breaker_failures, breaker_successes, breaker_opened_at, breaker_next_probe_at"

FIND_BREAKER = f"SELECT {BREAKER} FROM webhooks WHERE id = $1 AND deleted_at IS NULL"

RESET_BREAKER = f"""
UPDATE webhooks
SET breaker_state = 'closed', breaker_failures = 0, breaker_successes = 0,
    breaker_opened_at = NULL, breaker_next_probe_at = NULL
WHERE id = $1 AND deleted_at IS NULL
RETURNING {BREAKER}
"""

DELIVERY = "id, event_type, status, attempts, status_code, error, created_at, delivered_at, next_retry_at"

# 600 is for the members that are bounded.
DELIVERIES = within_bytes(
    f"""
    SELECT {DELIVERY} FROM webhook_deliveries
    WHERE {{where}}
    ORDER BY {DELIVERY_ORDER.sql}
    LIMIT {{limit}} OFFSET {{offset}}
    """,
    columns=DELIVERY,
    size=f"600 + coalesce({json_bytes('error')}, 0)",
    order=DELIVERY_ORDER.sql,
)

FIND_DELIVERY = f"SELECT {DELIVERY} FROM webhook_deliveries WHERE id = $1 AND webhook_id = $2"

FAIL = "UPDATE webhook_deliveries SET status = 'failed', error = $2, next_retry_at = NULL WHERE id = $1"

# One that is being sent at this moment stays as it is: its result is about to be recorded.
SEND_AGAIN = f"""
UPDATE webhook_deliveries
SET status = 'pending', attempts = 0, next_retry_at = now(), status_code = NULL, error = NULL, delivered_at = NULL,
    lease_until = NULL, lease_token = NULL
WHERE id = $1 AND webhook_id = $2 AND (lease_until IS NULL OR lease_until <= now())
RETURNING {DELIVERY}
"""


async def cursor(conn: Connection) -> Cursor | None:
    """None where somebody deleted it."""
    row = await conn.fetchrow(CURSOR)
    return None if row is None else Cursor(*row)


async def hold_cursor(conn: Connection) -> Cursor | None:
    """The cursor, locked to the end of the transaction; None while another process holds it."""
    row = await conn.fetchrow(HOLD_CURSOR)
    return None if row is None else Cursor(*row)


async def begin_cursor(conn: Connection, through: int) -> None:
    """Make the row, unless there is one."""
    await conn.execute(BEGIN_CURSOR, through)


async def move_cursor(conn: Connection, through: int) -> None:
    await conn.execute(MOVE_CURSOR, through)


async def lock_active(conn: Connection) -> list[Subscriber]:
    rows = await conn.fetch(LOCK_ACTIVE)
    return [Subscriber(row["id"], frozenset(_events(row["events"])), row["sees_after"]) for row in rows]


async def insert_deliveries(conn: Connection, deliveries: Sequence[NewDelivery], now: datetime) -> None:
    """Rows that are due at once, in this order; what has a row already is left alone."""
    await conn.execute(
        INSERT_DELIVERIES,
        [delivery.id for delivery in deliveries],
        [delivery.webhook_id for delivery in deliveries],
        [delivery.event_type for delivery in deliveries],
        [delivery.payload for delivery in deliveries],
        [delivery.body for delivery in deliveries],
        [delivery.event_id for delivery in deliveries],
        [delivery.event_seq for delivery in deliveries],
        now,
    )


async def count(conn: Connection) -> int:
    return int(await conn.fetchval(COUNT))


async def insert(conn: Connection, webhook: Webhook, secret: str, sees_after: int) -> Webhook:
    """Store a webhook that sees what comes after a position of the log."""
    values = (webhook.id, webhook.url, _json(webhook.events), secret, webhook.active, webhook.created_at)
    row = await conn.fetchrow(INSERT, *values, sees_after)
    assert row is not None
    return _webhook(row)


async def list_webhooks(conn: Connection, window: Window) -> tuple[list[Webhook], str | msgspec.UnsetType]:
    """A page, and the cursor of the next one."""
    where = Where()
    where.always("deleted_at IS NULL")
    ORDER.restrict(where, window.before)
    statement = LIST.format(where=where.sql(), limit=where.bind(window.rows), offset=where.bind(window.offset))
    page = ORDER.page(await conn.fetch(statement, *where.args), window)
    return [_webhook(row) for row in page.rows], page.next_before


async def find(conn: Connection, id: UUID) -> Webhook | None:
    row = await conn.fetchrow(FIND, id)
    return None if row is None else _webhook(row)


async def lock(conn: Connection, id: UUID) -> Webhook | None:
    row = await conn.fetchrow(LOCK, id)
    return None if row is None else _webhook(row)


async def replace(conn: Connection, webhook: Webhook, secret: str | None, position: int) -> Webhook:
    """Store a webhook's members; without a secret the old one stays. Reactivated it sees what follows `position`."""
    values = (webhook.id, webhook.url, _json(webhook.events), secret, webhook.active, webhook.updated_at)
    row = await conn.fetchrow(REPLACE, *values, position)
    assert row is not None
    return _webhook(row)


async def mark_deleted(conn: Connection, id: UUID) -> bool:
    """Whether there was such a webhook."""
    return bool(await conn.fetchval(MARK_DELETED, id))


async def find_breaker(conn: Connection, id: UUID) -> BreakerView | None:
    row = await conn.fetchrow(FIND_BREAKER, id)
    return None if row is None else _breaker(row)


async def reset_breaker(conn: Connection, id: UUID) -> BreakerView | None:
    row = await conn.fetchrow(RESET_BREAKER, id)
    return None if row is None else _breaker(row)


async def deliveries(conn: Connection, webhook_id: UUID, status: str | None, window: Window) -> DeliveryPage:
    where = Where()
    where.add("webhook_id = {}", webhook_id)
    where.add("status = {}", status)
    DELIVERY_ORDER.restrict(where, window.before)
    statement = DELIVERIES.format(where=where.sql(), limit=where.bind(window.rows), offset=where.bind(window.offset))
    page = DELIVERY_ORDER.page(await conn.fetch(statement, *where.args), window)
    return DeliveryPage([_delivery(row) for row in page.rows], len(page.rows), page.next_before)


async def find_delivery(conn: Connection, webhook_id: UUID, id: UUID) -> DeliveryView | None:
    row = await conn.fetchrow(FIND_DELIVERY, id, webhook_id)
    return None if row is None else _delivery(row)


async def fail(conn: Connection, id: UUID, error: str) -> None:
    """End a delivery that nobody has leased, before any attempt."""
    await conn.execute(FAIL, id, error)


async def send_again(conn: Connection, webhook_id: UUID, id: UUID) -> DeliveryView | None:
    """Make a delivery due with all its attempts before it; None when there is none or it is being sent."""
    row = await conn.fetchrow(SEND_AGAIN, id, webhook_id)
    return None if row is None else _delivery(row)


def _json(events: Sequence[str]) -> str:
    return msgspec.json.encode(events).decode()


def _events(text: str) -> list[str]:
    """Whatever an older control plane stored: what is no list of types stands for all of them."""
    found = msgspec.json.decode(text)
    return [event for event in found if isinstance(event, str)] if isinstance(found, list) else []


def _webhook(row: Record) -> Webhook:
    return Webhook(row["id"], row["url"], _events(row["events"]), row["active"], row["created_at"], row["updated_at"])


def _breaker(row: Record) -> BreakerView:
    state, failures, successes, opened_at, next_probe_at = row
    return BreakerView(state, failures, successes, epoch_ms(opened_at), epoch_ms(next_probe_at))


def _delivery(row: Record) -> DeliveryView:
    return DeliveryView(
        id=row["id"],
        event_type=row["event_type"],
        status=row["status"],
        attempts=row["attempts"],
        status_code=row["status_code"],
        error=row["error"],
        created_at=iso(row["created_at"]),
        delivered_at=iso_or_none(row["delivered_at"]),
        next_retry_at=iso_or_none(row["next_retry_at"]),
    )
