"""The queue of deliveries: each statement is a transaction, so no two processes send the same attempt.

Due times and leases are compared with the database's clock only, for the clocks of processes differ.
Lock order: a delivery's row before its webhook's. Whoever holds a webhook's row waits for no delivery.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from uuid import UUID, uuid4

from aitp_cp.db import Connection, Record
from aitp_cp.deliveries.attempt import DEADLINE_SECS
from aitp_cp.deliveries.model import Attempt, Claim, DeliveryStatus
from aitp_cp.deliveries.outbox import body_of

PER_WEBHOOK = 2  # slots of one webhook in a process
LEASE = timedelta(seconds=DEADLINE_SECS + 20)  # an attempt's deadline, and a slow database

# Spelled as in the index webhook_deliveries_queue_idx.
DUE_AT = "coalesce(d.lease_until, d.next_retry_at, d.created_at)"
QUEUED = "d.webhook_id = w.id AND d.status NOT IN ('delivered', 'failed')"
DUE = f"{QUEUED} AND {DUE_AT} <= now()"

# $1 room, $2 attempts of a delivery, $3 lease, $4 lease token. The ids come as an array because a join would let the
# planner read the whole table.
LEASE_PICKED = """
UPDATE webhook_deliveries AS d
-- Attempts: counted when leased. A delivery whose process died in the last one has failed.
SET status = CASE WHEN d.attempts < $2 THEN 'in_flight' ELSE 'failed' END,
    attempts = greatest(d.attempts, least(d.attempts, $2 - 1) + 1),  -- an older count may be the greatest integer
    error = CASE WHEN d.attempts < $2 THEN d.error ELSE coalesce(d.error, 'the last attempt was cut short') END,
    next_retry_at = NULL,
    -- Lease: nobody else claims the delivery before it ends; a result counts only under this claim's token.
    lease_until = CASE WHEN d.attempts < $2 THEN now() + $3::interval END,
    lease_token = CASE WHEN d.attempts < $2 THEN $4::uuid END
FROM webhooks AS w
WHERE d.id = ANY(ARRAY(SELECT id FROM picked)) AND w.id = d.webhook_id
RETURNING d.id, d.webhook_id, d.event_type, d.payload, d.body, d.created_at, d.attempts, d.lease_token, d.status,
          w.url, w.secret
"""

# $5, $6 webhooks with attempts in flight here and how many, $7 slots per webhook.
CLAIM_DUE = f"""
WITH busy AS (
    SELECT webhook_id, attempts FROM unnest($5::uuid[], $6::int[]) AS in_flight (webhook_id, attempts)
), turns AS MATERIALIZED (
    SELECT w.id, $7 - coalesce(busy.attempts, 0) AS slots
    FROM webhooks AS w LEFT JOIN busy ON busy.webhook_id = w.id
    -- Breaker: an open one holds everything back, and a half-open one everything but its probe.
    WHERE w.active AND w.breaker_state = 'closed'
      -- Slots per webhook: rows of a webhook without a free slot are not even locked.
      AND coalesce(busy.attempts, 0) < $7
      AND EXISTS (SELECT 1 FROM webhook_deliveries AS d WHERE {DUE})
    -- Turns: least in flight first, then at random, so a long queue delays no other webhook.
    ORDER BY coalesce(busy.attempts, 0), random()
    LIMIT $1
), picked AS (
    SELECT due.id
    FROM turns AS w CROSS JOIN LATERAL (
        SELECT d.id FROM webhook_deliveries AS d
        WHERE {DUE}
        -- Order within a webhook: what fell due first.
        ORDER BY {DUE_AT}
        LIMIT w.slots
        FOR UPDATE SKIP LOCKED
    ) AS due
    -- Room of this process: the first of each webhook before the second of any.
    ORDER BY row_number() OVER (PARTITION BY w.id)
    LIMIT $1
)
{LEASE_PICKED}
"""

# $5 webhooks without a free slot.
CLAIM_PROBES = f"""
WITH ready AS MATERIALIZED (
    SELECT w.id FROM webhooks AS w
    -- Breaker: it is open, or the process that sent the last probe died and that probe's lease has ended.
    WHERE w.active AND w.breaker_state <> 'closed' AND coalesce(w.breaker_next_probe_at <= now(), true)
      -- Slots per webhook.
      AND NOT w.id = ANY($5::uuid[])
      -- A webhook with nothing to send takes no room.
      AND EXISTS (SELECT 1 FROM webhook_deliveries AS d WHERE {DUE} AND d.attempts < $2)
    -- Probes in turn: the webhook that has waited longest is first, or some would never be probed.
    ORDER BY w.breaker_next_probe_at NULLS FIRST
    -- Room of this process.
    LIMIT $1
    -- One probe per webhook: processes compete for its row, and the one that gets it sends the probe.
    FOR NO KEY UPDATE SKIP LOCKED
), picked AS MATERIALIZED (
    SELECT first.id, w.id AS webhook_id
    FROM ready AS w CROSS JOIN LATERAL (
        SELECT d.id FROM webhook_deliveries AS d
        WHERE {DUE} AND d.attempts < $2
        -- Order within a webhook: what fell due first.
        ORDER BY {DUE_AT}
        LIMIT 1
        FOR UPDATE SKIP LOCKED
    ) AS first
), half_open AS (
    UPDATE webhooks SET breaker_state = 'half_open', breaker_next_probe_at = now() + $3::interval
    FROM picked WHERE webhooks.id = picked.webhook_id
)
{LEASE_PICKED}
"""

# Behind a closed breaker the claim itself does this.
FAIL_USED_UP = f"""
UPDATE webhook_deliveries
SET status = 'failed', error = coalesce(error, 'the last attempt was cut short'), next_retry_at = NULL,
    lease_until = NULL, lease_token = NULL
WHERE id = ANY(ARRAY(
    SELECT used_up.id
    FROM webhooks AS w CROSS JOIN LATERAL (
        SELECT d.id FROM webhook_deliveries AS d
        WHERE {DUE} AND d.attempts >= $1
        LIMIT $2
        FOR UPDATE SKIP LOCKED
    ) AS used_up
    WHERE w.active AND w.breaker_state <> 'closed'
))
"""

# Deliveries that wait behind an open breaker come back spread over a while after the probe; the first one is the probe.
SPREAD_WAITING = f"""
WITH waiting AS MATERIALIZED (
    SELECT late.id
    FROM webhooks AS w CROSS JOIN LATERAL (
        SELECT d.id FROM webhook_deliveries AS d
        WHERE {DUE}
        ORDER BY {DUE_AT}
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

SECS_TO_NEXT_DUE = f"""
SELECT extract(epoch FROM min(
    CASE WHEN w.breaker_state = 'closed' THEN first.due ELSE greatest(first.due, w.breaker_next_probe_at) END
) - now())::float8
FROM webhooks AS w CROSS JOIN LATERAL (
    SELECT {DUE_AT} AS due FROM webhook_deliveries AS d
    WHERE {QUEUED}
    ORDER BY {DUE_AT}
    LIMIT 1
) AS first
WHERE w.active AND NOT w.id = ANY($1::uuid[])
"""


async def claim_due(conn: Connection, claim: Claim) -> list[Attempt]:
    """Lease due deliveries of webhooks whose breaker is closed; each counts as an attempt from here on."""
    busy = claim.in_flight
    rows = await conn.fetch(CLAIM_DUE, *_terms(claim), list(busy), list(busy.values()), PER_WEBHOOK)
    return _attempts(rows, probe=False)


async def claim_probes(conn: Connection, claim: Claim) -> list[Attempt]:
    """Lease one delivery of each webhook whose breaker may let a probe through."""
    rows = await conn.fetch(CLAIM_PROBES, *_terms(claim), _full(claim.in_flight))
    return _attempts(rows, probe=True)


async def fail_used_up(conn: Connection, max_attempts: int, limit: int) -> None:
    """Fail at most `limit` deliveries of each webhook with an open breaker whose process died in the last attempt."""
    await conn.execute(FAIL_USED_UP, max_attempts, limit)


async def spread_waiting(conn: Connection, limit: int, over: timedelta) -> None:
    """Postpone at most `limit` due deliveries of each webhook with an open breaker, without spending an attempt."""
    await conn.execute(SPREAD_WAITING, limit, over)


async def secs_to_next_due(conn: Connection, in_flight: Mapping[UUID, int]) -> float | None:
    """Return the seconds until a delivery of a webhook with a free slot is due, its lease ends or it may be probed."""
    secs: float | None = await conn.fetchval(SECS_TO_NEXT_DUE, _full(in_flight))
    return secs


def _terms(claim: Claim) -> tuple[object, ...]:
    return claim.room, claim.max_attempts, LEASE, uuid4()


def _full(in_flight: Mapping[UUID, int]) -> list[UUID]:
    """Return the webhooks without a free slot."""
    return [id for id, slots in in_flight.items() if slots >= PER_WEBHOOK]


def _attempts(rows: Sequence[Record], *, probe: bool) -> list[Attempt]:
    return [
        Attempt(
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
        for row in rows
        if row["status"] == DeliveryStatus.IN_FLIGHT
    ]


def _body(row: Record) -> bytes:
    """Return the body; some rows of an older control plane have none, and get one made of the same columns."""
    if row["body"] is not None:
        return str(row["body"]).encode()
    return body_of(row["id"], row["event_type"], row["payload"].encode(), row["created_at"])
