"""Statements on webhooks and webhook_deliveries."""

from collections.abc import Sequence
from datetime import datetime

import msgspec

from aitp_cp.db import Connection
from aitp_cp.webhooks.model import NewDelivery, Subscriber

# Key-share keeps a concurrent delete of a webhook from breaking the insert of its deliveries.
LOCK_ACTIVE = "SELECT id, events FROM webhooks WHERE active ORDER BY id FOR KEY SHARE"

INSERT_DELIVERIES = """
INSERT INTO webhook_deliveries (id, webhook_id, event_type, payload, body, status, attempts, next_retry_at, created_at)
SELECT id, webhook_id, event_type, payload::jsonb, body, 'pending', 0, $6, $6
FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[])
     AS new (id, webhook_id, event_type, payload, body)
"""


async def lock_active(conn: Connection) -> list[Subscriber]:
    rows = await conn.fetch(LOCK_ACTIVE)
    return [Subscriber(row["id"], frozenset(msgspec.json.decode(row["events"], type=list[str]))) for row in rows]


async def insert_deliveries(conn: Connection, deliveries: Sequence[NewDelivery], now: datetime) -> None:
    await conn.execute(
        INSERT_DELIVERIES,
        [delivery.id for delivery in deliveries],
        [delivery.webhook_id for delivery in deliveries],
        [delivery.event_type for delivery in deliveries],
        [delivery.payload for delivery in deliveries],
        [delivery.body for delivery in deliveries],
        now,
    )
