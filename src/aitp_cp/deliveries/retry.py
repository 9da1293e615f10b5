"""When a failed delivery is attempted again (contract, section 12)."""

from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

FIRST_SECS = 30.0
FACTOR = 4
CAP_SECS = 6 * 3600.0
JITTER = 0.2
MIN_RETRY_AFTER_SECS = 1.0


def pause(attempt: int, retry_after_secs: float | None, roll: float) -> timedelta:
    """Return the pause after the `attempt`-th failed attempt; `roll` is a random number in [0, 1).

    30 s, then four times as long each time, with a jitter of a fifth; a receiver's `Retry-After` overrides that. At
    most six hours.
    """
    if retry_after_secs is not None:
        # Every process was told the same time: come a little later, never sooner.
        secs = max(retry_after_secs, MIN_RETRY_AFTER_SECS) * (1 + JITTER / 2 * roll)
    else:
        steps = min(attempt - 1, 16)  # far beyond the cap already
        secs = min(FIRST_SECS * FACTOR**steps, CAP_SECS) * (1 - JITTER + 2 * JITTER * roll)
    return timedelta(seconds=min(secs, CAP_SECS))


def retry_after_secs(header: str | None, now: datetime) -> float | None:
    """Return the seconds of a `Retry-After` header, a number or a date (RFC 9110, section 10.2.3)."""
    text = (header or "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:12])
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    return max(0.0, (moment - now).total_seconds())
