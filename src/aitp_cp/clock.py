"""The wall clock, injected everywhere so that a test can move it, and times as the API shows them."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from aitp_cp_client.wire.times import EPOCH, iso, iso_or_none, now, truncate

__all__ = ["EPOCH", "Clock", "iso", "iso_or_none", "kept_from", "now", "truncate"]

Clock = Callable[[], datetime]

_FIRST = datetime.min.replace(tzinfo=UTC)


def kept_from(now: datetime, days: int) -> datetime | None:
    """Return the time before which rows that are kept for `days` go; None for 0, or more days than the calendar has."""
    return now - timedelta(days=days) if 0 < days <= (now - _FIRST).days else None
