from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aitp_cp.deliveries.retry import pause, retry_after_secs

NOW = datetime(2026, 5, 25, 12, 0, tzinfo=UTC)
SIX_HOURS = timedelta(hours=6)
rolls = st.floats(0, 1, exclude_max=True)


@pytest.mark.parametrize(
    ("attempt", "middle"), [(1, 30), (2, 120), (3, 480), (4, 1920), (5, 7680), (6, 21600), (7, 21600), (1000, 21600)]
)
def test_the_timetable(attempt: int, middle: int) -> None:
    secs = [pause(attempt, None, roll).total_seconds() for roll in (0, 0.5, 0.999)]
    assert secs[1] == middle
    assert all(0.8 * middle <= one <= min(1.2 * middle, 21600) for one in secs)
    assert secs[0] < secs[1]


@given(st.integers(1, 10_000), rolls)
def test_no_pause_is_shorter_than_the_first_or_longer_than_the_cap(attempt: int, roll: float) -> None:
    assert timedelta(seconds=24) <= pause(attempt, None, roll) <= SIX_HOURS


@given(st.integers(1, 100), st.floats(0, 1e15), rolls)
def test_what_a_receiver_asks_for_is_waited_for_up_to_the_cap(attempt: int, asked: float, roll: float) -> None:
    waited = pause(attempt, asked, roll)
    assert waited <= SIX_HOURS
    assert waited >= min(timedelta(seconds=min(asked, 1e6)), SIX_HOURS)
    assert waited >= timedelta(seconds=1)


@pytest.mark.parametrize(
    ("header", "secs"),
    [
        ("120", 120),
        (" 0 ", 0),
        ("Mon, 25 May 2026 12:02:00 GMT", 120),
        ("Monday, 25-May-26 12:02:00 GMT", 120),
        ("Mon, 25 May 2026 14:02:00 +0200", 120),
        ("Mon, 25 May 2026 11:00:00 GMT", 0),
        ("9" * 400, 999_999_999_999),
        ("-5", None),
        ("1.5", None),
        ("soon", None),
        ("\u0663", None),
        ("", None),
        (None, None),
        ("Mon, 25 May 99999999999999999999 12:00:00 GMT", None),
        ("Mon, 25 May 2026 12:00:99999999999999999999 GMT", None),
    ],
)
def test_reading_retry_after(header: str | None, secs: float | None) -> None:
    assert retry_after_secs(header, NOW) == secs


@given(st.datetimes(datetime(1970, 1, 2), datetime(9998, 1, 1), timezones=st.just(UTC)))
def test_any_date_is_read(moment: datetime) -> None:
    asked = retry_after_secs(format_datetime(moment, usegmt=True), NOW)
    assert asked == max(0, (moment.replace(microsecond=0) - NOW).total_seconds())


@given(st.text(max_size=60))
def test_any_text_is_survived(text: str) -> None:
    asked = retry_after_secs(text, NOW)
    assert asked is None or pause(1, asked, 0.5) <= SIX_HOURS
