"""Slots, slow readers, and the end of the process."""

import asyncio
import socket

import pytest

from aitp_cp.events import stream as streams
from aitp_cp.web import sse
from tests.events.support import OPENING, Replica, append_numbers, connected, replica
from tests.support.waiting import until

pytestmark = pytest.mark.anyio


async def test_over_capacity(database_url: str) -> None:
    async with (
        replica(database_url, MAX_SSE_CONNECTIONS="2", SSE_PER_CALLER="2") as one,
        one.stream() as first,
        one.stream(),
    ):
        async with one.stream() as refused:
            assert refused.status == 503
            assert refused.headers["retry-after"] == "30"
            assert refused.headers["content-type"] == "application/json"
        assert first.status == 200
        assert one.metric("sse_streams_open") == 2
        assert one.metric("sse_streams_opened_total") == 2
        assert one.metric("sse_streams_rejected_total") == 1


async def test_a_disconnect_frees_the_slot_at_once(database_url: str) -> None:
    async with replica(database_url, MAX_SSE_CONNECTIONS="1") as one:
        for _ in range(5):
            async with one.stream() as reader:
                assert reader.status == 200
                assert await reader.take(len(OPENING)) == OPENING
            await until(lambda: one.metric("sse_streams_open") == 0, timeout=3)


async def test_a_disconnect_while_waiting_for_the_database_frees_the_slot(database_url: str) -> None:
    async with replica(database_url, MAX_SSE_CONNECTIONS="1") as one:
        await append_numbers(one.rt, range(3))
        async with connected(database_url) as conn, conn.transaction():
            await conn.execute("LOCK TABLE audit_events")
            async with one.stream(last=1) as reader:
                assert reader.status == 200
                await asyncio.sleep(0.2)
            await until(lambda: one.metric("sse_streams_open") == 0, timeout=4)  # before the lock times out
        assert await append_numbers(one.rt, range(2)) == [4, 5]
        await until(lambda: one.rt.db.in_use == 0)


async def test_streams_hold_no_connection_while_they_wait(database_url: str) -> None:
    async with replica(database_url, DB_POOL_MAX="2") as one:
        readers = [one.stream(last=0) for _ in range(20)]
        for reader in readers:
            await reader.__aenter__()
        places = await append_numbers(one.rt, range(5))
        for reader in readers:
            assert await reader.places(5) == places
        await until(lambda: one.rt.db.in_use == 0)
        for reader in readers:
            await reader.__aexit__()


async def _flood(one: Replica, *, until_open: int) -> None:
    """Write until so few streams are left, then until the tail has it all."""
    for _ in range(100):
        places = await append_numbers(one.rt, range(100), padding=1000)
        if one.metric("sse_streams_open") <= until_open:
            break
    await until(lambda: one.tail.last == places[-1])


async def test_a_reader_that_does_not_read_is_cut_and_others_feel_nothing(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with replica(database_url) as one, one.stream() as healthy, one.stream() as stuck:
        stuck.stop_reading()
        seen: list[int] = []

        async def read() -> None:
            while True:
                seen.append((await healthy.event())["seq"])

        reading = asyncio.create_task(read())
        # Nothing more than memory's window, the socket's buffers and a chunk can wait for it.
        await _flood(one, until_open=1)
        assert one.metric("sse_streams_open") == 1
        await until(lambda: bool(seen) and seen[-1] == one.tail.last)
        assert seen == list(range(1, one.tail.last + 1))
        reading.cancel()
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == []


async def test_a_cut_reader_goes_on_with_its_last_id(database_url: str) -> None:
    async with replica(database_url) as one:
        async with one.stream() as stuck:
            first = (await append_numbers(one.rt, range(1)))[0]
            assert await stuck.places(1) == [first]
            stuck.stop_reading()
            await _flood(one, until_open=0)
            stuck.go_on_reading()
            seen = [first]
            while frame := await stuck.frame():
                seen.append(int(frame[4 : frame.index(b"\n")]))
        async with one.stream(last=seen[-1]) as again:
            rest = await again.places(one.tail.last - seen[-1])
        assert seen + rest == list(range(1, one.tail.last + 1))


async def test_what_waits_for_a_stuck_reader_is_bounded(database_url: str) -> None:
    async with replica(database_url) as one, one.stream() as stuck:
        stuck.stop_reading()
        await append_numbers(one.rt, range(500), padding=1000)
        await until(lambda: any(c.get_write_buffer_size() for c in one.connections()))
        await asyncio.sleep(0.2)
        [server_side] = [c for c in one.connections() if c.get_write_buffer_size()]
        assert 0 < server_side.get_write_buffer_size() <= sse.TRANSPORT_BYTES + sse.CHUNK_BYTES + 64
        sock = server_side.get_extra_info("socket")
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) <= 2 * sse.SOCKET_BYTES


async def test_a_client_that_takes_nothing_is_cut_although_little_waits(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sse, "WRITE_TIMEOUT_SECS", 0.3)
    async with replica(database_url) as one, one.stream() as stuck:
        stuck.stop_reading()
        await append_numbers(one.rt, range(60), padding=60_000)
        await until(lambda: one.metric("sse_streams_open") == 0, timeout=3)


async def test_a_filtered_stream_that_shows_nothing_is_not_cut(database_url: str) -> None:
    async with replica(database_url) as one, one.stream(runId="mine") as quiet:
        assert await quiet.take(len(OPENING)) == OPENING
        for _ in range(12):
            await append_numbers(one.rt, range(500))
        await until(lambda: one.tail.last == 6000)
        places = await append_numbers(one.rt, range(2), run_id="mine")
        assert await quiet.places(2) == places


async def test_draining_says_when_to_come_back_and_spreads_the_ends(database_url: str) -> None:
    async with replica(database_url) as one:
        readers = [one.stream() for _ in range(20)]
        loop, ends, waits = asyncio.get_running_loop(), [], []

        async def read_to_the_end(index: int) -> None:
            async with readers[index] as reader:
                frames = []
                while frame := await reader.frame():
                    frames.append(frame)
                ends.append(loop.time())
                assert frames[-1].startswith(b"retry: ")
                waits.append(int(frames[-1].split()[1]))

        tasks = [asyncio.create_task(read_to_the_end(index)) for index in range(20)]
        await until(lambda: one.metric("sse_streams_open") == 20)
        await streams.end_streams(one.rt, 0.6)
        await asyncio.gather(*tasks)
        assert max(ends) - min(ends) > 0.3
        assert all(1000 <= wait <= 5000 for wait in waits)
        assert len(set(waits)) > 10


async def test_while_draining_new_streams_are_served_to_the_end_of_the_window(database_url: str) -> None:
    async with replica(database_url) as one:
        ending = asyncio.create_task(streams.end_streams(one.rt, 0.5))
        await asyncio.sleep(0.05)
        async with one.stream(last=0) as reader:
            frames = []
            while frame := await reader.frame():
                frames.append(frame)
        assert frames[-1].startswith(b"retry: ")
        await ending
        assert one.metric("sse_streams_open") == 0


async def test_a_stuck_reader_does_not_hold_up_the_drain(database_url: str) -> None:
    async with replica(database_url) as one, one.stream() as stuck:
        stuck.stop_reading()
        await append_numbers(one.rt, range(500), padding=1000)
        await until(lambda: one.tail.last == 500)
        async with asyncio.timeout(3):
            await streams.end_streams(one.rt, 0.1)
            await until(lambda: one.metric("sse_streams_open") == 0)
