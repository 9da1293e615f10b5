"""Last-Event-ID: everything after it, once and in order, on any replica, whatever happened in between."""

import asyncio
import random
from datetime import timedelta

import pytest

from aitp_cp.clock import now
from aitp_cp.events import service
from aitp_cp.runtime import Runtime
from tests.events.support import Replica, append_numbers, connected, replica
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

SMALL_MEMORY = {"MAX_AUDIT_EVENTS_MEMORY": "3"}


async def forget(rt: Runtime, limit: int) -> int:
    """What the retention sweep does, as if everything were old enough."""
    async with rt.db.transaction() as conn:
        return await service.forget(conn, now() + timedelta(days=1), limit)


def shrink_memory(one: Replica) -> None:
    """Let memory hold nothing of the past, so that streams must read the table."""
    one.tail.ring.begin(one.tail.last)


@pytest.mark.parametrize("how", ["header", "query"])
async def test_everything_after_the_cursor_then_live(database_url: str, how: str) -> None:
    async with replica(database_url, **SMALL_MEMORY) as one:
        places = await append_numbers(one.rt, range(300))
        await until(lambda: one.tail.last == places[-1])
        shrink_memory(one)
        cursor = str(places[99])
        async with one.stream(last=cursor) if how == "header" else one.stream(lastEventId=cursor) as reader:
            assert await reader.places(200) == places[100:]
            assert await append_numbers(one.rt, range(2)) == await reader.places(2)


async def test_the_header_is_newer_than_the_query(database_url: str) -> None:
    async with replica(database_url) as one:
        places = await append_numbers(one.rt, range(10))
        async with one.stream(last=places[7], lastEventId=str(places[1])) as reader:
            assert await reader.places(2) == places[8:]


async def test_from_the_very_beginning(database_url: str) -> None:
    async with replica(database_url) as one:
        places = await append_numbers(one.rt, range(10))
        async with one.stream(last=0) as reader:
            assert await reader.places(10) == places


async def test_on_another_replica_and_after_a_restart(database_url: str) -> None:
    async with replica(database_url) as one:
        first = await append_numbers(one.rt, range(5))
        async with one.stream(last=0) as reader:
            assert await reader.places(5) == first
        missed = await append_numbers(one.rt, range(5))
        async with replica(database_url) as two, two.stream(last=first[-1]) as reader:
            assert await reader.places(5) == missed
            assert await append_numbers(one.rt, range(3)) == await reader.places(3)
    async with replica(database_url, **SMALL_MEMORY) as again, again.stream(last=missed[1]) as reader:
        assert await reader.places(6) == [*missed[2:], *range(missed[-1] + 1, missed[-1] + 4)]


async def test_a_replica_that_lags_behind_the_cursor_repeats_nothing(database_url: str) -> None:
    async with replica(database_url) as one:
        await one.tail.stop()
        places = await append_numbers(one.rt, range(4))
        async with one.stream(last=places[1]) as reader:
            await reader.frame()
            await asyncio.sleep(0.1)
            await one.tail.step()
            assert await reader.places(2) == places[2:]


async def test_readers_that_reconnect_at_random_miss_and_repeat_nothing(database_url: str) -> None:
    count, rng = 600, random.Random(3)
    async with replica(database_url, **SMALL_MEMORY) as one, replica(database_url, **SMALL_MEMORY) as two:

        async def write(rt: Runtime) -> None:
            for _ in range(count // 20):
                await append_numbers(rt, range(10))
                await asyncio.sleep(rng.uniform(0, 0.01))

        async def read() -> list[int]:
            seen: list[int] = []
            while len(seen) < count:
                async with rng.choice((one, two)).stream(last=seen[-1] if seen else 0) as reader:
                    seen += await reader.places(min(rng.randint(1, 60), count - len(seen)))
            return seen

        readers = [asyncio.create_task(read()) for _ in range(6)]
        await asyncio.gather(write(one.rt), write(two.rt))
        async with connected(database_url) as conn:
            log = [row["seq"] for row in await conn.fetch("SELECT seq FROM audit_events ORDER BY seq")]
        assert len(log) == count
        for reader in readers:
            assert await reader == log


async def test_catching_up_while_events_keep_coming(database_url: str) -> None:
    async with replica(database_url, **SMALL_MEMORY) as one:
        old = await append_numbers(one.rt, range(1500), padding=300)
        await until(lambda: one.tail.last == old[-1])
        shrink_memory(one)
        writing = asyncio.create_task(_keep_writing(one.rt, 40))
        async with one.stream(last=0) as reader:
            seen = await reader.places(1500 + 400)
        assert seen == old + await writing


async def _keep_writing(rt: Runtime, batches: int) -> list[int]:
    places: list[int] = []
    for _ in range(batches):
        places += await append_numbers(rt, range(10))
    return places


async def test_a_burst_larger_than_memory_ends_no_stream_that_is_read(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aitp_cp.events.tail.WINDOW_EVENTS", 8)
    monkeypatch.setattr("aitp_cp.events.tail.GIVE_WAY_SECS", 0)
    async with replica(database_url, **SMALL_MEMORY) as one, one.stream() as all_of_it, one.stream(type="b") as some:
        await until(lambda: one.metric("sse_streams_open") == 2)
        places: list[int] = []
        for number in range(12):
            places += await append_numbers(one.rt, range(100), type="ab"[number % 2])
        assert await all_of_it.places(1200) == places
        assert await some.places(600) == [place for place in places if (place - 1) // 100 % 2]


async def test_a_deleted_position_is_said_aloud(database_url: str) -> None:
    async with replica(database_url) as one:
        places = await append_numbers(one.rt, range(10))
        assert await forget(one.rt, 6) == 6
        async with one.stream(last=places[2]) as reader:
            assert await reader.reset() == {"reason": "cursor_expired", "oldest": places[6]}
            assert await reader.places(4) == places[6:]
            assert await append_numbers(one.rt, range(1)) == await reader.places(1)


async def test_nothing_is_said_when_nothing_after_the_cursor_is_gone(database_url: str) -> None:
    async with replica(database_url) as one:
        places = await append_numbers(one.rt, range(10))
        await forget(one.rt, 6)
        async with one.stream(last=places[6]) as reader:
            assert await reader.places(3) == places[7:]


async def test_from_the_beginning_of_a_log_that_has_lost_its_own(database_url: str) -> None:
    async with replica(database_url) as one:
        places = await append_numbers(one.rt, range(10))
        await forget(one.rt, 6)
        async with one.stream(last=0) as reader:
            assert await reader.reset() == {"reason": "cursor_expired", "oldest": places[6]}
            assert await reader.places(4) == places[6:]


async def test_a_log_swept_empty(database_url: str) -> None:
    async with replica(database_url) as one:
        places = await append_numbers(one.rt, range(10))
        await forget(one.rt, 10)
        async with one.stream(last=places[4]) as reader:
            assert await reader.reset() == {"reason": "cursor_expired", "oldest": places[-1] + 1}
            assert await append_numbers(one.rt, range(2)) == await reader.places(2)


async def test_a_gap_in_the_sequence_is_no_deletion(database_url: str) -> None:
    async with replica(database_url) as one:
        async with connected(database_url) as conn:
            await conn.execute("SELECT nextval('audit_events_seq') FROM generate_series(1, 5)")
        first = await append_numbers(one.rt, range(3))
        async with connected(database_url) as conn:
            await conn.execute("SELECT nextval('audit_events_seq') FROM generate_series(1, 5)")
        second = await append_numbers(one.rt, range(3))
        assert (first[0], second[0]) == (6, 14)
        async with one.stream(last=0) as reader:
            assert await reader.places(6) == first + second
        async with one.stream(last=first[-1]) as reader:
            assert await reader.places(3) == second


async def test_deletions_by_an_older_control_plane_are_noticed(database_url: str) -> None:
    async with replica(database_url) as one:
        places = await append_numbers(one.rt, range(10))
        async with connected(database_url) as conn:
            await conn.execute("DELETE FROM audit_events WHERE seq <= $1", places[5])
        async with one.stream(last=places[2]) as reader:
            assert await reader.reset() == {"reason": "cursor_expired", "oldest": places[6]}
            assert await reader.places(4) == places[6:]


async def test_retention_overtaking_a_reader_that_catches_up(database_url: str) -> None:
    async with replica(database_url) as one:
        places = await append_numbers(one.rt, range(3000), padding=1000)
        await until(lambda: one.tail.last == places[-1])
        shrink_memory(one)
        async with one.stream(last=0) as reader:
            assert await reader.places(10) == places[:10]
            await forget(one.rt, 2990)
            seen = places[:10]
            while (frame := await reader.frame()).startswith(b"id: "):
                seen.append(int(frame[4 : frame.index(b"\n")]))
            assert seen == places[: len(seen)]
            assert frame == b'event: reset\ndata: {"reason":"cursor_expired","oldest":%d}\n\n' % places[2990]
            assert await reader.places(10) == places[2990:]


@pytest.mark.parametrize("cursor", ["999999", "garbage", "-1", "9223372036854775808", "1e3", "1" * 400])
async def test_a_cursor_of_no_known_event_is_said_aloud(database_url: str, cursor: str) -> None:
    async with replica(database_url, **SMALL_MEMORY) as one:
        places = await append_numbers(one.rt, range(10))
        await until(lambda: one.tail.last == places[-1])
        async with one.stream(last=cursor) as reader:
            assert await reader.reset() == {"reason": "cursor_unknown", "oldest": places[0]}
            assert await reader.places(3) == places[-3:]
            assert await append_numbers(one.rt, range(1)) == await reader.places(1)


async def test_an_empty_cursor_is_none(database_url: str) -> None:
    async with replica(database_url, **SMALL_MEMORY) as one:
        places = await append_numbers(one.rt, range(10))
        await until(lambda: one.tail.last == places[-1])
        async with one.stream(lastEventId="") as reader:
            assert await reader.places(3) == places[-3:]


async def test_a_rare_filter_over_a_long_stretch(database_url: str) -> None:
    async with replica(database_url) as one:
        [first] = await append_numbers(one.rt, range(1), run_id="rare")
        async with connected(database_url) as conn:
            await conn.execute(
                "INSERT INTO audit_events (id, type, ts, seq) SELECT gen_random_uuid(), 'x', now(), "
                "nextval('audit_events_seq') FROM generate_series(1, 30000)"
            )
        last = await append_numbers(one.rt, range(2), run_id="rare")
        await until(lambda: one.tail.last == last[-1])
        async with one.stream(last=0, runId="rare") as reader:
            assert await reader.places(3) == [first, *last]
