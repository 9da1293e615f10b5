"""How attempts ended, in one statement each; without effect once another process has leased the row anew.

Times are the database's: the clocks of processes differ.
"""

from collections.abc import Sequence

from aitp_cp.db import Connection
from aitp_cp.deliveries.model import Attempt, BreakerRule, Outcome, Setback

# Webhooks are locked in the order of their ids, for two processes may close several breakers at once.
RECORD_DELIVERED = """
WITH recorded AS (
    UPDATE webhook_deliveries AS d
    SET status = 'delivered', status_code = ended.status_code, error = NULL, delivered_at = now(), next_retry_at = NULL,
        lease_until = NULL, lease_token = NULL
    FROM unnest($1::uuid[], $2::uuid[], $3::int[]) AS ended (id, lease_token, status_code)
    WHERE d.id = ended.id AND d.lease_token = ended.lease_token
    RETURNING d.webhook_id
), well AS MATERIALIZED (
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

# Opens a closed breaker at the threshold and a half-open one when its probe fails; what was on its way before
# the breaker opened only counts.
RECORD_FAILED = """
WITH recorded AS (
    UPDATE webhook_deliveries
    SET status = $3, status_code = $4, error = $5, next_retry_at = now() + $6::interval,
        lease_until = NULL, lease_token = NULL
    WHERE id = $1 AND lease_token = $2
    RETURNING webhook_id
)
UPDATE webhooks
SET breaker_failures = breaker_failures + 1,
    breaker_successes = 0,
    (breaker_state, breaker_opened_at, breaker_next_probe_at) = (
        SELECT CASE WHEN opens THEN 'open' ELSE breaker_state END,
               CASE WHEN opens THEN now() ELSE breaker_opened_at END,
               CASE WHEN opens THEN now() + $9::interval ELSE breaker_next_probe_at END
        FROM (SELECT (breaker_state = 'closed' AND breaker_failures + 1 >= $7)
                     OR (breaker_state = 'half_open' AND $8) AS opens) AS verdict
    )
FROM recorded
WHERE webhooks.id = recorded.webhook_id
"""

RECORD_REFUSED = """
UPDATE webhook_deliveries
SET status = 'failed', status_code = NULL, error = $3, next_retry_at = NULL, lease_until = NULL, lease_token = NULL
WHERE id = $1 AND lease_token = $2
"""

# An address that was changed meanwhile did not say this.
RECORD_GONE = """
WITH recorded AS (
    UPDATE webhook_deliveries
    SET status = 'failed', status_code = $3, error = $4, next_retry_at = NULL, lease_until = NULL, lease_token = NULL
    WHERE id = $1 AND lease_token = $2
    RETURNING webhook_id
)
UPDATE webhooks SET active = false, deactivated_reason = 'gone', updated_at = now()
FROM recorded
WHERE webhooks.id = recorded.webhook_id AND webhooks.url = $5
"""


async def record_delivered(conn: Connection, ended: Sequence[tuple[Attempt, Outcome]]) -> None:
    """One success closes a breaker."""
    await conn.execute(
        RECORD_DELIVERED,
        [attempt.id for attempt, _ in ended],
        [attempt.lease_token for attempt, _ in ended],
        [outcome.status_code for _, outcome in ended],
    )


async def record_failed(conn: Connection, attempt: Attempt, setback: Setback, rule: BreakerRule) -> None:
    await conn.execute(
        RECORD_FAILED,
        attempt.id,
        attempt.lease_token,
        setback.status,
        setback.status_code,
        setback.error,
        setback.pause,
        rule.threshold,
        attempt.probe,
        rule.reset,
    )


async def record_refused(conn: Connection, attempt: Attempt, outcome: Outcome) -> None:
    """The guard refused: nobody's failure but the URL's, so the breaker stays as it is."""
    await conn.execute(RECORD_REFUSED, attempt.id, attempt.lease_token, outcome.error)


async def record_gone(conn: Connection, attempt: Attempt, outcome: Outcome) -> None:
    """Deactivate the webhook too; its other deliveries are failed by the sweep."""
    values = (outcome.status_code, outcome.error, attempt.url)
    await conn.execute(RECORD_GONE, attempt.id, attempt.lease_token, *values)
