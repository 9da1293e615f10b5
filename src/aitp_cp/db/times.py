"""Read times from the database: as text for the API, and as Python's `datetime`.

PostgreSQL's calendar is longer than Python's and has infinities, which an older control plane used for "never". A time
beyond Python's range is read, and shown, as the first or the last moment of that range, and written back unchanged: a
cursor at it must not pass, or repeat, others that look the same.
"""

from datetime import UTC, datetime, timedelta, tzinfo

from aitp_cp.db.connect import Conn

FIRST = datetime.min.replace(tzinfo=UTC)
LAST = datetime.max.replace(tzinfo=UTC)

# The wire form of a timestamptz: microseconds since 2000, the extremes being the infinities.
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_FIRST_MICROS = (FIRST - _EPOCH) // _MICROSECOND
_LAST_MICROS = (LAST - _EPOCH) // _MICROSECOND
_INFINITY = 2**63 - 1
_MINUS_INFINITY = -(2**63)
_POSTGRES = range(-211_813_488_000_000_000, 9_223_371_331_200_000_000)  # 4714 BC to 294276


class _Beyond(tzinfo):
    """UTC, noting what the first or last moment stands for: encoders refuse a subclass of `datetime`."""

    def __init__(self, micros: int) -> None:
        self.micros = micros

    def utcoffset(self, moment: datetime | None) -> timedelta:
        return timedelta(0)

    def dst(self, moment: datetime | None) -> None:
        return None

    def tzname(self, moment: datetime | None) -> str:
        return "UTC"


async def read_all_times(conn: Conn) -> None:
    """Make the connection read any timestamptz; otherwise one row could fail a whole page."""
    await conn.set_type_codec("timestamptz", schema="pg_catalog", encoder=_encode, decoder=_decode, format="tuple")


def shown(column: str) -> str:
    """Return SQL for `clock.iso(column)`; null stays null. Several times cheaper than formatting a `datetime`."""
    return f"""CASE WHEN {column} >= '10000-01-01' THEN '9999-12-31T23:59:59.999Z'
WHEN {column} < '0001-01-01' THEN '0001-01-01T00:00:00.000Z'
ELSE to_char({column} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') END"""


def beyond(micros: int) -> datetime:
    """Return the first or last moment, standing for that many microseconds since 2000; raise `ValueError`."""
    if _FIRST_MICROS < micros < _LAST_MICROS or not (micros in _POSTGRES or micros in (_INFINITY, _MINUS_INFINITY)):
        raise ValueError(micros)
    return (FIRST if micros < 0 else LAST).replace(tzinfo=_Beyond(micros))


def micros_beyond(moment: datetime) -> int | None:
    """Return what a first or last moment stands for; None for any other time."""
    if moment != LAST and moment != FIRST:
        return None
    unknown = _INFINITY if moment == LAST else _MINUS_INFINITY  # of no row: everything there is lies before it
    return moment.tzinfo.micros if isinstance(moment.tzinfo, _Beyond) else unknown


def _decode(micros: tuple[int]) -> datetime:
    value = micros[0]
    if _FIRST_MICROS < value < _LAST_MICROS:
        return _EPOCH + timedelta(0, 0, value)  # by position, a third cheaper than by keyword
    return beyond(value)


def _encode(moment: datetime) -> tuple[int]:
    micros = micros_beyond(moment)
    return ((moment - _EPOCH) // _MICROSECOND if micros is None else micros,)
