"""A load generator for one machine: raw HTTP/1.1 over keep-alive connections, one request at a time on each."""

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

HOST = "127.0.0.1"
HEAD_END = b"\r\n\r\n"
LAST_CHUNK = b"\r\n0\r\n\r\n"


@dataclass
class Outcome:
    """What came back: latencies in seconds, answers other than 2xx, the seconds it took, and the last answer's body."""

    latencies: list[float] = field(default_factory=list)
    refused: int = 0
    seconds: float = 0.0
    body: bytes = b""

    def add(self, later: "Outcome") -> None:
        """Take in what came back of the same requests in another round."""
        self.latencies += later.latencies
        self.refused += later.refused
        self.seconds += later.seconds
        self.body = later.body

    @property
    def rate(self) -> float:
        return len(self.latencies) / self.seconds if self.seconds else 0.0

    def percentile(self, share: float) -> float:
        """Milliseconds within which `share` of the answers came."""
        ordered = sorted(self.latencies)
        return 1000 * ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0


def request(method: str, path: str, body: bytes = b"", **headers: str) -> bytes:
    """The bytes of a request; header names may use underscores."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"{method} {path} HTTP/1.1", "host: bench", *(f"{name}: {value}" for name, value in named.items())]
    if body:
        lines += ["content-type: application/json", f"content-length: {len(body)}"]
    return "\r\n".join(lines).encode() + HEAD_END + body


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, raw: bytes) -> tuple[int, bytes]:
    """Send one request; return the status and the body of its answer."""
    writer.write(raw)
    head = (await reader.readuntil(HEAD_END)).lower()
    length = int(head.partition(b"content-length: ")[2].split(b"\r\n", 1)[0])
    return int(head[9:12]), await reader.readexactly(length)


class _Connection(asyncio.Protocol):
    """Sends the next request as soon as the answer to the last one is complete.

    Answers to the same request are mostly of the same length, so most need no second look.
    """

    def __init__(self, requests: Iterator[bytes], outcome: Outcome, over: Callable[[], bool]) -> None:
        self._requests = requests
        self._outcome = outcome
        self._over = over
        self._buffer = b""
        self._usual = -1
        self._last = b""
        self._started = 0.0
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._next()

    def data_received(self, data: bytes) -> None:
        if self._buffer or len(data) != self._usual or not data.startswith(b"HTTP/1.1 200"):
            self._buffer += data
            if not _complete(self._buffer):
                return
            self._usual = len(self._buffer)
            data, self._buffer = self._buffer, b""
        outcome = self._outcome
        outcome.latencies.append(time.perf_counter() - self._started)
        outcome.refused += data[9:10] != b"2"
        self._last = data
        self._next()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_result(None)

    def _next(self) -> None:
        following = None if self._over() else next(self._requests, None)
        if following is None:
            self._outcome.body = self._last.partition(HEAD_END)[2]
            self._transport.close()
            return
        self._started = time.perf_counter()
        self._transport.write(following)


def _complete(response: bytes) -> bool:
    end = response.find(HEAD_END)
    if end < 0:
        return False
    head = response[:end].lower()
    at = head.find(b"\r\ncontent-length: ")
    if at < 0:
        return b"\r\ntransfer-encoding: chunked" not in head or response.endswith(LAST_CHUNK)
    return len(response) >= end + 4 + int(head[at + 18 :].split(b"\r\n", 1)[0])


async def drive(port: int, requests: Iterator[bytes], *, connections: int, seconds: float) -> Outcome:
    """Keep `connections` busy for `seconds`, or until there are no more requests."""
    loop = asyncio.get_running_loop()
    outcome = Outcome()
    began = time.perf_counter()
    deadline = began + seconds

    def over() -> bool:
        return time.perf_counter() >= deadline

    made = [
        await loop.create_connection(lambda: _Connection(requests, outcome, over), HOST, port)
        for _ in range(connections)
    ]
    await asyncio.gather(*(protocol.done for _, protocol in made))
    outcome.seconds = time.perf_counter() - began
    return outcome
