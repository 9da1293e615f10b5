"""Event streams: how long from the report to the frame, and what one of them holds in memory."""

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench.fleet import KEY, report
from bench.load import HOST, request
from bench.report import Row, Target
from bench.servers import Running, serving

STREAM = request("GET", "/api/events/stream?runId=streams", **KEY)
STREAMS = 500
EVENTS_PER_SEC = 100
SECONDS = 5.0
MANY = 2000
SETTLE_SECS = 1.0
PATIENCE_SECS = 1.0
SENT = re.compile(rb'"sent": ?(\d+\.\d+)')


@dataclass
class Arrivals:
    """Seconds from the report to each frame, over all streams."""

    latencies: list[float] = field(default_factory=list)

    async def stop_coming(self, count: int) -> None:
        """Until so many have arrived, or none has for a while."""
        seen = -1
        while seen < len(self.latencies) < count:
            seen = len(self.latencies)
            await asyncio.sleep(PATIENCE_SECS)


class _Stream(asyncio.Protocol):
    """One client; frames that come in pieces are put together."""

    def __init__(self, arrivals: Arrivals, asked: bytes) -> None:
        self._arrivals = arrivals
        self._asked = asked
        self._rest = b""
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._transport.write(self._asked)

    def data_received(self, data: bytes) -> None:
        now = time.perf_counter()
        whole, _, self._rest = (self._rest + data).rpartition(b"\n\n")
        self._arrivals.latencies += [now - float(sent) for sent in SENT.findall(whole)]
        if b"retry: " in data and not self.opened.done():
            self.opened.set_result(None)
        if data.startswith(b"HTTP/1.1 ") and not data.startswith(b"HTTP/1.1 200 "):
            self.opened.set_exception(AssertionError(data.decode()))

    @property
    def ended(self) -> bool:
        """Whether the server has closed it."""
        return self._transport.is_closing()

    def close(self) -> None:
        self._transport.abort()


@asynccontextmanager
async def opened(server: Running, streams: Sequence[bytes], arrivals: Arrivals) -> AsyncIterator[None]:
    """Hold a stream open for each of these requests."""
    loop = asyncio.get_running_loop()
    held: list[_Stream] = []
    try:
        for asked in streams:
            _, stream = await loop.create_connection(lambda asked=asked: _Stream(arrivals, asked), HOST, server.port)
            held.append(stream)
            await stream.opened
        await asyncio.sleep(SETTLE_SECS)
        yield
        assert not any(stream.ended for stream in held), "the server has ended streams"
    finally:
        for stream in held:
            stream.close()
        await asyncio.sleep(SETTLE_SECS)


async def fan_out(dsn: str, log: Path) -> Row:
    """One report at a time, a hundred a second, to five hundred streams."""
    arrivals = Arrivals()
    sent = int(EVENTS_PER_SEC * SECONDS)
    with _serving(dsn, log, STREAMS) as server:
        async with opened(server, [STREAM] * STREAMS, arrivals):
            before = server.cpu_secs()
            await _report_evenly(server, sent)
            await arrivals.stop_coming(sent * STREAMS)
            spent = server.cpu_secs() - before
    ordered = sorted(arrivals.latencies)
    return Row(
        what=f"{STREAMS} streams, {EVENTS_PER_SEC} events/s",
        unit="frames/s",
        value=len(ordered) / SECONDS,
        target=Target(p99_ms=250),
        p50_ms=1000 * ordered[len(ordered) // 2],
        p99_ms=1000 * ordered[int(len(ordered) * 0.99)],
        cpu_us=1e6 * spent / len(ordered),
        refused=sent * STREAMS - len(ordered),
    )


async def _report_evenly(server: Running, count: int) -> None:
    reader, writer = await asyncio.open_connection(HOST, server.port)
    began = time.perf_counter()
    for number in range(count):
        await asyncio.sleep(max(0.0, began + number / EVENTS_PER_SEC - time.perf_counter()))
        event = {"type": "bench.sent", "run_id": "streams", "id": f"{began}-{number}"}
        sent = {"payload": {"sent": time.perf_counter()}}
        writer.write(report(json.dumps([event | sent], separators=(",", ":")).encode()))
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].split(b"\r\n", 1)[0]))
    writer.close()


async def memory(dsn: str, log: Path) -> Row:
    """Resident memory of a process that holds two thousand idle streams, over that of one that holds none."""
    with _serving(dsn, log, MANY) as server:
        async with opened(server, [STREAM] * 20, Arrivals()):
            pass
        before = server.resident_kib()
        async with opened(server, [STREAM] * MANY, Arrivals()):
            after = server.resident_kib()
    return Row(f"memory per stream, {MANY:,} streams", "KiB", (after - before) / MANY, Target(at_most=60))


def _serving(dsn: str, log: Path, streams: int) -> AbstractContextManager[Running]:
    """A server that lets one caller hold so many streams."""
    return serving(dsn, log, MAX_SSE_CONNECTIONS=str(streams), SSE_PER_CALLER=str(streams))
