"""Times as clients report them: ISO-8601 text, epoch seconds or epoch milliseconds (contract, section 9)."""

from datetime import UTC, datetime, timedelta

from aitp_cp.clock import EPOCH, truncate

_LAST_MS = 253_402_300_799_999  # the end of the year 9999
# As seconds this lies in the year 5138, as milliseconds in 1973: no honest clock is near either.
_SECONDS_END = 100_000_000_000


def read(value: object) -> datetime | None:
    """The UTC time, cut to milliseconds; None when unusable or outside the years 1970 to 9999."""
    if isinstance(value, str):
        return from_iso(value)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return from_epoch(value)
    return None


def from_iso(text: str) -> datetime | None:
    """ISO-8601; a time without an offset is UTC."""
    try:
        moment = datetime.fromisoformat(text)
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return truncate(moment) if moment.year >= 1970 else None


def from_epoch(number: int | float) -> datetime | None:
    """Seconds below 1e11, milliseconds from there on."""
    # Also false for NaN and infinity; math.isfinite would overflow on a huge integer.
    if not 0 <= number <= _LAST_MS:
        return None
    ms = round(number * 1000) if number < _SECONDS_END else int(number)
    return EPOCH + timedelta(milliseconds=ms)
