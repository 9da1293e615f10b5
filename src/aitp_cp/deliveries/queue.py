"""Claiming deliveries: each statement is one transaction, so no two processes send the same attempt.

Due times and leases are compared with the database's clock only: the clocks of processes differ.
Lock order: a delivery's row before its webhook's. Whoever holds a webhook's row waits for no delivery.
"""

from collections.abc import Iterator, Sequence
from datetime import timedelta
from uuid import UUID

from aitp_cp.db import Connection, Record
from aitp_cp.deliveries.model import Attempt, Claim, DeliveryStatus
from aitp_cp.deliveries.outbox import body_of

# Rows are locked only of webhooks that get a turn: those with the least in flight here first, then at random, so
# that a long queue delays nobody else's.
_TURNS = """
WITH busy AS (
    SELECT webhook_id, n FROM unnest($5::uuid[], $6::int[]) AS given (webhook_id, n)
), turns AS MATERIALIZED (
    SELECT w.id, $7 - coalesce(busy.n, 0) AS room
    FROM webhooks AS w LEFT JOIN busy ON busy.webhook_id = w.id
    WHERE w.active AND w.breaker_state = 'closed' AND coalesce(busy.n, 0) < $7
      AND EXISTS (
          SELECT 1 FROM webhook_deliveries AS d
          WHERE d.webhook_id = w.id AND d.status NOT IN ('delivered', 'failed')
            AND coalesce(d.lease_until, d.next_retry_at, d.created_at) <= now()
      )
    ORDER BY coalesce(busy.n, 0), random()
    LIMIT $1
), picked AS (
    SELECT due.id
    FROM turns CROSS JOIN LATERAL (
        SELECT d.id FROM webhook_deliveries AS d
        WHERE d.webhook_id = turns.id AND d.status NOT IN ('delivered', 'failed')
          AND coalesce(d.lease_until, d.next_retry_at, d.created_at) <= now()
        ORDER BY coalesce(d.lease_until, d.next_retry_at, d.created_at)
        LIMIT turns.room
        FOR UPDATE SKIP LOCKED
    ) AS due
    ORDER BY row_number() OVER (PARTITION BY turns.id)
    LIMIT $1
)
"""

# The webhook's row is what replicas compete for: whoever turns it half-open sends the one probe. Should that process
# die, the next probe is due when its lease ends. A webhook takes one of the places only with something to send, and
# the one that has waited longest is first: otherwise some would never be probed.
_PROBES = """
WITH ready AS MATERIALIZED (
    SELECT w.id FROM webhooks AS w
    WHERE w.active AND w.breaker_state <> 'closed' AND coalesce(w.breaker_next_probe_at <= now(), true)
      AND NOT w.id = ANY($5::uuid[])
      AND EXISTS (
          SELECT 1 FROM webhook_deliveries AS d
          WHERE d.webhook_id = w.id AND d.status NOT IN ('delivered', 'failed') AND d.attempts < $2
            AND coalesce(d.lease_until, d.next_retry_at, d.created_at) <= now()
      )
    ORDER BY w.breaker_next_probe_at NULLS FIRST
    LIMIT $1
    FOR NO KEY UPDATE SKIP LOCKED
), picked AS MATERIALIZED (
    SELECT first.id, ready.id AS webhook_id
    FROM ready CROSS JOIN LATERAL (
        SELECT d.id FROM webhook_deliveries AS d
        WHERE d.webhook_id = ready.id AND d.status NOT IN ('delivered', 'failed') AND d.attempts < $2
          AND coalesce(d.lease_until, d.next_retry_at, d.created_at) <= now()
        ORDER BY coalesce(d.lease_until, d.next_retry_at, d.created_at)
        LIMIT 1
        FOR UPDATE SKIP LOCKED
    ) AS first
), half_open AS (
    UPDATE webhooks SET breaker_state = 'half_open', breaker_next_probe_at = now() + $3::interval
    FROM picked WHERE webhooks.id = picked.webhook_id
)
"""

# A row whose process died in its last attempt is not sent again: it has failed. The ids come as an array because a
# join would let the planner read the whole table.
_LEASE = """
UPDATE webhook_deliveries AS d
SET status = CASE WHEN d.attempts < $2 THEN 'in_flight' ELSE 'failed' END,
    attempts = greatest(d.attempts, least(d.attempts + 1, $2)),
    error = CASE WHEN d.attempts < $2 THEN d.error ELSE coalesce(d.error, 'the last attempt was cut short') END,
    next_retry_at = NULL,
    lease_until = CASE WHEN d.attempts < $2 THEN now() + $3::interval END,
    lease_token = CASE WHEN d.attempts < $2 THEN $4::uuid END
FROM webhooks AS w
WHERE d.id = ANY(ARRAY(SELECT id FROM picked)) AND w.id = d.webhook_id
RETURNING d.id, d.webhook_id, d.event_type, d.payload, d.body, d.created_at, d.attempts, d.lease_token, d.status,
          w.url, w.secret
"""

CLAIM_DUE = _TURNS + _LEASE
CLAIM_PROBES = _PROBES + _LEASE

# Behind a closed breaker the claim itself does this.
FAIL_USED_UP = """
UPDATE webhook_deliveries
SET status = 'failed', error = coalesce(error, 'the last attempt was cut short'), next_retry_at = NULL,
    lease_until = NULL, lease_token = NULL
WHERE id = ANY(ARRAY(
    SELECT used_up.id
    FROM webhooks AS w CROSS JOIN LATERAL (
        SELECT d.id FROM webhook_deliveries AS d
        WHERE d.webhook_id = w.id AND d.status NOT IN ('delivered', 'failed') AND d.attempts >= $1
          AND coalesce(d.lease_until, d.next_retry_at, d.created_at) <= now()
        LIMIT $2
        FOR UPDATE SKIP LOCKED
    ) AS used_up
    WHERE w.active AND w.breaker_state <> 'closed'
))
"""

# What waits behind an open breaker comes back spread over a while after the probe. The first stays: it is the probe.
SPREAD_WAITING = """
WITH waiting AS MATERIALIZED (
    SELECT late.id
    FROM webhooks AS w CROSS JOIN LATERAL (
        SELECT d.id FROM webhook_deliveries AS d
        WHERE d.webhook_id = w.id AND d.status NOT IN ('delivered', 'failed')
          AND coalesce(d.lease_until, d.next_retry_at, d.created_at) <= now()
        ORDER BY coalesce(d.lease_until, d.next_retry_at, d.created_at)
        OFFSET 1 LIMIT $1
        FOR UPDATE SKIP LOCKED
    ) AS late
    WHERE w.active AND w.breaker_state = 'open' AND w.breaker_next_probe_at > now()
)
UPDATE webhook_deliveries AS d
SET status = 'pending', lease_until = NULL, lease_token = NULL,
    next_retry_at = w.breaker_next_probe_at + random() * $2::interval
FROM webhooks AS w
WHERE d.id = ANY(ARRAY(SELECT id FROM waiting)) AND w.id = d.webhook_id
"""

SECS_TO_NEXT_DUE = """
SELECT extract(epoch FROM min(
    CASE WHEN w.breaker_state = 'closed' THEN first.due ELSE greatest(first.due, w.breaker_next_probe_at) END
) - now())::float8
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


async def fail_used_up(conn: Connection, max_attempts: int, limit: int) -> None:
    """Fail at most `limit` deliveries of each webhook with an open breaker whose process died in the last attempt."""
    await conn.execute(FAIL_USED_UP, max_attempts, limit)


async def spread_waiting(conn: Connection, limit: int, over: timedelta) -> None:
    """Put off at most `limit` due deliveries of each webhook with an open breaker, without spending an attempt."""
    await conn.execute(SPREAD_WAITING, limit, over)


async def secs_to_next_due(conn: Connection, full: Sequence[UUID]) -> float | None:
    """Until a delivery falls due, a lease ends or a probe is allowed; not of webhooks that are at their limit."""
    secs: float | None = await conn.fetchval(SECS_TO_NEXT_DUE, full)
    return secs


def _terms(claim: Claim) -> tuple[object, ...]:
    return (claim.room, claim.max_attempts, claim.lease, claim.lease_token)


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
