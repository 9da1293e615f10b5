"""How a webhook fares: what became of its deliveries lately, how fast its receiver is, and what waits."""

from collections.abc import Mapping, Sequence
from uuid import UUID

import msgspec

from aitp_cp.clock import iso_or_none
from aitp_cp.db import Connection, Record
from aitp_cp.errors import existing

MAX_COUNTED = 10_001
SAMPLE = 500  # newest deliveries whose attempts are measured: a few milliseconds
# For each of many webhooks at once.
LIST_MAX_COUNTED, LIST_SAMPLE = 1001, 50

# $1 webhooks, $2 the most rows to count of each kind, $3 newest deliveries to measure.
OUTCOMES = """
SELECT w.id, kind.status, kind.name,
       (SELECT count(*) FROM (
            SELECT 1 FROM webhook_deliveries AS d
            WHERE d.webhook_id = w.id AND d.status = kind.status
              AND d.created_at >= coalesce(now() - kind.age, '-infinity')
            LIMIT $2
        ) AS counted) AS count
FROM unnest($1::uuid[]) AS w (id)
CROSS JOIN (VALUES
    ('delivered', 'hour', interval '1 hour'), ('failed', 'hour', interval '1 hour'),
    ('pending', 'hour', interval '1 hour'), ('in_flight', 'hour', interval '1 hour'),
    ('delivered', 'day', interval '1 day'), ('failed', 'day', interval '1 day'),
    ('pending', 'day', interval '1 day'), ('in_flight', 'day', interval '1 day'),
    ('pending', 'ever', NULL), ('in_flight', 'ever', NULL)
) AS kind (status, name, age)
"""

STATE = """
SELECT w.id, w.active, w.deactivated_reason, w.breaker_state, w.breaker_failures, w.breaker_opened_at,
       w.breaker_next_probe_at, oldest.created_at AS oldest_waiting_at, speed.p95_ms
FROM webhooks AS w
CROSS JOIN LATERAL (
    SELECT min(first.created_at) AS created_at
    FROM (VALUES ('pending'), ('in_flight')) AS kind (status)
    CROSS JOIN LATERAL (
        SELECT d.created_at FROM webhook_deliveries AS d
        WHERE d.webhook_id = w.id AND d.status = kind.status
        ORDER BY d.created_at
        LIMIT 1
    ) AS first
) AS oldest
CROSS JOIN LATERAL (
    SELECT percentile_disc(0.95) WITHIN GROUP (ORDER BY a.ms) AS p95_ms
    FROM (
        SELECT d.id FROM webhook_deliveries AS d
        WHERE d.webhook_id = w.id AND d.created_at >= now() - interval '1 day'
        ORDER BY d.created_at DESC
        LIMIT $2
    ) AS newest
    -- The limit keeps the planner from reading the whole table for a hash.
    CROSS JOIN LATERAL (
        SELECT t.ms FROM webhook_attempts AS t WHERE t.delivery_id = newest.id ORDER BY t.n DESC LIMIT 20
    ) AS a
) AS speed
WHERE w.id = ANY($1::uuid[]) AND w.deleted_at IS NULL
"""


class Outcomes(msgspec.Struct, frozen=True):
    """What became of the deliveries created in a span of time; each count ends at 10,001."""

    delivered: int
    failed: int
    waiting: int


class WebhookHealth(msgspec.Struct, frozen=True, rename="camel"):
    """`waiting` counts the deliveries of any age that are not finished; `p95Ms` is of the newest attempts of a day.

    `deactivatedReason` is `gone` where the receiver answered 410.
    """

    active: bool
    deactivated_reason: str | None
    breaker: str
    failures: int
    opened_at: str | None
    next_probe_at: str | None
    last_hour: Outcomes
    last_day: Outcomes
    waiting: int
    oldest_waiting_at: str | None
    p95_ms: int | None


async def of_webhook(conn: Connection, id: UUID) -> WebhookHealth:
    """Return the health of one webhook; raises `NotFound`."""
    healths = await of_webhooks(conn, [id], most=MAX_COUNTED, sample=SAMPLE)
    return existing(healths.get(id), "no such webhook")


async def of_webhooks(
    conn: Connection, ids: Sequence[UUID], *, most: int = LIST_MAX_COUNTED, sample: int = LIST_SAMPLE
) -> dict[UUID, WebhookHealth]:
    """Return the health of many webhooks in two statements; counts end at `most`."""
    rows = await conn.fetch(STATE, ids, sample)
    counts: dict[UUID, dict[tuple[str, str], int]] = {}
    for row in await conn.fetch(OUTCOMES, ids, most):
        counts.setdefault(row["id"], {})[row["name"], row["status"]] = row["count"]
    return {row["id"]: _health(row, counts[row["id"]], most) for row in rows}


def _health(row: Record, counts: Mapping[tuple[str, str], int], most: int) -> WebhookHealth:
    def waiting(span: str) -> int:
        return min(counts[span, "pending"] + counts[span, "in_flight"], most)

    def outcomes(span: str) -> Outcomes:
        return Outcomes(counts[span, "delivered"], counts[span, "failed"], waiting(span))

    return WebhookHealth(
        active=row["active"],
        deactivated_reason=row["deactivated_reason"],
        breaker=row["breaker_state"],
        failures=row["breaker_failures"],
        opened_at=iso_or_none(row["breaker_opened_at"]),
        next_probe_at=iso_or_none(row["breaker_next_probe_at"]),
        last_hour=outcomes("hour"),
        last_day=outcomes("day"),
        waiting=waiting("ever"),
        oldest_waiting_at=iso_or_none(row["oldest_waiting_at"]),
        p95_ms=row["p95_ms"],
    )
