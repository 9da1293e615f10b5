"""Claiming deliveries: each statement is one transaction, so no two processes send the same attempt.

Lock order: a delivery's row before its webhook's. Whoever holds a webhook's row waits for no delivery.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from uuid import UUID

from aitp_cp.db import Connection, Record
from aitp_cp.webhooks.model import Attempt, Claim, DeliveryStatus
from aitp_cp.webhooks.outbox import body_of

# Rows are locked only of webhooks that get a turn: those with the least in flight here first, then at random, so
# that a long queue delays nobody else's.
_TURNS = """
WITH busy AS (
    SELECT webhook_id, n FROM unnest($6::uuid[], $7::int[]) AS given (webhook_id, n)
), turns AS MATERIALIZED (
    SELECT w.id, $8 - coalesce(busy.n, 0) AS room
    FROM webhooks AS w LEFT JOIN busy ON busy.webhook_id = w.id
    WHERE w.active AND w.breaker_state = 'closed' AND coalesce(busy.n, 0) < $8
      AND EXISTS (
          SELECT 1 FROM webhook_deliveries AS d
          WHERE d.webhook_id = w.id AND d.status NOT IN ('delivered', 'failed')
            AND coalesce(d.lease_until, d.next_retry_at, d.created_at) <= $1
      )
    ORDER BY coalesce(busy.n, 0), random()
    LIMIT $2
), picked AS (
    SELECT due.id
    FROM turns CROSS JOIN LATERAL (
        SELECT d.id FROM webhook_deliveries AS d
        WHERE d.webhook_id = turns.id AND d.status NOT IN ('delivered', 'failed')
          AND coalesce(d.lease_until, d.next_retry_at, d.created_at) <= $1
        ORDER BY coalesce(d.lease_until, d.next_retry_at, d.created_at)
        LIMIT turns.room
        FOR UPDATE SKIP LOCKED
    ) AS due
    ORDER BY row_number() OVER (PARTITION BY turns.id)
    LIMIT $2
)
"""

# The webhook's row is what replicas compete for: whoever turns it half-open sends the one probe. Should that process
# die, the next probe is due when its lease ends.
_PROBES = """
WITH ready AS MATERIALIZED (
    SELECT w.id FROM webhooks AS w
    WHERE w.active AND w.breaker_state <> 'closed' AND w.breaker_next_probe_at <= $1
      AND NOT w.id = ANY($6::uuid[])
    LIMIT $2
    FOR NO KEY UPDATE SKIP LOCKED
), picked AS MATERIALIZED (
    SELECT first.id, ready.id AS webhook_id
    FROM ready CROSS JOIN LATERAL (
        SELECT d.id FROM webhook_deliveries AS d
        WHERE d.webhook_id = ready.id AND d.status NOT IN ('delivered', 'failed')
          AND coalesce(d.lease_until, d.next_retry_at, d.created_at) <= $1
        ORDER BY coalesce(d.lease_until, d.next_retry_at, d.created_at)
        LIMIT 1
        FOR UPDATE SKIP LOCKED
    ) AS first
), half_open AS (
    UPDATE webhooks SET breaker_state = 'half_open', breaker_next_probe_at = $4
    FROM picked WHERE webhooks.id = picked.webhook_id
)
"""

# A row whose process died in its last attempt is not sent again: it has failed. The ids come as an array because a
# join would let the planner read the whole table.
_LEASE = """
UPDATE webhook_deliveries AS d
SET status = CASE WHEN d.attempts < $3 THEN 'in_flight' ELSE 'failed' END,
    attempts = greatest(d.attempts, least(d.attempts + 1, $3)),
    error = CASE WHEN d.attempts < $3 THEN d.error ELSE coalesce(d.error, 'the last attempt was cut short') END,
    next_retry_at = NULL,
    lease_until = CASE WHEN d.attempts < $3 THEN $4::timestamptz END,
    lease_token = CASE WHEN d.attempts < $3 THEN $5::uuid END
FROM webhooks AS w
WHERE d.id = ANY(ARRAY(SELECT id FROM picked)) AND w.id = d.webhook_id
RETURNING d.id, d.webhook_id, d.event_type, d.payload, d.body, d.created_at, d.attempts, d.lease_token, d.status,
          w.url, w.secret
"""

CLAIM_DUE = _TURNS + _LEASE
CLAIM_PROBES = _PROBES + _LEASE

# What waits behind an open breaker comes back spread over a while after the probe. The first stays: it is the probe.
SPREAD_WAITING = """
WITH waiting AS MATERIALIZED (
    SELECT late.id
    FROM webhooks AS w CROSS JOIN LATERAL (
        SELECT d.id FROM webhook_deliveries AS d
        WHERE d.webhook_id = w.id AND d.status NOT IN ('delivered', 'failed')
          AND coalesce(d.lease_until, d.next_retry_at, d.created_at) <= $1
        ORDER BY coalesce(d.lease_until, d.next_retry_at, d.created_at)
        OFFSET 1 LIMIT $2
        FOR UPDATE SKIP LOCKED
    ) AS late
    WHERE w.active AND w.breaker_state = 'open' AND w.breaker_next_probe_at > $1
)
UPDATE webhook_deliveries AS d
SET status = 'pending', lease_until = NULL, lease_token = NULL,
    next_retry_at = w.breaker_next_probe_at + random() * $3::interval
FROM webhooks AS w
WHERE d.id = ANY(ARRAY(SELECT id FROM waiting)) AND w.id = d.webhook_id
"""

NEXT_DUE = """
SELECT min(CASE WHEN w.breaker_state = 'closed' THEN first.due ELSE greatest(first.due, w.breaker_next_probe_at) END)
FROM webhooks AS w CROSS JOIN LATERAL (
    SELECT coalesce(d.lease_until, d.next_retry_at, d.created_at) AS due FROM webhook_deliveries AS d
    WHERE d.webhook_id = w.id AND d.status NOT IN ('delivered', 'failed')
    ORDER BY coalesce(d.lease_until, d.next_retry_at, d.created_at)
    LIMIT 1
) AS first
WHERE w.active AND NOT w.id = ANY($1::uuid[])
"""


async def claim_due(conn: Connection, claim: Claim) -> list[Attempt]:
    """Lease due deliveries of webhooks whose breaker is closed; each counts as an attempt from here on."""
    busy = claim.in_flight
    rows = await conn.fetch(CLAIM_DUE, *_terms(claim), list(busy), list(busy.values()), claim.per_webhook)
    return list(_attempts(rows, probe=False))


async def claim_probes(conn: Connection, claim: Claim) -> list[Attempt]:
    """Lease one delivery of each webhook whose breaker may let a probe through."""
    full = [id for id, n in claim.in_flight.items() if n >= claim.per_webhook]
    return list(_attempts(await conn.fetch(CLAIM_PROBES, *_terms(claim), full), probe=True))


async def spread_waiting(conn: Connection, now: datetime, limit: int, over: timedelta) -> None:
    """Put off at most `limit` due deliveries of each webhook with an open breaker, without spending an attempt."""
    await conn.execute(SPREAD_WAITING, now, limit, over)


async def next_due(conn: Connection, full: Sequence[UUID]) -> datetime | None:
    """When a delivery falls due, a lease ends or a probe is allowed; not of webhooks that are at their limit."""
    moment: datetime | None = await conn.fetchval(NEXT_DUE, full)
    return moment


def _terms(claim: Claim) -> tuple[object, ...]:
    return (claim.now, claim.room, claim.max_attempts, claim.lease_until, claim.lease_token)


def _attempts(rows: Sequence[Record], *, probe: bool) -> Iterator[Attempt]:
    for row in rows:
        if row["status"] == DeliveryStatus.IN_FLIGHT:
            yield Attempt(
                id=row["id"],
                webhook_id=row["webhook_id"],
                event_type=row["event_type"],
                body=_body(row),
                number=row["attempts"],
                url=row["url"],
                secret=row["secret"],
                lease_token=row["lease_token"],
                probe=probe,
            )


def _body(row: Record) -> bytes:
    """An older control plane kept no body in some rows; made of the same columns, it is always the same."""
    if row["body"] is not None:
        return str(row["body"]).encode()
    return body_of(row["id"], row["event_type"], row["payload"].encode(), row["created_at"])
