"""Clears up in batches after deleted and gone webhooks, so that no caller waits for it."""

from datetime import timedelta

from aitp_cp.db import Connection

GRACE = timedelta(minutes=5)  # longer than any transaction that still saw the webhook active

FAIL_UNDELIVERABLE = """
UPDATE webhook_deliveries
SET status = 'failed', error = 'the webhook was deactivated: its receiver answered 410 Gone', next_retry_at = NULL,
    lease_until = NULL, lease_token = NULL
WHERE id = ANY(ARRAY(
    SELECT left_over.id
    FROM webhooks AS w CROSS JOIN LATERAL (
        SELECT d.id FROM webhook_deliveries AS d
        WHERE d.webhook_id = w.id AND d.status NOT IN ('delivered', 'failed')
          AND (d.lease_until IS NULL OR d.lease_until <= now())
        LIMIT $1
        FOR UPDATE SKIP LOCKED
    ) AS left_over
    WHERE NOT w.active AND w.deactivated_reason = 'gone'
    LIMIT $1
))
"""

DELETE_LEFT_OVER = """
DELETE FROM webhook_deliveries
WHERE id = ANY(ARRAY(
    SELECT left_over.id
    FROM webhooks AS w CROSS JOIN LATERAL (
        SELECT d.id FROM webhook_deliveries AS d
        WHERE d.webhook_id = w.id
        ORDER BY d.created_at DESC
        LIMIT $1
        FOR UPDATE SKIP LOCKED
    ) AS left_over
    WHERE w.deleted_at IS NOT NULL
    LIMIT $1
))
"""

DELETE_WEBHOOKS = """
DELETE FROM webhooks AS w
WHERE w.deleted_at < now() - $1::interval
  AND NOT EXISTS (SELECT 1 FROM webhook_deliveries AS d WHERE d.webhook_id = w.id)
"""


async def fail_undeliverable(conn: Connection, limit: int) -> int:
    """Fail deliveries that wait for a webhook whose receiver is gone; return how many."""
    return _count(await conn.execute(FAIL_UNDELIVERABLE, limit))


async def delete_left_over(conn: Connection, limit: int) -> int:
    """Delete deliveries of deleted webhooks; return how many."""
    return _count(await conn.execute(DELETE_LEFT_OVER, limit))


async def delete_webhooks(conn: Connection) -> None:
    """Delete for good the webhooks that were deleted a while ago and have no deliveries left."""
    await conn.execute(DELETE_WEBHOOKS, GRACE)


def _count(tag: str) -> int:
    return int(tag.rpartition(" ")[2])
