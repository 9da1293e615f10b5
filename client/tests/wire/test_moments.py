from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aitp_cp_client.wire import moments

NOON = datetime(2026, 10, 1, 12, 0, 0, 123_000, UTC)


@pytest.mark.parametrize(
    "value",
    [
        "2026-10-01T12:00:00.123Z",
        "2026-10-01T12:00:00.123999Z",
        "2026-10-01T14:00:00.123+02:00",
        "2026-10-01T12:00:00.123",
        "2026-10-01 12:00:00.123",
        1790856000.123,
        1790856000123,
        1790856000123.9,
    ],
)
def test_every_spelling_of_one_moment(value: object) -> None:
    assert moments.read(value) == NOON


def test_days_and_whole_seconds() -> None:
    assert moments.read("2026-10-01") == datetime(2026, 10, 1, tzinfo=UTC)
    assert moments.read(1790856000) == NOON.replace(microsecond=0)
    assert moments.read(0) == datetime(1970, 1, 1, tzinfo=UTC)
    assert moments.read(99_999_999_999) == datetime(5138, 11, 16, 9, 46, 39, tzinfo=UTC)
    assert moments.read(100_000_000_000) == datetime(1973, 3, 3, 9, 46, 40, tzinfo=UTC)
    assert moments.read(253_402_300_799_999) == datetime(9999, 12, 31, 23, 59, 59, 999_000, UTC)


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        False,
        "",
        "now",
        "2026-13-01",
        "1969-12-31T23:59:59Z",
        "1970-01-01T00:00:00+01:00",
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-14:00",
        "10000-01-01",
        -1,
        -0.5,
        253_402_300_800_000,
        1790856000123456,
        1e308,
        float("nan"),
        float("inf"),
        pytest.param(10**4000, id="4000 digits"),
        [],
        {},
        pytest.param("9" * 60_000, id="60000 nines"),
    ],
)
def test_the_unusable(value: object) -> None:
    assert moments.read(value) is None


@given(st.datetimes(datetime(1970, 1, 1), datetime(9999, 12, 31), timezones=st.just(UTC)))
def test_times_are_truncated_to_milliseconds(moment: datetime) -> None:
    cut = moment.replace(microsecond=moment.microsecond // 1000 * 1000)
    assert moments.read(moment.isoformat()) == cut
    milliseconds = (cut - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
    if milliseconds >= 100_000_000_000:
        assert moments.read(milliseconds) == cut


@given(st.none() | st.booleans() | st.text() | st.integers() | st.floats() | st.lists(st.integers()))
def test_reading_never_raises_and_stays_within_the_calendar(value: object) -> None:
    moment = moments.read(value)
    assert moment is None or (1970 <= moment.year <= 9999 and moment.tzinfo is UTC and moment.microsecond % 1000 == 0)
