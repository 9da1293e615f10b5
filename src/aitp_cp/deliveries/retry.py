"""When a delivery is tried again (contract, section 12)."""

from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

FIRST_SECS = 30.0
FACTOR = 4
CAP_SECS = 6 * 3600.0
JITTER = 0.2
MIN_ASKED_SECS = 1.0


def pause(attempt: int, asked_secs: float | None, roll: float) -> timedelta:
    """How long to wait after the `attempt`-th failed attempt; `roll` is a random number in [0, 1).

    30 s, then four times as long each time, give or take a fifth; what the receiver asked for goes before that.
    Never more than six hours.
    """
    if asked_secs is not None:
        # Everyone was told the same time: come a little later, never sooner.
        secs = max(asked_secs, MIN_ASKED_SECS) * (1 + JITTER / 2 * roll)
    else:
        steps = min(attempt - 1, 16)  # far beyond the cap already
        secs = min(FIRST_SECS * FACTOR**steps, CAP_SECS) * (1 - JITTER + 2 * JITTER * roll)
    return timedelta(seconds=min(secs, CAP_SECS))


def asked_secs(header: str | None, now: datetime) -> float | None:
    """The seconds of a `Retry-After` header, given as such or as a date (RFC 9110, section 10.2.3)."""
    text = (header or "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:12])
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):  # the receiver writes what it likes
        return None
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    return max(0.0, (moment - now).total_seconds())
