"""The tail: in order, exactly once, whatever happens to the database."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from aitp_cp.errors import DatabaseUnavailable
from aitp_cp.events.model import Event
from aitp_cp.events.ring import Frame
from aitp_cp.events.tail import Tail
from aitp_cp.runtime import Runtime
from tests.events.support import append_numbers, connected, replica, runtime
from tests.support.proxy import proxy
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

KILL_OTHERS = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
"""
WITHOUT_A_BELL = """
INSERT INTO audit_events (id, type, ts, seq) VALUES (gen_random_uuid(), 'x', now(), nextval('audit_events_seq'))
"""
BEYOND_THE_CALENDAR = """
INSERT INTO audit_events (id, type, ts, seq)
VALUES (gen_random_uuid(), 'odd', '0044-03-15 BC', nextval('audit_events_seq'))
RETURNING seq
"""


class Follower:
    running = False

    def __init__(self) -> None:
        self.seen: list[int] = []

    def published(self, frames: Sequence[Frame]) -> None:
        self.seen += [frame.seq for frame in frames]


def lag(rt: Runtime) -> float:
    value = rt.metrics.registry.get_sample_value("aitp_control_plane_tail_lag_seconds")
    assert value is not None
    return value


@asynccontextmanager
async def following(rt: Runtime) -> AsyncIterator[tuple[Tail, Follower]]:
    tail, follower = Tail(rt), Follower()
    tail.follow(follower)
    await tail.start()
    try:
        yield tail, follower
    finally:
        await tail.stop()


async def test_each_event_once_and_in_order_on_every_replica(database_url: str) -> None:
    async with (
        runtime(database_url) as one,
        runtime(database_url) as two,
        following(one) as (_, first),
        following(two) as (_, second),
    ):
        batches = (append_numbers((one, two)[number % 2], range(number % 7)) for number in range(60))
        written = sorted(place for batch in await asyncio.gather(*batches) for place in batch)
        await until(lambda: len(first.seen) == len(second.seen) == len(written))
        assert first.seen == second.seen == written


async def test_a_notification_is_quicker_than_the_poll(database_url: str) -> None:
    async with runtime(database_url) as rt, following(rt) as (tail, follower):
        await asyncio.sleep(0.1)
        loop = asyncio.get_running_loop()
        took = []
        for number in range(20):
            started = loop.time()
            [place] = await append_numbers(rt, [number])
            await until(lambda: tail.last == place)  # noqa: B023 - called within this turn
            took.append(loop.time() - started)
        assert sorted(took)[10] < 0.5
        assert len(follower.seen) == 20


async def test_what_was_written_without_a_bell_is_found_by_looking(database_url: str) -> None:
    async with runtime(database_url) as rt, following(rt) as (_, follower), connected(database_url) as conn:
        await conn.execute(WITHOUT_A_BELL)
        await until(lambda: follower.seen == [1])


async def test_connections_killed_again_and_again_lose_and_repeat_nothing(database_url: str) -> None:
    written: list[int] = []
    killing = True

    async def write(rt: Runtime) -> None:
        while killing or len(written) < 50:
            try:
                written.extend(await append_numbers(rt, range(5)))
            except DatabaseUnavailable:
                await asyncio.sleep(0.01)

    async with runtime(database_url) as rt, runtime(database_url) as writer, following(rt) as (tail, follower):
        writing = asyncio.gather(*(write(writer) for _ in range(3)))
        async with connected(database_url) as killer:
            for _ in range(25):
                await killer.execute(KILL_OTHERS)
                await asyncio.sleep(0.05)
            killing = False
            await writing
            in_log = [row["seq"] for row in await killer.fetch("SELECT seq FROM audit_events ORDER BY seq")]
        await until(lambda: tail.last == in_log[-1])
        assert follower.seen == in_log
        assert set(written) <= set(in_log)


async def test_a_database_that_is_away_for_a_while(database_url: str, server_url: str) -> None:
    name = database_url.split("/")[3].split("?")[0]
    async with (
        runtime(database_url) as rt,
        following(rt) as (tail, follower),
        connected(server_url) as admin,
        connected(server_url) as outside,
    ):
        places = await append_numbers(rt, range(3))
        await until(lambda: follower.seen == places)
        await admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        await outside.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name)
        with pytest.raises(DatabaseUnavailable):
            await append_numbers(rt, range(1))
        await asyncio.sleep(1.2)
        assert lag(rt) > 1
        await admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
        places += await append_numbers(rt, range(3))
        await until(lambda: follower.seen == places)
        await asyncio.sleep(1.1)
        assert lag(rt) < 1
        assert tail.last == places[-1]


async def test_connections_that_are_silently_dead(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aitp_cp.events.tail.READ_TIMEOUT_SECS", 0.5)
    monkeypatch.setattr("aitp_cp.db.pool.ACQUIRE_TIMEOUT_SECS", 1.0)
    async with (
        proxy(database_url) as (dsn, freeze),
        runtime(database_url) as writer,
        runtime(dsn) as rt,
        following(rt) as (_, follower),
    ):
        places = await append_numbers(writer, range(3))
        await until(lambda: follower.seen == places)
        assert all(await asyncio.gather(*(rt.db.ping(5) for _ in range(8))))
        freeze()
        places += await append_numbers(writer, range(3))
        await until(lambda: follower.seen == places)
        assert all(await asyncio.gather(*(rt.db.ping(5) for _ in range(8))))


async def test_a_row_beyond_the_calendar_is_followed_like_any_other(database_url: str) -> None:
    async with replica(database_url) as one, connected(database_url) as conn:
        places = await append_numbers(one.rt, range(3))
        places.append(await conn.fetchval(BEYOND_THE_CALENDAR))
        places += await append_numbers(one.rt, range(100))
        await until(lambda: one.tail.last == places[-1])
        async with one.stream() as from_memory:
            assert await from_memory.places(104) == places
        one.tail.ring.begin(one.tail.last)
        async with one.stream(last=0) as from_table:
            assert await from_table.places(104) == places
    async with replica(database_url) as again, again.stream() as reader:
        assert await reader.places(104) == places


async def test_callbacks_get_every_event_once_and_may_fail(database_url: str) -> None:
    async with runtime(database_url) as rt:
        before = await append_numbers(rt, range(5))
        tail = Tail(rt)
        seen: list[int | None] = []

        def broken(events: Sequence[Event]) -> None:
            raise RuntimeError("of no concern to others")

        tail.on_events(broken)
        tail.on_events(lambda events: seen.extend(event.seq for event in events))
        await tail.start()
        after = await append_numbers(rt, range(5))
        await until(lambda: seen == after)
        await tail.stop()
        assert before[-1] < after[0]


async def test_what_memory_has_no_room_for_is_counted(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aitp_cp.events.tail.WINDOW_BYTES", 100_000)
    async with replica(database_url, MAX_AUDIT_EVENTS_MEMORY="50") as one:
        places = await append_numbers(one.rt, range(50), padding=10_000)
        await until(lambda: one.tail.last == places[-1])
        held = one.tail.ring.end - one.tail.ring.base
        assert 5 <= held < 10
        assert one.metric("event_backlog_dropped") == 50 - held
        async with one.stream() as reader:
            assert await reader.places(held) == places[-held:]


async def test_a_backlog_larger_than_a_page_is_read_without_waiting(database_url: str) -> None:
    async with runtime(database_url) as rt:
        async with following(rt) as (_, follower):
            for _ in range(4):
                await append_numbers(rt, range(1000))
            await append_numbers(rt, range(60), padding=60_000)
            await until(lambda: len(follower.seen) == 4060)  # a second for each page would be far more
        assert follower.seen == list(range(1, 4061))


async def test_stopping_is_quick_when_the_database_hangs(database_url: str) -> None:
    async with runtime(database_url) as rt, connected(database_url) as conn:
        tail = Tail(rt)
        await tail.start()
        async with conn.transaction():
            await conn.execute("LOCK TABLE audit_events")
            await asyncio.sleep(1.1)
            async with asyncio.timeout(3):
                await tail.stop()


async def test_at_boot_only_what_memory_keeps_is_read(database_url: str) -> None:
    async with runtime(database_url, MAX_AUDIT_EVENTS_MEMORY="7") as rt:
        places = await append_numbers(rt, range(30))
        async with following(rt) as (tail, follower):
            assert tail.last == places[-1]
            assert tail.ring.end - tail.ring.base == 7
            assert follower.seen == []
