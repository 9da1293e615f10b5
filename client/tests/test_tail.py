"""A stream that reconnects."""

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import msgspec
import pytest

from aitp_cp_client import ControlPlane, ControlPlaneError, Event, Reset
from client.tests.support import IMPATIENT, answered, collected
from tests.support.app import API_KEY
from tests.support.process import Process
from tests.support.receiver import Answer, Received, Receiver

pytestmark = pytest.mark.anyio

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\nretry: 1\n: connected\n\n"


def event(seq: int) -> bytes:
    made = Event(
        id=UUID(int=seq),
        type="t",
        ts=datetime(2025, 1, 1, tzinfo=UTC),
        aid_a=None,
        aid_b=None,
        session_id=None,
        run_id=None,
        grants=[],
        payload={},
        source=None,
        seq=seq,
    )
    return msgspec.json.encode(made)


def frame(seq: int) -> bytes:
    return b"id: %d\ndata: %b\n\n" % (seq, event(seq))


def reset(reason: str, oldest: int) -> bytes:
    return b"event: reset\ndata: " + msgspec.json.encode({"reason": reason, "oldest": oldest}) + b"\n\n"


def streams(*bodies: bytes) -> Callable[[Received], Answer]:
    """Answer each stream with the next body and close it; later streams hang."""
    left = list(bodies)
    return with_history(lambda _: Answer(raw=HEAD + left.pop(0)) if left else Answer(wait_secs=60))


def with_history(stream: Callable[[Received], Answer], *newest: int) -> Callable[[Received], Answer]:
    """Answer history requests with the newest events, and streams with `stream`."""
    page = Answer(body=b'{"events":[%b]}' % b",".join(event(seq) for seq in newest))
    return lambda request: page if "/events/history" in request.path else stream(request)


def cursors(upstream: Receiver) -> list[str | None]:
    """Return the cursor of each stream request."""
    return [request.headers.get("last-event-id") for request in upstream.got if "/events/stream" in request.path]


def positions(items: list[Event | Reset]) -> list[int]:
    return [item.oldest if isinstance(item, Reset) else item.seq or 0 for item in items]


async def test_it_continues_after_the_last_event() -> None:
    half = frame(4)
    async with answered(streams(frame(2) + frame(3) + half[:-20], half + frame(5))) as (client, upstream):
        async with aclosing(client.events.tail(after=1, type="t")) as events:
            assert positions(await collected(events, 4)) == [2, 3, 4, 5]
        assert cursors(upstream) == ["1", "3"]
        assert {request.path for request in upstream.got} == {"/under/a/path/api/events/stream?type=t"}


@pytest.mark.parametrize(("newest", "cursor"), [((6,), "6"), ((), "0")], ids=["log", "empty log"])
async def test_events_between_silent_connections_are_not_missed(newest: tuple[int, ...], cursor: str) -> None:
    silent = iter([Answer(raw=HEAD), Answer(raw=HEAD), Answer(raw=HEAD + frame(7))])
    async with answered(with_history(lambda _: next(silent, Answer(wait_secs=60)), *newest)) as (client, upstream):
        async with aclosing(client.events.tail(type="t")) as events:
            assert positions(await collected(events, 1)) == [7]
        assert cursors(upstream) == [None, cursor, cursor]


async def test_a_silent_connection_is_lost() -> None:
    def behave(request: Received) -> Answer:
        following = request.headers.get("last-event-id") == "7"
        return Answer(raw=HEAD + frame(8 if following else 7), hold_secs=60)

    lost: list[str] = []
    async with answered(with_history(behave), IMPATIENT) as (client, _):
        tail = client.events.tail(lost=lambda error, _: lost.append(error.code if error else ""))
        async with aclosing(tail) as events:
            assert positions(await collected(events, 2)) == [7, 8]
    assert set(lost) == {"TIMED_OUT"}


async def test_a_reset_is_yielded_and_replaces_the_cursor() -> None:
    bodies = reset("cursor_expired", 40), frame(41) + reset("cursor_unknown", 9), frame(10)
    async with answered(streams(*bodies)) as (client, upstream):
        async with aclosing(client.events.tail(after=3)) as events:
            items = await collected(events, 4)
        assert [type(item) for item in items] == [Reset, Event, Reset, Event]
        assert positions(items) == [40, 41, 9, 10]
        assert cursors(upstream) == ["3", "39", None]


async def test_a_refused_reconnect_ends_the_stream() -> None:
    refusal = Answer(401, b'{"error":"no","code":"INVALID_API_KEY"}')
    left = [Answer(raw=HEAD + frame(1)), Answer(503, b"{}", {"Retry-After": "0"}), refusal]
    async with answered(with_history(lambda _: left.pop(0))) as (client, _):
        events = client.events.tail()
        assert positions([await anext(events)]) == [1]
        with pytest.raises(ControlPlaneError) as refused:
            await anext(events)
    assert refused.value.code == "INVALID_API_KEY"


@pytest.mark.parametrize("body", [b"data: nonsense\n\n", b"data: " + b"x" * (5 * 1024 * 1024)], ids=["data", "line"])
async def test_an_invalid_stream_is_an_error(body: bytes) -> None:
    async with answered(streams(body)) as (client, _):
        with pytest.raises(ControlPlaneError) as refused:
            await anext(client.events.tail())
        assert refused.value.code == "ANSWER_INVALID"


async def test_an_html_page_is_no_stream() -> None:
    page = Answer(body=b"<html>welcome</html>", headers={"Content-Type": "text/html"})
    async with answered(with_history(lambda _: page), IMPATIENT) as (client, upstream):
        with pytest.raises(ControlPlaneError, match="URL right") as refused:
            await asyncio.wait_for(anext(client.events.tail()), 20)
        assert (refused.value.status, refused.value.code) == (200, "ANSWER_INVALID")
        assert len(cursors(upstream)) == 1


async def test_it_survives_a_killed_server(database_url: str, tmp_path: Path) -> None:
    with Process(database_url, tmp_path / "log") as server:
        async with ControlPlane(server.url, API_KEY) as control_plane:

            async def report(first: int) -> None:
                numbers = range(first, first + 5)
                await control_plane.events.report([{"id": str(number), "type": "t"} for number in numbers])

            await report(1)
            async with aclosing(control_plane.events.tail(type="t")) as events:
                before = [await anext(events) for _ in range(5)]
                await asyncio.to_thread(server.kill)
                following = asyncio.create_task(collected(events, 5))
                await asyncio.to_thread(server.start)
                await report(6)
                after = await asyncio.wait_for(following, 30)
            assert positions(before + after) == [event.seq async for event in control_plane.events.log(type="t")]
