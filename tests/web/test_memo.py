import asyncio

import pytest

from aitp_cp.web.memo import ENTRY_BYTES, Memo

pytestmark = pytest.mark.anyio


class Source:
    """Returns how often it was called, once `gate` is open."""

    def __init__(self) -> None:
        self.calls = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.failing = False

    async def __call__(self) -> int:
        self.calls += 1
        mine = self.calls
        await self.gate.wait()
        if self.failing:
            raise LookupError
        return mine


class Watch:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Sized(Memo[int]):
    """Values of 100 bytes each; usable while `trusted`."""

    trusted = True

    def size(self, value: int) -> int:
        return 100

    def usable(self, value: int) -> bool:
        return self.trusted


async def test_a_value_is_kept_for_its_time() -> None:
    source, watch = Source(), Watch()
    memo = Memo[int](1.0, 1000, clock=watch)
    assert [await memo.get("k", source), await memo.get("k", source)] == [1, 1]
    watch.now = 0.999
    assert await memo.get("k", source) == 1
    watch.now = 1.0
    assert memo.find("k") is None
    assert await memo.get("k", source) == 2
    assert memo.find("k") == 2


async def test_concurrent_requests_share_one_build_even_if_the_first_leaves() -> None:
    source = Source()
    source.gate.clear()
    memo = Memo[int](1.0, 1000, clock=Watch())
    waiting = [asyncio.create_task(memo.get("k", source)) for _ in range(5)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    source.gate.set()
    assert await asyncio.gather(*waiting[1:]) == [1, 1, 1, 1]
    assert waiting[0].cancelled()


async def test_a_failure_reaches_everyone_who_waits_and_is_not_kept() -> None:
    source = Source()
    source.failing = True
    memo = Memo[int](1.0, 1000, clock=Watch())
    failed = await asyncio.gather(*(memo.get("k", source) for _ in range(3)), return_exceptions=True)
    assert [type(failure) for failure in failed] == [LookupError] * 3
    source.failing = False
    assert await memo.get("k", source) == 2


@pytest.mark.parametrize("forget", [lambda memo: memo.clear(), lambda memo: memo.forget("other", "k")])
async def test_a_value_that_is_forgotten_while_it_is_built_is_not_kept(forget) -> None:  # type: ignore[no-untyped-def]
    source = Source()
    source.gate.clear()
    memo = Memo[int](1.0, 1000, clock=Watch())
    waiting = asyncio.create_task(memo.get("k", source))
    await asyncio.sleep(0)
    forget(memo)
    source.gate.set()
    assert await waiting == 1
    assert await memo.get("k", source) == 2


async def test_the_oldest_leave_when_there_are_too_many_bytes_and_the_expired_at_once() -> None:
    source, watch = Source(), Watch()
    memo = Sized(1.0, 2 * (100 + ENTRY_BYTES), clock=watch)
    for key in "abc":
        await memo.get(key, source)
    assert [memo.find(key) for key in "abc"] == [None, 2, 3]
    assert memo.bytes_held == 2 * (100 + ENTRY_BYTES)
    watch.now = 1.5
    await memo.get("d", source)
    assert memo.bytes_held == 100 + ENTRY_BYTES
    watch.now = 0.5  # had they only been hidden by their age, they would be seen again now
    assert [memo.find(key) for key in "bcd"] == [None, None, 4]
    memo.clear()
    assert memo.bytes_held == 0


async def test_another_version_forgets_what_was_read_before_it() -> None:
    source, version = Source(), [0]
    memo = Memo[int](1.0, 1000, clock=Watch(), version=lambda: version[0])
    source.gate.clear()
    before = asyncio.create_task(memo.get("k", source))
    await asyncio.sleep(0)
    version[0] += 1
    source.gate.set()
    assert [await before, await memo.get("k", source), memo.find("k")] == [1, 2, 2]
    version[0] += 1
    assert memo.find("k") is None


async def test_what_may_not_be_used_now_is_built_again() -> None:
    source = Source()
    memo = Sized(1.0, 100_000, clock=Watch())
    assert await memo.get("k", source) == 1
    memo.trusted = False
    assert [await memo.get("k", source), memo.find("k")] == [2, None]
    memo.trusted = True
    assert await memo.get("k", source) == 2
