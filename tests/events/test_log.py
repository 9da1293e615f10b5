"""The log itself: `seq` order is commit order, an event is there once, a transaction all or nothing."""

import asyncio
import random
from contextlib import suppress
from datetime import timedelta
from uuid import UUID, uuid4

import asyncpg
import pytest

from aitp_cp.clock import now
from aitp_cp.db import Connection
from aitp_cp.errors import DatabaseUnavailable
from aitp_cp.events import service, store
from aitp_cp.events.model import MAX_SEQ, Event, HistoryFilter, LogSpan, NewEvent
from aitp_cp.runtime import Runtime
from tests.events.support import append, append_numbers, connected, new_event, read_after, runtime
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

ALL = HistoryFilter()


class Abandoned(Exception):
    """Raised to leave a transaction undone."""


async def log_ids(rt: Runtime) -> list[UUID]:
    async with rt.db.connection() as conn:
        return [row["id"] for row in await conn.fetch("SELECT id FROM audit_events ORDER BY seq")]


async def test_a_batch_keeps_its_order(database_url: str) -> None:
    async with runtime(database_url) as rt:
        events = [new_event(number) for number in range(500)]
        new = await append(rt, *events)
        assert [event.id for event in new] == [event.id for event in events] == await log_ids(rt)
        assert [event.seq for event in new] == list(range(1, 501))


async def test_what_append_returns_is_what_readers_see(database_url: str) -> None:
    async with runtime(database_url) as rt:
        [new] = await append(rt, new_event(1, aid_a="aid:a", session_id="s", run_id="r", grants=["x"]))
        async with rt.db.connection() as conn:
            [read] = await read_after(conn, 0)
        assert read.seq == new.seq
        assert _comparable(read) == _comparable(new)


def _comparable(event: Event) -> tuple[object, ...]:
    payload = bytes(event.payload).replace(b" ", b"")
    return event.id, event.type, event.ts, event.aid_a, event.session_id, event.run_id, bytes(event.grants), payload


async def test_a_repeated_event_is_stored_once(database_url: str) -> None:
    async with runtime(database_url) as rt:
        one, two, three = (new_event(number) for number in range(3))
        assert [event.id for event in await append(rt, one, two, one)] == [one.id, two.id]
        again = await append(rt, two, three, three, one)
        assert [event.id for event in again] == [three.id]
        assert await append(rt, one, two, three) == []
        assert await append(rt) == []
        assert await log_ids(rt) == [one.id, two.id, three.id]


async def test_the_bell_rings_once_for_a_batch_and_not_for_repetitions(database_url: str) -> None:
    rings: list[str] = []
    async with runtime(database_url) as rt, connected(database_url) as conn:
        await conn.add_listener("aitp_cp_log", lambda *said: rings.append(str(said[3])))
        event = new_event()
        await append(rt, event, new_event())
        await append(rt, event)
        await append(rt, new_event())
        await until(lambda: len(rings) == 2)
        assert rings == ["2", "4"]


async def test_concurrent_repetitions_store_one(database_url: str) -> None:
    async with runtime(database_url) as one, runtime(database_url) as two:
        events = [new_event(number) for number in range(20)]
        responses = await asyncio.gather(*(append((one, two)[turn % 2], *events) for turn in range(10)))
        assert sorted(map(len, responses)) == [0] * 9 + [20]
        assert len(await log_ids(one)) == 20


async def test_a_failed_transaction_leaves_nothing(database_url: str) -> None:
    async with runtime(database_url) as rt:
        with suppress(Abandoned):
            async with rt.db.transaction() as conn:
                await service.append(conn, [new_event()], now())
                raise Abandoned
        assert await log_ids(rt) == []
        assert await append_numbers(rt, range(1)) == [2]


async def test_two_transactions_held_open_in_opposite_order(database_url: str) -> None:
    """The one that opened first commits last; a reader in between never finds a row below what it has seen."""
    async with runtime(database_url) as rt:
        first_is_open, second_has_appended = asyncio.Event(), asyncio.Event()
        seen: list[int] = []

        async def opens_first_commits_last() -> None:
            async with rt.db.transaction() as conn:
                await conn.execute("SELECT 1 FROM agents")
                first_is_open.set()
                await second_has_appended.wait()
                await service.append(conn, [new_event(1)], now())
                await asyncio.sleep(0.1)

        async def opens_second_commits_first() -> None:
            await first_is_open.wait()
            async with rt.db.transaction() as conn:
                await service.append(conn, [new_event(2)], now())
                second_has_appended.set()
                await asyncio.sleep(0.3)

        writers = asyncio.gather(opens_first_commits_last(), opens_second_commits_first())
        while not writers.done():
            seen += await _after(rt, seen[-1] if seen else 0)
        await writers
        seen += await _after(rt, seen[-1] if seen else 0)
        async with rt.db.connection() as conn:
            numbers = [event.payload for event in await read_after(conn, 0)]
        assert seen == [1, 2]
        assert [bytes(payload) for payload in numbers] == [b'{"number": 2}', b'{"number": 1}']


async def test_a_place_is_given_only_when_nothing_before_it_is_open(database_url: str) -> None:
    async with runtime(database_url) as one, runtime(database_url) as two, connected(database_url) as reader:
        held = one.db.transaction()
        conn = await held.__aenter__()
        await service.append(conn, [new_event(1)], now())
        later = asyncio.create_task(append_numbers(two, [2]))
        await asyncio.sleep(0.3)
        assert not later.done()
        assert await reader.fetchval("SELECT count(*) FROM audit_events") == 0
        await held.__aexit__(None, None, None)
        assert await later == [2]


async def test_no_reader_ever_skips_a_row(database_url: str) -> None:
    rng = random.Random(1)
    async with runtime(database_url) as one, runtime(database_url) as two:

        async def write(rt: Runtime) -> None:
            for _ in range(15):
                async with rt.db.transaction() as conn:
                    await asyncio.sleep(rng.uniform(0, 0.01))
                    await service.append(conn, [new_event() for _ in range(rng.randint(1, 4))], now())
                    await asyncio.sleep(rng.uniform(0, 0.01))

        writers = asyncio.gather(*(write(rt) for rt in (one, one, one, two, two, two)))
        seen: list[int] = []
        while not writers.done():
            seen += await _after(one, seen[-1] if seen else 0)
        await writers
        seen += await _after(one, seen[-1] if seen else 0)
        assert seen == await _after(one, 0)
        assert len(seen) >= 90


async def _after(rt: Runtime, seq: int) -> list[int]:
    async with rt.db.connection() as conn:
        return [event.seq or 0 for event in await read_after(conn, seq)]


async def test_a_writer_that_hangs_does_not_hold_the_others_for_ever(database_url: str) -> None:
    async with runtime(database_url) as rt, connected(database_url) as conn, conn.transaction():
        await conn.execute("SELECT pg_advisory_xact_lock(4694481020131148801)")
        async with asyncio.timeout(8):
            with pytest.raises(DatabaseUnavailable):
                await append(rt, new_event())


async def read(conn: Connection, wanted: HistoryFilter = ALL, **span: int) -> tuple[list[int], int, bool]:
    page = await store.read_log(
        conn, wanted, LogSpan(**{"after": 0, "through": MAX_SEQ, "rows": 9, "size": 10**6, **span})
    )
    return [event.seq or 0 for event in page.events], page.last, page.more


async def test_pages_of_the_log(database_url: str) -> None:
    async with runtime(database_url) as rt:
        await append(rt, *(new_event(number, type="ab"[number % 2], padding=1000) for number in range(10)))
        async with rt.db.connection() as conn:
            assert await read(conn) == ([1, 2, 3, 4, 5, 6, 7, 8, 9], 9, True)
            assert await read(conn, after=9) == ([10], 10, False)
            assert await read(conn, after=10) == ([], 10, False)
            assert await read(conn, after=2, through=5) == ([3, 4, 5], 5, False)
            assert await read(conn, size=2500) == ([1, 2, 3], 3, True)
            assert await read(conn, size=1) == ([1], 1, True)
            assert await read(conn, HistoryFilter(type="b")) == ([2, 4, 6, 8, 10], 10, False)
            assert await read(conn, HistoryFilter(type="b"), rows=2) == ([2, 4], 4, True)


async def forget(rt: Runtime, limit: int, *, days: int = 90) -> int:
    async with rt.db.transaction() as conn:
        return await service.forget(conn, now() - timedelta(days=days), limit)


async def horizon(rt: Runtime) -> int:
    async with rt.db.connection() as conn:
        return (await store.extent(conn, 0)).deleted_through


async def test_forgetting_takes_the_first_received_and_raises_the_horizon(database_url: str) -> None:
    async with runtime(database_url) as rt:
        events = [
            NewEvent(id=uuid4(), type="x", ts=now() - timedelta(days=ts), payload="{}") for ts in (1, 99, 0, 500, 9)
        ]
        for event, age in zip(events, (400, 300, 200, 100, 1), strict=True):
            async with rt.db.transaction() as conn:
                await service.append(conn, [event], now() - timedelta(days=age))
        assert (await forget(rt, 2), await horizon(rt)) == (2, 2)
        assert await log_ids(rt) == [event.id for event in events[2:]]
        assert (await forget(rt, 1), await horizon(rt)) == (1, 3)
        assert (await forget(rt, 10), await horizon(rt)) == (1, 4)
        assert (await forget(rt, 10), await horizon(rt)) == (0, 4)
        assert await log_ids(rt) == [events[4].id]


async def test_a_sweep_that_is_rolled_back_leaves_the_horizon(database_url: str) -> None:
    async with runtime(database_url) as rt:
        await append_numbers(rt, range(5))
        with suppress(Abandoned):
            async with rt.db.transaction() as conn:
                assert await service.forget(conn, now() + timedelta(days=1), 3) == 3
                raise Abandoned
        assert await horizon(rt) == 0
        assert len(await log_ids(rt)) == 5


async def test_the_horizon_has_one_row(database_url: str) -> None:
    async with runtime(database_url) as rt, connected(database_url) as conn:
        for _ in range(3):
            await append_numbers(rt, range(2))
            await forget(rt, 10, days=-1)
        assert [row["deleted_through"] for row in await conn.fetch("SELECT deleted_through FROM log_horizon")] == [6]
        with pytest.raises(asyncpg.CheckViolationError):
            await conn.execute("INSERT INTO log_horizon (only_row) VALUES (false)")
