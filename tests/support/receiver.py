"""A real HTTP receiver on this machine whose answers a test decides, request by request."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from http import HTTPStatus


@dataclass(frozen=True)
class Received:
    """One request as it arrived; header names are lowercase."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    peer: str


@dataclass(frozen=True)
class Answer:
    """The head comes after `wait_secs` and `after`; `raw` replaces everything; `drop` closes without a word."""

    status: int = 200
    body: bytes = b"ok"
    headers: Mapping[str, str] = field(default_factory=dict)
    wait_secs: float = 0
    after: asyncio.Event | None = None
    drip_secs: float = 0  # between the bytes of the body
    raw: bytes | None = None
    hold_secs: float = 0  # before the connection is closed
    drop: bool = False


Behaviour = Callable[[Received], Answer]
HANG_SECS = 3600.0


def always(response: Answer) -> Behaviour:
    return lambda _: response


class Receiver:
    """Keeps what it got; `behave` may be replaced at any time."""

    def __init__(self, behave: Behaviour, tls: ssl.SSLContext | None = None) -> None:
        self.behave = behave
        self.got: list[Received] = []
        self.connections = 0
        self.at_once = 0
        self.most_at_once = 0
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._arrived = asyncio.Event()

    @property
    def port(self) -> int:
        assert self._server is not None
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}/hook"

    async def open(self, host: str = "127.0.0.1", port: int = 0) -> None:
        self._server = await asyncio.start_server(self._accept, host, port, ssl=self._tls)

    async def close(self) -> None:
        """Stop listening and drop whoever is still connected."""
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._server is not None:
            await self._server.wait_closed()

    async def wait_for(self, count: int, timeout: float = 10) -> None:
        """Until `count` requests have arrived since the beginning."""
        async with asyncio.timeout(timeout):
            while len(self.got) < count:
                self._arrived.clear()
                await self._arrived.wait()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        try:
            # Cancelled by `close`; older Pythons take a cancelled handler for a failed one, and say so at length.
            with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await self._serve(reader, writer)
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received = await _read(reader, writer)
        self.got.append(received)
        self._arrived.set()
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await _answer(self.behave(received), writer)
        finally:
            self.at_once -= 1


@asynccontextmanager
async def receiver(
    behave: Behaviour | Answer | None = None, *, tls: ssl.SSLContext | None = None, port: int = 0
) -> AsyncIterator[Receiver]:
    """A receiver that answers 200 unless told otherwise."""
    behaviour = always(behave or Answer()) if not callable(behave) else behave
    one = Receiver(behaviour, tls)
    await one.open(port=port)
    try:
        yield one
    finally:
        await one.close()


async def _read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Received:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.split("\r\n")[:-2]
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    method, path, _ = first.split(" ", 2)
    return Received(method, path, headers, body, writer.get_extra_info("peername")[0])


async def _answer(response: Answer, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(response.wait_secs)
    if response.after is not None:
        await response.after.wait()
    if response.drop:
        return
    writer.write(response.raw if response.raw is not None else _head(response))
    if response.raw is None:
        await _send_body(response, writer)
    await writer.drain()
    await asyncio.sleep(response.hold_secs)


def _head(response: Answer) -> bytes:
    headers = {"Content-Length": str(len(response.body)), "Connection": "close", **response.headers}
    phrase = HTTPStatus(response.status).phrase if response.status in set(HTTPStatus) else "Odd"
    lines = [f"HTTP/1.1 {response.status} {phrase}", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


async def _send_body(response: Answer, writer: asyncio.StreamWriter) -> None:
    if not response.drip_secs:
        writer.write(response.body)
        return
    for byte in response.body:
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(response.drip_secs)
