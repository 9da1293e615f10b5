"""One reader of times for all doors, the same on every Python (RFC 3339 as it is written)."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aitp_cp.web.query import parse_moment
from aitp_cp_client.wire import moments
from tests.support.app import running_app

pytestmark = pytest.mark.anyio

NOON = datetime(2026, 10, 1, 12, 0, 0, 123_000, UTC)
NEW_YEAR = datetime(2017, 1, 1, tzinfo=UTC)

SPELLINGS: list[tuple[str, datetime]] = [
    ("2026-10-01T12:00:00.123Z", NOON),
    ("2026-10-01t12:00:00.123z", NOON),
    ("2026-10-01 12:00:00.123Z", NOON),
    ("2026-10-01T12:00:00,123Z", NOON),
    ("2026-10-01T12:00:00.1239999999999999999999Z", NOON),
    ("2026-10-01T12:00:00.1239999Z", NOON),
    ("2026-10-01T12:00:00.1239999999+00:00", NOON),
    ("2026-10-01T12:00:00.123999-00:00", NOON),
    ("2026-10-01T17:30:00.123456+05:30", NOON),
    ("2026-10-01T04:00:00.123-0800", NOON),
    ("20261001T120000.123Z", NOON),
    ("2026-10-01T12:00:00.123", NOON),
    ("2016-12-31T23:59:60Z", NEW_YEAR),
    ("2016-12-31T23:59:60.000+00:00", NEW_YEAR),
    ("2017-01-01T05:29:60+05:30", NEW_YEAR),
    ("2017-01-01", NEW_YEAR),
    ("20170101", NEW_YEAR),
]
NONE = [
    "",
    "2026-10-01T12:00:00.Z",
    "2026-10-01T12:00:61Z",
    "2026-10-01T24:00:00Z",
    "2026-10-01T12:60:00Z",
    "2026-02-30T12:00:00Z",
    "2026-10-01T12:00:00+24:00",
    "2026-10-01T12:00:00+05:60",
    "2026-10-01T12:00:00Z ",
    "2026-10-01T12:00:00Z\n",
    "2026-10-01TT12:00:00Z",
    "2026-1001T12:00:00Z",
    "2026-W40-4",
    "\uff12\uff10\uff12\uff16-10-01",
    "0000-01-01T00:00:00Z",
    "1969-12-31T23:59:59.999Z",
    "9999-12-31T23:59:60Z",
    "9999-12-31T23:59:59-01:00",
]


@pytest.mark.parametrize(("text", "moment"), SPELLINGS)
def test_every_spelling_is_read(text: str, moment: datetime) -> None:
    """Decision 14: what one version of Python reads and another does not is read here, and by no other reader."""
    assert moments.from_iso(text) == parse_moment(text) == moment


@pytest.mark.parametrize("text", NONE)
def test_what_is_no_time_is_none(text: str) -> None:
    """Decision 14: 24:00 and week dates are read by some versions of Python."""
    assert moments.from_iso(text) is None


@given(st.datetimes(datetime(1970, 1, 2), datetime(9999, 12, 30), timezones=st.timezones()), st.integers(0, 12))
def test_any_offset_and_any_number_of_digits(moment: datetime, digits: int) -> None:
    """Decision 14: as Python writes it, with the fraction cut or drawn out."""
    offset = moment.utcoffset() or timedelta(0)
    if offset % timedelta(minutes=1):
        return
    fraction = f"{moment.microsecond:06}{'9' * 6}"[:digits]
    text = moment.replace(microsecond=0).isoformat()
    text = text[:19] + (f".{fraction}" if fraction else "") + text[19:]
    expected = moment.astimezone(UTC).replace(microsecond=int(fraction[:3].ljust(3, "0")) * 1000)
    assert moments.from_iso(text) == expected
    assert moments.from_iso(text.replace("T", "t").replace("+00:00", "z")) == expected


async def test_filters_tell_seconds_from_milliseconds_as_events_do(database_url: str) -> None:
    """Decision 14: `since=1790856000` was read as milliseconds, in January 1970."""
    async with running_app(database_url) as app:
        await app.post("/api/events", [{"type": "a", "ts": 1790856000}, {"type": "b", "ts": 1790856000123}])

        async def types(**query: Any) -> list[str]:
            response = await app.get("/api/events/history", params=query)
            assert response.status_code == 200, response.text
            return [event["type"] for event in response.json()["events"]]

        for seconds in ("1790856000", "1790856000000", "1790856000.0", "2026-10-01T12:00:00z"):
            assert await types(until=seconds) == ["a"]
            assert await types(since=seconds) == ["b", "a"]
        for later in ("1790856000.123", "1790856000123", "2026-10-01t14:00:00.123000000+02:00"):
            assert await types(since=later) == ["b"]
        raw = await app.get("/api/events/history?since=2026-10-01T14:00:00.123+02:00")  # a plus that nobody escaped
        assert [event["type"] for event in raw.json()["events"]] == ["b"]
