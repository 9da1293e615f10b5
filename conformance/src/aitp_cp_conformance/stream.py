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
PATIENCE_SECS = 10.0


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame as it came: `name` is None for the unnamed messages that clients listen to."""

    id: str | None
    name: str | None
    data: Any


class Reader:
    """Frames of one stream, comments left out."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response

    async def raw(self, size: int) -> bytes:
        """The next bytes as they come."""
        return await self._in_time(self._response.content.readexactly(size))

    async def frame(self) -> Frame:
        """The next frame; raises `Broken` when none comes in time."""
        while True:
            block = (await self._in_time(self._response.content.readuntil(b"\n\n"))).decode()
            fields = dict(line.split(": ", 1) for line in block.split("\n") if ": " in line and line[0] != ":")
            if "data" in fields:
                return Frame(fields.get("id"), fields.get("event"), json.loads(fields["data"]))

    async def events(self, count: int) -> list[Event]:
        """The next events, each checked to be an unnamed message under its own sequence number."""
        return [self._event(await self.frame()) for _ in range(count)]

    @staticmethod
    def _event(frame: Frame) -> Event:
        expect.equal(frame.name, None, "the `event:` of an event's frame")
        expect.that((frame.id or "").isdigit(), f"the id of a frame is {frame.id!r}")
        if "seq" in frame.data:
            expect.equal(frame.id, str(frame.data["seq"]), "the id of a frame")
        found: Event = frame.data
        return found

    async def _in_time(self, read: Any) -> bytes:
        try:
            content: bytes = await asyncio.wait_for(read, PATIENCE_SECS)
        except (TimeoutError, asyncio.IncompleteReadError):
            raise Broken(f"the stream sent nothing more within {PATIENCE_SECS:g} s") from None
        return content


@asynccontextmanager
async def streaming(cp: Deployment, headers: dict[str, str] | None = None, /, **query: object) -> AsyncIterator[Reader]:
    """A stream that has said its opening."""
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
    return [one["payload"]["n"] for one in events]


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


@check("9", "an event reaches the stream live, as an unnamed message under its `seq`")
async def live(cp: Deployment) -> None:
    run = cp.name("run")
    async with streaming(cp, runId=run) as reader:
        await reported(cp, run, 3)
        expect.equal(numbers(await reader.events(3)), [0, 1, 2], "the events of the stream")


@check("9", "the streamed event is the stored event")
async def same_event(cp: Deployment) -> None:
    run = cp.name("run")
    async with streaming(cp, runId=run) as reader:
        await cp.report(event(KIND, run_id=run, aid_a=cp.name("a"), grants=["read"], payload={"n": 0}))
        [streamed] = await reader.events(1)
    [stored] = await cp.history(runId=run)
    expect.equal(streamed, stored, "the streamed event")


@check("9", "without a cursor it begins with the newest events kept in memory, oldest first, then goes live")
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
    for wanted in ({"runId": run}, {"run_id": run}, {"aid": aid}, {"type": kind}):
        mark = {"n": cp.name("mark")}
        async with streaming(cp, **wanted) as reader:
            await cp.report(
                event(KIND, run_id=cp.name("other"), payload={"n": "other"}),
                event(kind, run_id=run, aid_b=aid, payload=mark),
            )
            seen = (await reader.events(1))[0]
            while seen["payload"] != mark:
                expect.that(seen["payload"]["n"] != "other", f"the filter {wanted} lets another event through")
                [seen] = await reader.events(1)


@check("9", "with `Last-Event-ID` everything after it comes, without gap or repetition", extension=True)
async def resumes(cp: Deployment) -> None:
    run = cp.name("run")
    await reported(cp, run, 6)
    ids = [one["seq"] for one in reversed(await cp.history(runId=run))]
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


@check("9", "a cursor at the end waits for what comes next", extension=True)
async def resumes_at_end(cp: Deployment) -> None:
    run = cp.name("run")
    await reported(cp, run, 1)
    [last] = await cp.history(runId=run)
    async with streaming(cp, {"Last-Event-ID": str(last["seq"])}, runId=run) as reader:
        await reported(cp, run, 1, start=1)
        expect.equal(numbers(await reader.events(1)), [1], "the event after the cursor")


@check("9", "a reader that comes back again and again sees every event once", extension=True)
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
    expect.equal(seen, list(range(30)), "what a reader saw over eleven connections")


@check("9", "a disconnect frees its slot")
async def slots(cp: Deployment) -> None:
    for _ in range(30):
        async with streaming(cp, runId=cp.run):
            pass


@check("9", "several streams get the same events in the same order")
async def fan_out(cp: Deployment) -> None:
    run = cp.name("run")
    async with streaming(cp, runId=run) as one, streaming(cp, runId=run) as two:
        await asyncio.gather(*(reported(cp, run, 4, start=start) for start in range(0, 40, 4)))
        first, second = await asyncio.gather(one.events(40), two.events(40))
    expect.equal(first, second, "what the second stream got")
    expect.equal(sorted(numbers(first)), list(range(40)), "what both got")
