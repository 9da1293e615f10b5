"""GET /api/events/stream as its clients see it."""

import asyncio
import time

import pytest

from tests.events.support import OPENING, append, append_numbers, new_event, replica
from tests.support.waiting import until

pytestmark = pytest.mark.anyio


async def test_first_bytes_and_headers(database_url: str) -> None:
    async with replica(database_url) as one, one.stream() as reader:
        assert reader.status == 200
        assert reader.headers["content-type"] == "text/event-stream"
        assert reader.headers["cache-control"] == "no-cache, no-transform"
        assert reader.headers["x-accel-buffering"] == "no"
        assert await reader.take(len(OPENING)) == OPENING


async def test_a_committed_event_comes_as_an_unnamed_message(database_url: str) -> None:
    async with replica(database_url) as one, one.stream() as reader:
        await reader.take(len(OPENING))
        [event] = await append(one.rt, new_event(7, run_id="r1", aid_a="aid:a", grants=["demo.echo"]))
        frame = await reader.frame()
        assert frame.startswith(b"id: %d\ndata: {" % (event.seq or 0))
        assert frame.count(b"\n") == 3
        assert b"event:" not in frame.split(b"data: ")[0]


async def test_the_event_in_the_frame_has_its_wire_form(database_url: str) -> None:
    async with replica(database_url) as one, one.stream() as reader:
        [sent] = await append(one.rt, new_event(7, run_id="r1", session_id="s1", aid_a="aid:a", grants=["demo.echo"]))
        assert await reader.event() == {
            "id": str(sent.id),
            "type": "demo.event",
            "ts": sent.ts,
            "aidA": "aid:a",
            "aidB": None,
            "sessionId": "s1",
            "runId": "r1",
            "grants": ["demo.echo"],
            "payload": {"number": 7},
            "source": sent.source,
            "seq": sent.seq,
            "reportedBy": None,
            "proof": None,
        }


async def test_heartbeats_fill_silence(database_url: str) -> None:
    async with replica(database_url, SSE_HEARTBEAT_MS="100") as one, one.stream() as reader:
        await reader.take(len(OPENING))
        started = asyncio.get_running_loop().time()
        assert [await reader.frame() for _ in range(3)] == [b": heartbeat\n\n"] * 3
        assert 0.29 <= asyncio.get_running_loop().time() - started < 3


async def test_no_heartbeats_between_events(database_url: str) -> None:
    async with replica(database_url, SSE_HEARTBEAT_MS="1500") as one, one.stream() as reader:
        await reader.take(len(OPENING))
        written = time.monotonic()
        for _ in range(20):
            await append(one.rt, new_event())
            while not (await reader.frame()).startswith(b"id: "):
                assert time.monotonic() - written > 1.4  # a busy machine: nothing came for that long
            written = time.monotonic()
            await asyncio.sleep(0.08)


async def test_without_a_cursor_the_newest_events_in_memory_come_first(database_url: str) -> None:
    async with replica(database_url, MAX_AUDIT_EVENTS_MEMORY="5") as one:
        places = await append_numbers(one.rt, range(12))
        await until(lambda: one.tail.last == places[-1])
        async with one.stream() as reader:
            assert await reader.places(5) == places[-5:]
            later = await append_numbers(one.rt, range(3))
            assert await reader.places(3) == later


async def test_memory_is_filled_from_the_table_at_boot(database_url: str) -> None:
    async with replica(database_url) as one:
        places = await append_numbers(one.rt, range(12))
    async with replica(database_url, MAX_AUDIT_EVENTS_MEMORY="4") as two, two.stream() as reader:
        assert await reader.places(4) == places[-4:]
    async with replica(database_url, MAX_AUDIT_EVENTS_MEMORY="0") as three, three.stream() as reader:
        await reader.take(len(OPENING))
        assert await reader.silent()


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"type": "a"}, [0, 2]),
        ({"runId": "r1"}, [1, 2]),
        ({"run_id": "r1"}, [1, 2]),
        ({"aid": "aid:x"}, [0, 1]),
        ({"type": "a", "runId": "r1"}, [2]),
        ({"type": "nothing"}, []),
    ],
)
@pytest.mark.parametrize("how", ["memory", "table", "live"])
async def test_filters(database_url: str, how: str, query: dict[str, str], expected: list[int]) -> None:
    events = [
        new_event(0, type="a", aid_a="aid:x"),
        new_event(1, type="b", aid_b="aid:x", run_id="r1"),
        new_event(2, type="a", run_id="r1"),
        new_event(3, type="c"),
    ]
    last = new_event(99, type=query.get("type", "z"), run_id="r1", aid_a="aid:x")
    async with replica(database_url) as one:
        if how != "live":
            await append(one.rt, *events)
            await until(lambda: one.tail.last > 0)
        if how == "table":
            one.tail.ring.begin(one.tail.last)
        async with one.stream(last=0 if how == "table" else None, **query) as reader:
            await reader.take(len(OPENING))
            if how == "live":
                await append(one.rt, *events)
            await append(one.rt, last)
            numbers = [(await reader.event())["payload"]["number"] for _ in range(len(expected) + 1)]
            assert numbers == [*expected, 99]


async def test_an_aid_is_found_in_either_spelling(database_url: str) -> None:
    key = "A" * 43
    async with replica(database_url) as one, one.stream(aid=f"aid:pubkey:ed25519:{key}") as reader:
        await append(one.rt, new_event(1), new_event(2, aid_b=f"aid:pubkey:{key}"))
        assert (await reader.event())["payload"]["number"] == 2


async def test_many_small_and_some_large_events_arrive_whole(database_url: str) -> None:
    sizes = [0, 60_000, 1, 8_000, 8_192, 20_000, 0, 64_000]
    async with replica(database_url) as one, one.stream() as live, one.stream(last=0) as resumed:
        await append(one.rt, *(new_event(number, padding=size) for number, size in enumerate(sizes)))
        for reader in (live, resumed):
            for number, size in enumerate(sizes):
                payload = (await reader.event())["payload"]
                assert payload["number"] == number
                assert len(payload.get("padding", "")) == size
