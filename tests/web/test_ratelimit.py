from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aitp_cp.web.ratelimit import MAX_TRACKED_KEYS, Decision, TokenBuckets

WINDOW_SECS = 60
START = 1_800_000_000.0


class Bucket:
    """Buckets on a clock moved by hand."""

    def __init__(self, limit: int, max_keys: int = MAX_TRACKED_KEYS, **more: int) -> None:
        self.now = START
        self.buckets = TokenBuckets({"b": limit, **more}, WINDOW_SECS, lambda: self.now, max_keys)

    def take(self, key: str = "k", bucket: str = "b") -> Decision:
        decision = self.buckets.take(bucket, key)
        assert decision is not None
        return decision

    def allowed(self, key: str = "k") -> bool:
        return self.take(key).allowed


def test_the_capacity_is_the_limit() -> None:
    bucket = Bucket(3)
    assert [bucket.allowed() for _ in range(5)] == [True, True, True, False, False]
    assert bucket.allowed("another")


def test_it_refills_evenly_over_the_window() -> None:
    bucket = Bucket(3)
    for _ in range(3):
        bucket.take()
    bucket.now += 19
    assert not bucket.allowed()
    bucket.now += 1.001
    assert [bucket.allowed(), bucket.allowed()] == [True, False]
    bucket.now += WINDOW_SECS * 10
    assert [bucket.allowed() for _ in range(4)] == [True, True, True, False]


def test_the_headers_of_an_allowed_and_a_refused_attempt() -> None:
    bucket = Bucket(2)
    assert bucket.take().headers() == {
        "X-RateLimit-Limit": "2",
        "X-RateLimit-Remaining": "1",
        "X-RateLimit-Reset": str(int(START) + 30),
    }
    bucket.take()
    assert bucket.take().headers() == {
        "X-RateLimit-Limit": "2",
        "X-RateLimit-Remaining": "0",
        "X-RateLimit-Reset": str(int(START) + 60),
        "Retry-After": "30",
    }


def test_retry_after_is_never_below_a_second_and_always_long_enough() -> None:
    bucket = Bucket(600)
    while bucket.allowed():
        pass
    refused = bucket.take()
    assert refused.retry_after_secs == 1
    bucket.now += refused.retry_after_secs
    assert bucket.allowed()


def test_zero_disables_one_kind_of_bucket_only() -> None:
    bucket = Bucket(1, off=0)
    assert all(bucket.buckets.take("off", "k") is None for _ in range(50))
    assert [bucket.allowed(), bucket.allowed()] == [True, False]


def test_the_same_key_in_two_kinds_of_bucket_is_two_keys() -> None:
    bucket = Bucket(1, other=1)
    assert bucket.take("k", "b").allowed
    assert bucket.take("k", "other").allowed


def test_a_clock_that_goes_back_gives_nothing_and_takes_nothing() -> None:
    bucket = Bucket(1)
    bucket.take()
    bucket.now -= 3600
    assert not bucket.allowed()
    bucket.now += WINDOW_SECS + 1
    assert bucket.allowed()


def test_memory_is_bounded_and_the_least_recently_used_is_forgotten_first() -> None:
    bucket = Bucket(1)
    for number in range(MAX_TRACKED_KEYS):
        bucket.take(str(number))
    assert not bucket.allowed("0")  # known, and now the most recently used
    bucket.take("one more")
    assert len(bucket.buckets) == MAX_TRACKED_KEYS == 100_000
    assert not bucket.allowed("0")
    assert bucket.allowed("1")  # forgotten
    assert not bucket.allowed("99999")


@given(
    limit=st.integers(1, 20),
    attempts=st.lists(st.tuples(st.integers(0, 90_000), st.sampled_from("abc")), max_size=200),
)
def test_it_agrees_with_exact_arithmetic(limit: int, attempts: list[tuple[int, str]]) -> None:
    bucket = Bucket(limit)
    levels: dict[str, tuple[Fraction, int]] = {}
    now_ms = 0
    for pause_ms, key in attempts:
        now_ms += pause_ms
        bucket.now = START + now_ms / 1000
        level, since = levels.get(key, (Fraction(limit), now_ms))
        level = min(Fraction(limit), level + Fraction((now_ms - since) * limit, WINDOW_SECS * 1000))
        decision = bucket.take(key)
        if abs(level - 1) > Fraction(1, 10_000):  # closer than that, floats may round either way
            assert decision.allowed == (level > 1)
        level -= decision.allowed
        levels[key] = level, now_ms
        assert decision.remaining == pytest.approx(float(level), abs=1.0001)
        assert 0 <= decision.remaining <= limit
        assert bucket.now <= decision.reset_at <= bucket.now + WINDOW_SECS + 1
