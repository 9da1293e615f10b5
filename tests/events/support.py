"""The event room served by a real uvicorn in this process, and clients that read its streams byte by byte."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Self, cast
from urllib.parse import urlencode
from uuid import uuid4

import asyncpg

from aitp_cp.clock import now
from aitp_cp.db import Connection
from aitp_cp.events import service, store
from aitp_cp.events.model import MAX_SEQ, Event, HistoryFilter, LogSpan, NewEvent
from aitp_cp.events.routes import ENDPOINTS
from aitp_cp.events.stream import Streams
from aitp_cp.events.tail import Tail
from aitp_cp.runtime import Runtime, open_runtime
from aitp_cp.settings import load
from aitp_cp.web.edge import Edge
from aitp_cp.web.routing import Router
from aitp_cp.web.server import Server, build_server
from tests.support.app import API_KEY, ENVIRONMENT
from tests.support.waiting import until

PATIENCE_SECS = 10.0
OPENING = b"retry: 3000\n: connected\n\n"


def new_event(number: int = 0, *, type: str = "demo.event", padding: int = 0, **more: Any) -> NewEvent:
    payload = {"number": number, "padding": "x" * padding} if padding else {"number": number}
    return NewEvent(id=uuid4(), type=type, ts=now(), payload=json.dumps(payload), **more)


async def append(rt: Runtime, *events: NewEvent) -> list[Event]:
    """One committed batch: what was new, as the log shows it."""
    async with rt.db.transaction() as conn:
        positions = await service.append(conn, events, now())
        if not positions:
            return []
        return [event for event in await read_after(conn, min(positions.values()) - 1) if event.id in positions]


async def read_after(conn: Connection, seq: int) -> list[Event]:
    """The events after a position, in log order."""
    return (await store.read_log(conn, HistoryFilter(), LogSpan(seq, MAX_SEQ, 100_000, 2**40))).events


async def append_numbers(rt: Runtime, numbers: Iterable[int], **more: Any) -> list[int]:
    """One batch of numbered events; their positions."""
    async with rt.db.transaction() as conn:
        positions = await service.append(conn, [new_event(number, **more) for number in numbers], now())
    return list(positions.values())


@asynccontextmanager
async def runtime(database_url: str, **environment: str) -> AsyncIterator[Runtime]:
    settings = load({**ENVIRONMENT, "DATABASE_URL": database_url, **environment}, command="serve")
    async with open_runtime(settings) as rt:
        yield rt


@asynccontextmanager
async def connected(database_url: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    """A connection beside those of the code under test."""
    conn = await asyncpg.connect(database_url)
    try:
        yield conn
    finally:
        await conn.close(timeout=5)


@dataclass
class Replica:
    """One process's worth of the event room."""

    rt: Runtime
    tail: Tail
    streams: Streams
    server: Server

    def connections(self) -> list[asyncio.Transport]:
        """The server's ends of its connections."""
        return [protocol.transport for protocol in self.server.server_state.connections]

    def stream(self, *, last: object = None, **query: str) -> "Reader":
        port: int = self.server.servers[0].sockets[0].getsockname()[1]
        return Reader(port, last, query)

    def metric(self, name: str) -> float:
        value = self.rt.metrics.registry.get_sample_value(f"aitp_control_plane_{name}")
        assert value is not None
        return value


@asynccontextmanager
async def replica(database_url: str, **environment: str) -> AsyncIterator[Replica]:
    async with runtime(database_url, **environment) as rt:
        tail = Tail(rt)
        streams = Streams(rt, tail)
        rt.add(streams)
        await tail.start()
        server = build_server(Edge(rt, Router(rt, ENDPOINTS)), host="127.0.0.1", port=0, drain=_nothing)
        running = asyncio.create_task(server.serve())
        try:
            await until(lambda: server.started)
            yield Replica(rt, tail, streams, server)
        finally:
            await streams.end(0)
            server.should_exit = True
            await running
            await tail.stop()


async def _nothing() -> None:
    pass


class Reader:
    """A client of GET /api/events/stream over a plain socket; `async with` asks and reads the head of the answer."""

    def __init__(self, port: int, last: object, query: dict[str, str]) -> None:
        self._port = port
        self._last = last
        self._query = query
        self.status = 0
        self.headers: dict[str, str] = {}
        self.key = API_KEY
        self._body = b""

    async def __aenter__(self) -> Self:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        target = "/api/events/stream" + ("?" + urlencode(self._query) if self._query else "")
        head = f"GET {target} HTTP/1.1\r\nhost: cp.test\r\nauthorization: Bearer {self.key}\r\n"
        if self._last is not None:
            head += f"last-event-id: {self._last}\r\n"
        self._writer.write(head.encode() + b"\r\n")
        async with asyncio.timeout(PATIENCE_SECS):
            lines = (await self._reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        self.status = int(lines[0].split()[1])
        self.headers = dict(line.split(": ", 1) for line in lines[1:] if line)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.transport.abort()

    def stop_reading(self) -> None:
        """Leave what comes from now on in the socket, as a client that hangs does."""
        self._both_ways().pause_reading()

    def go_on_reading(self) -> None:
        self._both_ways().resume_reading()

    def _both_ways(self) -> asyncio.Transport:
        return cast(asyncio.Transport, self._writer.transport)

    async def take(self, size: int) -> bytes:
        """Exactly so many bytes of the body."""
        while len(self._body) < size:
            await self._fill()
        taken, self._body = self._body[:size], self._body[size:]
        return taken

    async def frame(self) -> bytes:
        """The next frame or comment, with the empty line that ends it; empty at the end of the stream."""
        while b"\n\n" not in self._body:
            if not await self._fill():
                return b""
        taken, _, self._body = self._body.partition(b"\n\n")
        return taken + b"\n\n"

    async def event(self) -> dict[str, Any]:
        """The next event, with its `id:` line checked against it; heartbeats and the opening are passed over."""
        while True:
            frame = await self.frame()
            assert frame, "the stream has ended"
            if frame.startswith(b"id: "):
                number, data = frame.removeprefix(b"id: ").split(b"\ndata: ", 1)
                event: dict[str, Any] = json.loads(data)
                assert event["seq"] == int(number)
                return event
            assert frame.startswith((b": ", b"retry: ")), frame

    async def places(self, count: int) -> list[int]:
        """The positions of the next events."""
        return [(await self.event())["seq"] for _ in range(count)]

    async def reset(self) -> dict[str, Any]:
        """The reset that must come before any event."""
        while (frame := await self.frame()).startswith((b"retry: ", b": ")):
            pass
        assert frame.startswith(b"event: reset\ndata: "), frame
        said: dict[str, Any] = json.loads(frame.split(b"data: ", 1)[1])
        return said

    async def silent(self, secs: float = 0.3) -> bool:
        """Whether nothing comes for a while."""
        try:
            async with asyncio.timeout(secs):
                frame = await self.frame()
        except TimeoutError:
            return True
        raise AssertionError(f"unexpected: {frame!r}")

    async def _fill(self) -> bool:
        """Read one chunk; False at the end of the answer or of the connection."""
        try:
            async with asyncio.timeout(PATIENCE_SECS):
                size = int((await self._reader.readuntil(b"\r\n")).strip(), 16)
                self._body += (await self._reader.readexactly(size + 2))[:-2]
        except (asyncio.IncompleteReadError, ConnectionResetError):
            return False
        return size > 0
