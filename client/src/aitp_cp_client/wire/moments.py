"""Parsing of reported times: ISO-8601, epoch seconds or epoch milliseconds (contract, section 9)."""

import re
from datetime import UTC, datetime, timedelta

import msgspec

from aitp_cp_client.wire.times import EPOCH, truncate

_LAST_MS = 253_402_300_799_999  # the end of the year 9999
# Numbers below are seconds. As seconds it is in the year 5138, as milliseconds in 1973: no real clock is near either.
_SECONDS_END = 100_000_000_000

# Extended or basic; lower-case letters and the space are RFC 3339's, the comma is ISO-8601's.
_ISO = re.compile(
    r"""(?P<Y>[0-9]{4})(?P<dash>-?)(?P<M>[0-9]{2})(?P=dash)(?P<D>[0-9]{2})
    (?:[Tt\x20](?P<h>[0-9]{2})(?::?(?P<m>[0-9]{2})(?::?(?P<s>[0-9]{2})(?:[.,](?P<fraction>[0-9]+))?)?)?
    (?:[Zz]|(?P<sign>[+-])(?P<oh>[0-9]{2})(?::?(?P<om>[0-9]{2}))?)?)?""",
    re.VERBOSE,
)
_NUMBER = re.compile(r"[0-9]{9,15}(\.[0-9]{1,15})?")  # fewer digits are a date or invalid


def read(value: object) -> datetime | None:
    """Return the UTC time, truncated to milliseconds; None if invalid or outside the years 1970 to 9999."""
    if isinstance(value, str):
        return from_iso(value)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return from_epoch(value)
    return None


def from_iso(text: str) -> datetime | None:
    """Parse RFC 3339 and the common forms of ISO-8601. No offset means UTC; a leap second is the second after it.

    `datetime.fromisoformat` accepts different forms in each version of Python.
    """
    moment = _from_common_iso(text)
    if moment is not None:
        return moment if moment.year >= 1970 else None
    match = _ISO.fullmatch(text)
    if match is None:
        return None
    year, month, day, hour, minute, second = (int(part or 0) for part in match.group(*"YMDhms"))
    try:
        moment = datetime(year, month, day, hour, minute, min(second, 59), tzinfo=UTC)
        moment += timedelta(seconds=second // 60, milliseconds=int((match["fraction"] or "")[:3].ljust(3, "0")))
        moment -= _offset(match)
    except (ValueError, OverflowError):
        return None
    return moment if second <= 60 and moment.year >= 1970 else None


def _from_common_iso(text: str) -> datetime | None:
    """Parse the common form twenty times as fast: with an offset, and without digits that msgspec would round."""
    if len(text) > (27 if text[-1:] in "Zz" else 32):
        return None
    try:
        moment = msgspec.convert(text, datetime)
        return None if moment.tzinfo is None else truncate(moment.astimezone(UTC))
    except (msgspec.ValidationError, OverflowError):
        return None


def from_text(text: str) -> datetime | None:
    """Parse ISO-8601, or at least nine digits of epoch seconds or milliseconds."""
    number = _NUMBER.fullmatch(text)
    if number is None:
        return from_iso(text)
    return from_epoch(float(text) if number[1] else int(text))


def _offset(match: re.Match[str]) -> timedelta:
    """Return the offset; raise `ValueError` for a day or more."""
    if match["sign"] is None:
        return timedelta(0)
    hours, minutes = int(match["oh"]), int(match["om"] or 0)
    if hours > 23 or minutes > 59:
        raise ValueError(match[0])
    size = timedelta(hours=hours, minutes=minutes)
    return -size if match["sign"] == "-" else size


def from_epoch(number: int | float) -> datetime | None:
    """Convert epoch seconds (below 1e11) or milliseconds."""
    # Also false for NaN and infinity; math.isfinite would overflow on a huge integer.
    if not 0 <= number <= _LAST_MS:
        return None
    ms = round(number * 1000) if number < _SECONDS_END else int(number)
    return EPOCH + timedelta(milliseconds=ms)
