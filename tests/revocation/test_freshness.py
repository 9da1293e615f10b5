"""When a list may be served from memory, without a clock."""

from datetime import UTC, datetime, timedelta

import pytest

from aitp_cp.revocation.freshness import Change, Freshness, Moment, Reading

START = Moment(datetime(2026, 10, 1, tzinfo=UTC), 1000.0)
RULE = Freshness.of(ttl_secs=300, max_staleness_secs=900)
READING = Reading(START, Change(seq=7), table=3)


def after(secs: float, slept: float = 0.0) -> Moment:
    """That many seconds later; the monotonic clock stood still for `slept` of them."""
    return Moment(START.time + timedelta(seconds=secs), START.tick + secs - slept)


def fresh(at: Moment, change: Change = READING.change, behind: float = 0.1) -> bool:
    return RULE.is_fresh(READING, change, at, behind)


def test_the_shorter_lifetime_is_the_limit_and_a_minute_the_period() -> None:
    assert Freshness.of(300, 900) == Freshness(60.0, 300.0)
    assert Freshness.of(900, 20) == Freshness(20.0, 20.0)
    assert Freshness.of(300, 900).due_secs == 45.0


@pytest.mark.parametrize(("secs", "expected"), [(0, True), (59.9, True), (60, False)])
def test_a_list_is_served_for_a_period_while_the_log_is_followed(secs: float, expected: bool) -> None:
    assert fresh(after(secs)) is expected


@pytest.mark.parametrize(("secs", "expected"), [(0.4, True), (0.5, False)])
def test_and_for_half_a_second_while_it_is_not(secs: float, expected: bool) -> None:
    assert fresh(after(secs), behind=2.0) is expected


@pytest.mark.parametrize("change", [Change(seq=8), Change(seq=7, without_event=1)])
def test_a_list_is_not_fresh_after_a_change(change: Change) -> None:
    assert not fresh(after(0), change)


def test_the_clock_that_says_more_counts() -> None:
    assert not fresh(after(61, slept=50))
    set_back = Moment(START.time - timedelta(hours=1), START.tick + 61)
    assert not fresh(set_back)
