"""A small round-robin proxy that obeys `/api/readyz`, and clients that keep asking and listening through it."""

import asyncio
import json
from collections import Counter
from contextlib import suppress
from itertools import count, cycle
from typing import Any, Self

import httpx

from tests.support.app import API_KEY

PROBE_SECS = 0.05
PIECE = 64 * 1024
PATIENCE_SECS = 15


class Balancer:
    """Sends each connection to the next replica that said it was ready."""

    def __init__(self, ports: list[int]) -> None:
        self.ready: set[int] = set()
        self.port = 0
        self._ports = ports
        self._turn = cycle(ports)
        self._writers: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, backlog=1000)
        self.port = self._server.sockets[0].getsockname()[1]
        self._probes = asyncio.gather(*(self._probe(port) for port in self._ports))
        return self

    async def __aexit__(self, *_: object) -> None:
        self._probes.cancel()
        await asyncio.gather(self._probes, return_exceptions=True)
        self._server.close()
        while self._writers:
            for writer in tuple(self._writers):
                writer.transport.abort()
            await asyncio.sleep(0.01)

    async def until(self, port: int, *, ready: bool) -> None:
        async with asyncio.timeout(20):
            while (port in self.ready) != ready:
                await asyncio.sleep(0.01)

    async def _probe(self, port: int) -> None:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=2) as http:
            while True:
                try:
                    ready = (await http.get("/api/readyz")).status_code == 200
                except httpx.TransportError:
                    ready = False
                (self.ready.add if ready else self.ready.discard)(port)
                await asyncio.sleep(PROBE_SECS)

    async def _next(self) -> int:
        """Whose turn it is; while nobody says that he is ready, connections wait."""
        while not self.ready:
            await asyncio.sleep(0.01)
        return next(port for port in self._turn if port in self.ready)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect to the next one; what is refused has reached nobody, so another one gets it."""
        while True:
            port = await self._next()
            try:
                return await asyncio.open_connection("127.0.0.1", port)
            except ConnectionRefusedError:
                self.ready.discard(port)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ends = [writer]
        self._writers.add(writer)
        try:
            with suppress(OSError):
                there, back = await self._connect()
                ends.append(back)
                self._writers.add(back)
                await asyncio.gather(_pump(reader, back), _pump(there, writer))
        finally:
            self._writers.difference_update(ends)
            for end in ends:
                end.transport.abort()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(PIECE):
            writer.write(data)
            await writer.drain()
    # Also after a reset, so that the other side is told; uvloop raises where asyncio does nothing.
    if not writer.is_closing():
        writer.write_eof()


class Load:
    """Requests at a rate, each on a connection of its own; counts the answers by what they say."""

    def __init__(self, port: int, per_second: float) -> None:
        self.responses: Counter[str] = Counter()
        self.stored = 0  # events whose batch was accepted
        self._port = port
        self._pause = 1 / per_second
        self._open: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, *self._open, return_exceptions=True)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        for number in count():
            task = asyncio.create_task(self._ask(number))
            self._open.add(task)
            task.add_done_callback(self._open.discard)
            due += self._pause
            await asyncio.sleep(max(0.0, due - loop.time()))

    async def _ask(self, number: int) -> None:
        try:
            async with asyncio.timeout(PATIENCE_SECS):
                response = await self._read_answer(number)
        except (OSError, TimeoutError, asyncio.IncompleteReadError) as failure:
            self.responses[type(failure).__name__] += 1
            return
        said = describe(response)
        self.responses[said] += 1
        self.stored += said == "200" and number % 5 == 0

    async def _read_answer(self, number: int) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            writer.write(self._request(number))
            return await reader.read(-1) or self._nothing()
        finally:
            writer.transport.abort()

    def _request(self, number: int) -> bytes:
        head = f"host: cp.test\r\nauthorization: Bearer {API_KEY}\r\nconnection: close\r\n"
        if number % 5:
            return f"GET /api/events/history?limit=1 HTTP/1.1\r\n{head}\r\n".encode()
        body = json.dumps([{"type": "demo.event", "payload": {"number": number}}])
        return f"POST /api/events HTTP/1.1\r\n{head}content-length: {len(body)}\r\n\r\n{body}".encode()

    def _nothing(self) -> bytes:
        raise ConnectionError("no answer")


def describe(response: bytes) -> str:
    """`200`, or the status with its code and whether it says when to try again."""
    head, _, body = response.partition(b"\r\n\r\n")
    status = head.split(b" ", 2)[1].decode()
    if status == "200":
        return status
    wait = " with Retry-After" if b"\r\nretry-after: " in head.lower() else ""
    return f"{status} {json.loads(body)['code']}{wait}"


class Listener:
    """An EventSource: reconnects with its last id as soon as it is told, and keeps what it was sent."""

    def __init__(self, port: int) -> None:
        self.seqs: list[int] = []
        self.connections = 0
        self.endings: Counter[str] = Counter()
        self._port = port

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def until(self, seq: int) -> None:
        async with asyncio.timeout(15):
            while not self.seqs or self.seqs[-1] < seq:
                await asyncio.sleep(0.02)

    async def _run(self) -> None:
        while True:
            try:
                await self._listen()
                self.endings["end"] += 1
            except (OSError, asyncio.IncompleteReadError) as failure:
                self.endings[type(failure).__name__] += 1
            await asyncio.sleep(0.1)

    async def _listen(self) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        last = f"last-event-id: {self.seqs[-1] if self.seqs else 0}\r\n"
        head = f"GET /api/events/stream HTTP/1.1\r\nhost: cp.test\r\nauthorization: Bearer {API_KEY}\r\n{last}\r\n"
        try:
            writer.write(head.encode())
            status = await reader.readuntil(b"\r\n\r\n")
            if b" 200 " not in status.split(b"\r\n", 1)[0]:
                self.endings[status.split(b"\r\n", 1)[0].decode()] += 1
                return
            self.connections += 1
            await self._read(reader)
        finally:
            writer.transport.abort()

    async def _read(self, reader: asyncio.StreamReader) -> None:
        body = b""
        while size := int(await reader.readuntil(b"\r\n"), 16):
            body += (await reader.readexactly(size + 2))[:-2]
            *frames, body = body.split(b"\n\n")
            for frame in frames:
                self._take(frame)

    def _take(self, frame: bytes) -> None:
        assert not frame.startswith(b"event:"), frame
        if frame.startswith(b"id: "):
            event: dict[str, Any] = json.loads(frame.split(b"\ndata: ", 1)[1])
            self.seqs.append(event["seq"])
