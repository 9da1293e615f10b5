"""Server-sent events: a response without an end of its own."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from socket import SO_SNDBUF, SOL_SOCKET
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

OPENING = b"retry: 3000\n: connected\n\n"
HEARTBEAT = b": heartbeat\n\n"
HEADERS = {
    "content-type": "text/event-stream",
    "cache-control": "no-cache, no-transform",
    "x-accel-buffering": "no",
}

# Bytes that one client may make the process hold: in a write, in the transport, in the socket.
CHUNK_BYTES = 8 * 1024
TRANSPORT_BYTES = 8 * 1024
SOCKET_BYTES = 64 * 1024
WRITE_TIMEOUT_SECS = 30.0
ABORT_TIMEOUT_SECS = 1.0

CONNECTION = "aitp_cp.connection"

Produce = Callable[["Sink"], Awaitable[None]]


class Sink:
    """Writes to one client, in bounded chunks and within a timeout."""

    def __init__(self, send: Send, timeout: asyncio.Timeout) -> None:
        self._send = send
        self._timeout: asyncio.Timeout | None = timeout
        self._loop = asyncio.get_running_loop()
        self.last_write = self._loop.time()
        self.sending = False  # a write waits until the client has read more; other tasks look at this

    async def write(self, *frames: bytes) -> None:
        """Return once the transport has room again; a client that reads nothing for too long is cut off."""
        for chunk in chunks(frames):
            await self._put(chunk, more=True)
            await asyncio.sleep(0)  # a socket with room never waits, and a burst must not hold up everybody else

    async def finish(self) -> None:
        await self._put(b"", more=False)

    async def _put(self, body: bytes, *, more: bool) -> None:
        guard = self._loop.call_later(WRITE_TIMEOUT_SECS, self.cut)
        self.sending = True
        try:
            await self._send({"type": "http.response.body", "body": body, "more_body": more})
        finally:
            self.sending = False
            guard.cancel()
        self.last_write = self._loop.time()

    def now(self) -> float:
        return self._loop.time()

    def cut(self) -> None:
        """End the stream now, even in the middle of a write."""
        timeout, self._timeout = self._timeout, None
        if timeout is not None:
            timeout.reschedule(self._loop.time())

    def release(self) -> None:
        """Make later calls of `cut` do nothing."""
        self._timeout = None


def chunks(frames: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the bytes of the frames in pieces of at most `CHUNK_BYTES`; small frames share a piece."""
    waiting: list[bytes] = []
    size = 0
    for data in frames:
        if size + len(data) > CHUNK_BYTES and waiting:
            yield b"".join(waiting)
            waiting, size = [], 0
        if len(data) > CHUNK_BYTES:
            yield from (data[start : start + CHUNK_BYTES] for start in range(0, len(data), CHUNK_BYTES))
        else:
            waiting.append(data)
            size += len(data)
    if waiting:
        yield b"".join(waiting)


class EventStream(Response):
    """Runs `open()` for the length of the stream; what it raises on entry becomes an ordinary error response."""

    def __init__(self, open: Callable[[], AbstractContextManager[Produce]]) -> None:
        self._open = open
        self.status_code = 200
        self.background = None
        self.init_headers(HEADERS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        connection = scope.get("extensions", {}).get(CONNECTION)
        with self._open() as produce:
            transport = None if connection is None else _bound(connection)
            gone = asyncio.create_task(_disconnected(receive))
            try:
                await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
                if not await _run(produce, send, gone) and transport is not None and not gone.done():
                    transport.abort()
                    await asyncio.wait([gone], timeout=ABORT_TIMEOUT_SECS)
            finally:
                gone.cancel()


async def _run(produce: Produce, send: Send, gone: asyncio.Task[None]) -> bool:
    """Return whether the stream came to its own end rather than being cut."""
    try:
        async with asyncio.timeout(None) as timeout:
            sink = Sink(send, timeout)
            gone.add_done_callback(lambda _: sink.cut())
            try:
                await produce(sink)
                await sink.finish()
            finally:
                sink.release()
    except TimeoutError:
        if not timeout.expired():
            raise
        return False
    return True


def _bound(connection: Any) -> asyncio.Transport:
    connection.endless = True  # its deadline is that of each write
    transport: asyncio.Transport = connection.transport
    if transport.is_closing():  # the client left while its credential was looked up, and `receive` will say so
        return transport
    transport.set_write_buffer_limits(high=TRANSPORT_BYTES)
    sock = transport.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(SOL_SOCKET, SO_SNDBUF, SOCKET_BYTES)
    return transport


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
