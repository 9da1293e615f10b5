import asyncio

import pytest

from aitp_cp.web.memo import Memo

pytestmark = pytest.mark.anyio


class Source:
    """Answers with how often it was asked, once `gate` is open."""

    def __init__(self) -> None:
        self.asked = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.failing = False

    async def __call__(self) -> int:
        self.asked += 1
        mine = self.asked
        await self.gate.wait()
        if self.failing:
            raise LookupError
        return mine


class Watch:
    now = 0.0

    def __call__(self) -> float:
        return self.now


async def test_an_answer_is_remembered_for_its_time() -> None:
    source, watch = Source(), Watch()
    memo = Memo[int](1.0, 10, watch)
    assert [await memo.get("k", source), await memo.get("k", source)] == [1, 1]
    watch.now = 0.999
    assert await memo.get("k", source) == 1
    watch.now = 1.0
    assert memo.peek("k") is None
    assert await memo.get("k", source) == 2
    assert memo.peek("k") == 2


async def test_questions_at_once_share_one_answer_even_if_the_first_asker_leaves() -> None:
    source = Source()
    source.gate.clear()
    memo = Memo[int](1.0, 10, Watch())
    askers = [asyncio.create_task(memo.get("k", source)) for _ in range(5)]
    await asyncio.sleep(0)
    askers[0].cancel()
    source.gate.set()
    assert await asyncio.gather(*askers[1:]) == [1, 1, 1, 1]
    assert askers[0].cancelled()


async def test_a_failure_reaches_everyone_who_waits_and_is_not_remembered() -> None:
    source = Source()
    source.failing = True
    memo = Memo[int](1.0, 10, Watch())
    failed = await asyncio.gather(*(memo.get("k", source) for _ in range(3)), return_exceptions=True)
    assert [type(failure) for failure in failed] == [LookupError] * 3
    source.failing = False
    assert await memo.get("k", source) == 2


async def test_what_is_dropped_while_it_is_made_is_not_remembered() -> None:
    source = Source()
    source.gate.clear()
    memo = Memo[int](1.0, 10, Watch())
    asked = asyncio.create_task(memo.get("k", source))
    await asyncio.sleep(0)
    memo.drop()
    source.gate.set()
    assert await asked == 1
    assert await memo.get("k", source) == 2


async def test_the_oldest_go_when_there_are_too_many_and_the_old_at_once() -> None:
    source, watch = Source(), Watch()
    memo = Memo[int](1.0, 2, watch)
    for key in "abc":
        await memo.get(key, source)
    assert [memo.peek(key) for key in "abc"] == [None, 2, 3]
    watch.now = 1.5
    await memo.get("d", source)
    watch.now = 0.5  # had they only been hidden by their age, they would be seen again now
    assert [memo.peek(key) for key in "bcd"] == [None, None, 4]


async def test_another_version_forgets_what_was_read_before_it() -> None:
    source, version = Source(), [0]
    memo = Memo[int](1.0, 10, Watch(), lambda: version[0])
    source.gate.clear()
    before = asyncio.create_task(memo.get("k", source))
    await asyncio.sleep(0)
    version[0] += 1
    source.gate.set()
    assert [await before, await memo.get("k", source), memo.peek("k")] == [1, 2, 2]
    version[0] += 1
    assert memo.peek("k") is None


async def test_who_asks_rarely_is_never_answered_from_memory() -> None:
    source, watch = Source(), Watch()
    memo = Memo[int](1.0, 10, watch, crowd=2)
    assert [(await memo.get("k", source), memo.peek("k")) for _ in range(4)] == [(1, None), (2, 2), (2, 2), (2, 2)]
    watch.now = 1.0
    assert memo.peek("k") is None
    assert [await memo.get("k", source) for _ in range(4)] == [3, 4, 4, 4]
    source.gate.clear()
    memo.drop()
    askers = [asyncio.create_task(memo.get("k", source)) for _ in range(3)]
    await asyncio.sleep(0)
    source.gate.set()
    assert await asyncio.gather(*askers) == [5, 5, 5]


async def test_how_often_was_asked_is_counted_for_a_bounded_number_of_questions() -> None:
    source = Source()
    memo = Memo[int](1.0, 2, Watch(), crowd=1)
    for key in "abc":
        await memo.get(key, source)
    assert [await memo.get("a", source), await memo.get("c", source)] == [4, 3]
