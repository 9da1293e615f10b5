"""Statements on webhooks as subscriptions; what their deliveries do with them is in `deliveries`."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import msgspec

from aitp_cp.db import Connection, Where
from aitp_cp.db.keyset import Window
from aitp_cp.db.pages import LONG_PAGE_BYTES, json_size
from aitp_cp.db.views import View
from aitp_cp.deliveries.model import event_types
from aitp_cp.webhooks.model import ORDER, BreakerView, Broken, WebhookList, WebhookView


def _epoch_ms(moment: datetime | None) -> int | None:
    return None if moment is None else round(moment.timestamp() * 1000)


WEBHOOK = View(WebhookView, convert={"events": event_types})

COUNT = "SELECT count(*) FROM webhooks WHERE deleted_at IS NULL"

INSERT = f"""
INSERT INTO webhooks (id, url, events, active, secret, sees_after, created_after, created_at, updated_at)
VALUES ($1, $2, $3::jsonb, $4, $5, $6, $6, $7, $7)
RETURNING {WEBHOOK.sql}
"""

# 300 bytes are the limit of all other members.
LIST = ORDER.list(
    WEBHOOK.sql,
    "webhooks",
    size=f"300 + {json_size('url')} + octet_length(events::text)",
    most=LONG_PAGE_BYTES,
)

FIND = f"SELECT {WEBHOOK.sql} FROM webhooks WHERE id = $1 AND deleted_at IS NULL"

LOCK = f"{FIND} FOR NO KEY UPDATE"

REPLACE = f"""
UPDATE webhooks
SET url = $2, events = $3::jsonb, active = $4, secret = coalesce($5, secret), updated_at = $7,
    deactivated_reason = CASE WHEN $4 THEN NULL ELSE deactivated_reason END,
    sees_after = CASE WHEN $4 AND NOT active THEN $6 ELSE sees_after END
WHERE id = $1
RETURNING {WEBHOOK.sql}
"""

# Nobody can see the webhook or send its deliveries from here on; a job deletes the rows in batches.
MARK_DELETED = """
UPDATE webhooks
SET deleted_at = now(), active = false, url = '', secret = '', breaker_state = 'closed'
WHERE id = $1
"""

BREAKER = View(
    BreakerView,
    {
        "state": "breaker_state",
        "failures": "breaker_failures",
        "consecutive_successes": "breaker_successes",
        "opened_at": "breaker_opened_at",
        "next_probe_at": "breaker_next_probe_at",
    },
    convert={"opened_at": _epoch_ms, "next_probe_at": _epoch_ms},
)

COUNT_BREAKERS = "SELECT breaker_state, count(*) FROM webhooks WHERE deleted_at IS NULL GROUP BY breaker_state"

BROKEN = """
SELECT id, breaker_failures AS failures, breaker_opened_at AS opened_at, breaker_next_probe_at AS next_probe_at
FROM webhooks WHERE deleted_at IS NULL AND active AND breaker_state <> 'closed'
ORDER BY breaker_opened_at, id LIMIT $1
"""

FIND_BREAKER = f"SELECT {BREAKER.sql} FROM webhooks WHERE id = $1 AND deleted_at IS NULL"

RESET_BREAKER = f"""
UPDATE webhooks
SET breaker_state = 'closed', breaker_failures = 0, breaker_successes = 0,
    breaker_opened_at = NULL, breaker_next_probe_at = NULL
WHERE id = $1 AND deleted_at IS NULL
RETURNING {BREAKER.sql}
"""


async def broken(conn: Connection, limit: int) -> list[Broken]:
    """Return active webhooks whose breaker is not closed, the one that opened first first."""
    return [Broken(**row) for row in await conn.fetch(BROKEN, limit)]


async def count(conn: Connection) -> int:
    return int(await conn.fetchval(COUNT))


async def insert(conn: Connection, webhook: WebhookView, secret: str, sees_after: int, now: datetime) -> WebhookView:
    """Store a webhook that receives the events behind a position of the log."""
    row = await conn.fetchrow(INSERT, *_values(webhook), secret, sees_after, now)
    assert row is not None
    return WEBHOOK.read(row)


async def list_webhooks(conn: Connection, window: Window) -> WebhookList:
    """Oldest first."""
    where = Where()
    where.always("deleted_at IS NULL")
    page = await ORDER.fetch(conn, LIST, where, window)
    return WebhookList([WEBHOOK.read(row) for row in page.rows], page.next_before)


async def find(conn: Connection, id: UUID) -> WebhookView | None:
    return WEBHOOK.find(await conn.fetchrow(FIND, id))


async def lock(conn: Connection, id: UUID) -> WebhookView | None:
    return WEBHOOK.find(await conn.fetchrow(LOCK, id))


async def replace(
    conn: Connection, webhook: WebhookView, secret: str | None, position: int, now: datetime
) -> WebhookView:
    """Store a locked webhook's members; None keeps the secret. A reactivated one receives what follows `position`."""
    row = await conn.fetchrow(REPLACE, *_values(webhook), secret, position, now)
    assert row is not None
    return WEBHOOK.read(row)


async def mark_deleted(conn: Connection, id: UUID) -> None:
    await conn.execute(MARK_DELETED, id)


async def count_breakers(conn: Connection) -> dict[str, int]:
    """Count the webhooks by the state of their breaker."""
    return {row["breaker_state"]: row["count"] for row in await conn.fetch(COUNT_BREAKERS)}


async def find_breaker(conn: Connection, id: UUID) -> BreakerView | None:
    return BREAKER.find(await conn.fetchrow(FIND_BREAKER, id))


async def reset_breaker(conn: Connection, id: UUID) -> BreakerView | None:
    """Close the breaker; None when there is no such webhook."""
    return BREAKER.find(await conn.fetchrow(RESET_BREAKER, id))


def _values(webhook: WebhookView) -> Sequence[object]:
    return webhook.id, webhook.url, msgspec.json.encode(webhook.events).decode(), webhook.active
