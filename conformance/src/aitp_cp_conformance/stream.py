"""Contract, section 9: `GET /api/events/stream`."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp

from aitp_cp_conformance import expect
from aitp_cp_conformance.check import check
from aitp_cp_conformance.deployment import Deployment, Event, event
from aitp_cp_conformance.model import Broken
from aitp_cp_conformance.wire import with_query

PATH = "/api/events/stream"
OPENING = b"retry: 3000\n: connected\n\n"
KIND = "conformance.stream"
READ_TIMEOUT_SECS = 10.0


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame; `name` is None for an unnamed message."""

    id: str | None
    name: str | None
    data: Any


class Reader:
    """Reads the frames of a stream and skips comments."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response

    async def raw(self, size: int) -> bytes:
        """Return the next `size` bytes."""
        return await self._in_time(self._response.content.readexactly(size))

    async def frame(self) -> Frame:
        """Return the next frame; raise `Broken` after a timeout."""
        while True:
            block = (await self._in_time(self._response.content.readuntil(b"\n\n"))).decode()
            fields = dict(line.split(": ", 1) for line in block.split("\n") if ": " in line and line[0] != ":")
            if "data" in fields:
                return Frame(fields.get("id"), fields.get("event"), json.loads(fields["data"]))

    async def events(self, count: int) -> list[Event]:
        """Return the next events; check that each is an unnamed message with its `seq` as id."""
        return [self._event(await self.frame()) for _ in range(count)]

    @staticmethod
    def _event(frame: Frame) -> Event:
        expect.equal(frame.name, None, "the `event:` of an event's frame")
        expect.that((frame.id or "").isdigit(), f"the id of a frame is {frame.id!r}")
        if "seq" in frame.data:
            expect.equal(frame.id, str(frame.data["seq"]), "the id of a frame")
        streamed: Event = frame.data
        return streamed

    async def _in_time(self, read: Any) -> bytes:
        try:
            content: bytes = await asyncio.wait_for(read, READ_TIMEOUT_SECS)
        except (TimeoutError, asyncio.IncompleteReadError):
            raise Broken(f"the stream sent nothing more within {READ_TIMEOUT_SECS:g} s") from None
        return content


@asynccontextmanager
async def streaming(cp: Deployment, headers: dict[str, str] | None = None, /, **query: object) -> AsyncIterator[Reader]:
    """Open a stream and read its first bytes."""
    credentials = cp.admin_credentials()
    async with cp.wire.open(with_query(PATH, query), {**credentials, **(headers or {})}) as response:
        if response.status != 200:
            raise Broken(f"GET {PATH} answered {response.status}")
        reader = Reader(response)
        expect.equal(await reader.raw(len(OPENING)), OPENING, "the first bytes of the stream")
        yield reader


async def reported(cp: Deployment, run: str, count: int, start: int = 0) -> None:
    await cp.report(*(event(KIND, run_id=run, payload={"n": n}) for n in range(start, start + count)))


def numbers(events: list[Event]) -> list[int]:
    return [row["payload"]["n"] for row in events]


@check("9", "the stream is `text/event-stream`, not cached, not buffered")
async def headers(cp: Deployment) -> None:
    async with cp.wire.open(with_query(PATH, {"runId": cp.run}), cp.admin_credentials()) as response:
        expect.equal(response.status, 200, "the status of the stream")
        shown = {
            name: response.headers.get(name, "") for name in ("content-type", "cache-control", "x-accel-buffering")
        }
    expect.that(shown["content-type"].startswith("text/event-stream"), f"the headers are {shown}")
    expect.equal(shown["cache-control"], "no-cache, no-transform", "Cache-Control")
    expect.equal(shown["x-accel-buffering"], "no", "X-Accel-Buffering")


@check("9", "its first bytes are `retry: 3000` and `: connected`")
async def opening(cp: Deployment) -> None:
    async with streaming(cp, runId=cp.run):
        pass


@check("9", "a new event is sent at once, as an unnamed message with its `seq` as id")
async def live(cp: Deployment) -> None:
    run = cp.name("run")
    async with streaming(cp, runId=run) as reader:
        await reported(cp, run, 3)
        expect.equal(numbers(await reader.events(3)), [0, 1, 2], "the events of the stream")


@check("9", "the stream takes the beginning of a type: `type=handshake.*`", extension=True)
async def type_prefix(cp: Deployment) -> None:
    run = cp.name("run")
    async with streaming(cp, runId=run, type="handshake.*") as reader:
        await cp.report(*(event(kind, run_id=run) for kind in ("tct.odd", "handshakes.x", "handshake.odd")))
        [first] = await reader.events(1)
    expect.equal(first["type"], "handshake.odd", "the type of the first event")


@check("9", "the streamed event is the stored event")
async def same_event(cp: Deployment) -> None:
    run = cp.name("run")
    async with streaming(cp, runId=run) as reader:
        await cp.report(event(KIND, run_id=run, aid_a=cp.name("a"), grants=["read"], payload={"n": 0}))
        [streamed] = await reader.events(1)
    [stored] = await cp.history(runId=run)
    expect.equal(streamed, stored, "the streamed event")


@check("9", "without a cursor it starts with recent events from memory, oldest first, then sends new ones")
async def replays(cp: Deployment) -> None:
    run = cp.name("run")
    await reported(cp, run, 4)
    async with streaming(cp, runId=run) as reader:
        expect.equal(numbers(await reader.events(4)), [0, 1, 2, 3], "the events from memory")
        await reported(cp, run, 2, start=4)
        expect.equal(numbers(await reader.events(2)), [4, 5], "the events after them")


@check("9", "it filters by `type`, `runId` and `aid`")
async def filters(cp: Deployment) -> None:
    run, aid, kind = cp.name("run"), cp.name("aid"), cp.name("type")
    for query in ({"runId": run}, {"run_id": run}, {"aid": aid}, {"type": kind}):
        mark = {"n": cp.name("mark")}
        async with streaming(cp, **query) as reader:
            await cp.report(
                event(KIND, run_id=cp.name("other"), payload={"n": "other"}),
                event(kind, run_id=run, aid_b=aid, payload=mark),
            )
            seen = (await reader.events(1))[0]
            while seen["payload"] != mark:
                expect.that(seen["payload"]["n"] != "other", f"the filter {query} lets another event through")
                [seen] = await reader.events(1)


@check("9", "with `Last-Event-ID` all later events follow, without gaps or repeats", extension=True)
async def resumes(cp: Deployment) -> None:
    run = cp.name("run")
    await reported(cp, run, 6)
    ids = [row["seq"] for row in reversed(await cp.history(runId=run))]
    async with streaming(cp, {"Last-Event-ID": str(ids[2])}, runId=run) as reader:
        await reported(cp, run, 2, start=6)
        expect.equal(numbers(await reader.events(5)), [3, 4, 5, 6, 7], "the events after the cursor")


@check("9", "`?lastEventId=` does the same", extension=True)
async def resumes_by_query(cp: Deployment) -> None:
    run = cp.name("run")
    await reported(cp, run, 3)
    oldest = (await cp.history(runId=run))[-1]["seq"]
    async with streaming(cp, runId=run, lastEventId=oldest) as reader:
        expect.equal(numbers(await reader.events(2)), [1, 2], "the events after the cursor")


@check("9", "a cursor at the end of the log waits for new events", extension=True)
async def resumes_at_end(cp: Deployment) -> None:
    run = cp.name("run")
    await reported(cp, run, 1)
    [last] = await cp.history(runId=run)
    async with streaming(cp, {"Last-Event-ID": str(last["seq"])}, runId=run) as reader:
        await reported(cp, run, 1, start=1)
        expect.equal(numbers(await reader.events(1)), [1], "the event after the cursor")


@check("9", "a client that reconnects repeatedly gets every event once", extension=True)
async def reconnects(cp: Deployment) -> None:
    run, seen = cp.name("run"), list[int]()
    cursor: dict[str, str] = {}
    for start in range(0, 30, 3):
        async with streaming(cp, cursor, runId=run) as reader:
            await reported(cp, run, 3, start=start)
            part = await reader.events(2 if start else 3)
            seen += numbers(part)
            cursor = {"Last-Event-ID": str(part[-1]["seq"])}
    async with streaming(cp, cursor, runId=run) as reader:
        seen += numbers(await reader.events(30 - len(seen)))
    expect.equal(seen, list(range(30)), "the events over eleven connections")


@check("9", "a disconnect frees its slot")
async def slots(cp: Deployment) -> None:
    for _ in range(30):
        async with streaming(cp, runId=cp.run):
            pass


@check("9", "several streams get the same events in the same order")
async def fan_out(cp: Deployment) -> None:
    run = cp.name("run")
    async with streaming(cp, runId=run) as reader, streaming(cp, runId=run) as other:
        await asyncio.gather(*(reported(cp, run, 4, start=start) for start in range(0, 40, 4)))
        first, second = await asyncio.gather(reader.events(40), other.events(40))
    expect.equal(first, second, "the events of the second stream")
    expect.equal(sorted(numbers(first)), list(range(40)), "the events of both streams")
