"""What an attempt's outcome means for its delivery, its webhook and the next attempt."""

from datetime import datetime
from typing import NamedTuple

from aitp_cp.db import Connection
from aitp_cp.webhooks import results
from aitp_cp.webhooks.model import Attempt, BreakerRule, DeliveryStatus, Outcome, Setback, Verdict
from aitp_cp.webhooks.retry import pause


class Terms(NamedTuple):
    """Attempts a delivery has, when breakers open, and a random number in [0, 1) for the pause."""

    max_attempts: int
    breaker: BreakerRule
    roll: float


async def record(conn: Connection, attempt: Attempt, outcome: Outcome, terms: Terms, now: datetime) -> None:
    """One statement, without effect if another process has taken the attempt for dead and leased the row."""
    match outcome.verdict:
        case Verdict.DELIVERED:
            await results.record_delivered(conn, attempt, outcome.status_code, now)
        case Verdict.REFUSED:
            await results.record_refused(conn, attempt, outcome.error)
        case Verdict.GONE:
            await results.record_gone(conn, attempt, outcome.status_code, outcome.error, now)
        case Verdict.FAILED:
            await results.record_failed(conn, attempt, setback(attempt, outcome, terms, now), terms.breaker, now)


def setback(attempt: Attempt, outcome: Outcome, terms: Terms, now: datetime) -> Setback:
    """Wait and try again, or after the last attempt fail for good."""
    if attempt.number >= terms.max_attempts:
        return Setback(DeliveryStatus.FAILED, outcome.status_code, outcome.error, None)
    again = now + pause(attempt.number, outcome.retry_after_secs, terms.roll)
    return Setback(DeliveryStatus.PENDING, outcome.status_code, outcome.error, again)
