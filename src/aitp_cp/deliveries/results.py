"""How attempts ended, in one statement each; without effect once another process has leased the delivery.

    closed ──failures reach the threshold──▶ open ──reset time──▶ half-open (one probe in flight)
      ▲                                       ▲                      │
      │                                       └────probe fails───────┤
      └─────────────────────────any success──────────────────────────┘

Times are the database's, for the clocks of processes differ.
"""

import random
from collections.abc import Sequence
from datetime import timedelta

from aitp_cp.db import Connection
from aitp_cp.deliveries.model import Attempt, DeliveryStatus, Outcome, Rules, Verdict
from aitp_cp.deliveries.retry import pause
from aitp_cp.jobs import Done

# The attempt that ended, numbered as its delivery counts; a resend resets that count, and the numbers continue.
KEEP_ATTEMPT = """
kept AS (
    INSERT INTO webhook_attempts (delivery_id, n, at, ms, status, error, head, cut)
    SELECT id, greatest(n, 1 + coalesce((SELECT max(a.n) FROM webhook_attempts AS a WHERE a.delivery_id = id), 0)),
           now() - ms * interval '1 ms', ms, status_code, error, head, cut
    FROM recorded
)
"""

# Webhooks are locked in the order of their ids, for two processes may close several breakers at once.
RECORD_DELIVERED = f"""
WITH recorded AS (
    UPDATE webhook_deliveries AS d
    SET status = 'delivered', status_code = ended.status_code, error = NULL, delivered_at = now(), next_retry_at = NULL,
        lease_until = NULL, lease_token = NULL
    FROM unnest($1::uuid[], $2::uuid[], $3::int[], $4::int[], $5::int[], $6::text[], $7::bool[])
         AS ended (id, lease_token, status_code, n, ms, head, cut)
    WHERE d.id = ended.id AND d.lease_token = ended.lease_token
    RETURNING d.webhook_id, d.id, d.status_code, d.error, ended.n, ended.ms, ended.head, ended.cut
), {KEEP_ATTEMPT}, well AS MATERIALIZED (
    SELECT w.id FROM webhooks AS w
    WHERE w.id IN (SELECT webhook_id FROM recorded) AND (w.breaker_state <> 'closed' OR w.breaker_failures > 0)
    ORDER BY w.id
    FOR NO KEY UPDATE
)
UPDATE webhooks
SET breaker_state = 'closed', breaker_failures = 0, breaker_successes = 1,
    breaker_opened_at = NULL, breaker_next_probe_at = NULL
FROM well
WHERE webhooks.id = well.id
"""

RECORD = f"""
WITH recorded AS (
    UPDATE webhook_deliveries
    SET status = $3, status_code = $4, error = $5, next_retry_at = now() + $6::interval,
        lease_until = NULL, lease_token = NULL
    WHERE id = $1 AND lease_token = $2
    RETURNING webhook_id, id, status_code, error, $7::int AS n, $8::int AS ms, $9::text AS head, $10::bool AS cut
), {KEEP_ATTEMPT}
"""

# The guard refused the URL: the receiver did not fail, so the breaker stays as it is.
RECORD_REFUSED = f"{RECORD} SELECT FROM recorded"

# An attempt that was in flight when the breaker opened only counts.
RECORD_FAILED = f"""
{RECORD}
UPDATE webhooks
SET breaker_failures = breaker_failures + 1,
    breaker_successes = 0,
    (breaker_state, breaker_opened_at, breaker_next_probe_at) = (
        SELECT CASE WHEN opens THEN 'open' ELSE breaker_state END,
               CASE WHEN opens THEN now() ELSE breaker_opened_at END,
               CASE WHEN opens THEN now() + $13::interval ELSE breaker_next_probe_at END
        FROM (SELECT (breaker_state = 'closed' AND breaker_failures + 1 >= $11)
                     OR (breaker_state = 'half_open' AND $12) AS opens) AS verdict
    )
FROM recorded
WHERE webhooks.id = recorded.webhook_id
"""

# A URL that was changed since is not gone. A job fails the webhook's other deliveries.
RECORD_GONE = f"""
{RECORD}
UPDATE webhooks SET active = false, deactivated_reason = 'gone', updated_at = now()
FROM recorded
WHERE webhooks.id = recorded.webhook_id AND webhooks.url = $11
"""


async def record(conn: Connection, done: Sequence[Done[Attempt, Outcome]], rules: Rules) -> None:
    """Record outcomes, those of a fast receiver in one statement; each statement may be repeated."""
    delivered = [(attempt, outcome) for attempt, outcome in done if outcome.verdict is Verdict.DELIVERED]
    if delivered:
        await conn.execute(
            RECORD_DELIVERED,
            [attempt.id for attempt, _ in delivered],
            [attempt.lease_token for attempt, _ in delivered],
            [outcome.status_code for _, outcome in delivered],
            [attempt.number for attempt, _ in delivered],
            [outcome.ms for _, outcome in delivered],
            [outcome.head for _, outcome in delivered],
            [outcome.cut for _, outcome in delivered],
        )
    for attempt, outcome in done:
        match outcome.verdict:
            case Verdict.FAILED:
                roll = random.random()  # noqa: S311 - spreads load, guards nothing
                is_last = attempt.number >= rules.max_attempts
                retry_in = None if is_last else pause(attempt.number, outcome.retry_after_secs, roll)
                breaker = (rules.breaker_threshold, attempt.probe, rules.breaker_reset)
                await conn.execute(RECORD_FAILED, *_values(attempt, outcome, retry_in), *breaker)
            case Verdict.REFUSED:
                await conn.execute(RECORD_REFUSED, *_values(attempt, outcome))
            case Verdict.GONE:
                await conn.execute(RECORD_GONE, *_values(attempt, outcome), attempt.url)


def _values(attempt: Attempt, outcome: Outcome, retry_in: timedelta | None = None) -> tuple[object, ...]:
    status = DeliveryStatus.FAILED if retry_in is None else DeliveryStatus.PENDING
    result = attempt.id, attempt.lease_token, status, outcome.status_code, outcome.error, retry_in
    return *result, attempt.number, outcome.ms, outcome.head, outcome.cut
