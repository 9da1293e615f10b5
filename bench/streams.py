"""Event streams: how long from the report to the frame, and what one of them holds in memory."""

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench.fleet import KEY, report
from bench.load import HOST, request
from bench.report import Row, Target
from bench.servers import Running, serving

STREAM = "/api/events/stream?runId=streams"
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

    def __init__(self, arrivals: Arrivals, path: str, headers: dict[str, str]) -> None:
        self._arrivals = arrivals
        self._request = request("GET", path, **headers)
        self._rest = b""
        self.opened = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        now = time.perf_counter()
        whole, _, self._rest = (self._rest + data).rpartition(b"\n\n")
        self._arrivals.latencies += [now - float(sent) for sent in SENT.findall(whole)]
        if b"retry: " in data:
            self.opened.set()

    def close(self) -> None:
        self._transport.abort()


@asynccontextmanager
async def opened(
    server: Running, count: int, arrivals: Arrivals, path: str = STREAM, **headers: str
) -> AsyncIterator[None]:
    """Hold `count` streams open, with these headers instead of the key."""
    loop = asyncio.get_running_loop()
    streams: list[_Stream] = []
    try:
        for _ in range(count):
            _, stream = await loop.create_connection(lambda: _Stream(arrivals, path, headers or KEY), HOST, server.port)
            streams.append(stream)
            await stream.opened.wait()
        await asyncio.sleep(SETTLE_SECS)
        yield
    finally:
        for stream in streams:
            stream.close()
        await asyncio.sleep(SETTLE_SECS)


async def fan_out(server: Running) -> Row:
    """One report at a time, a hundred a second, to five hundred streams."""
    arrivals = Arrivals()
    sent = int(EVENTS_PER_SEC * SECONDS)
    async with opened(server, STREAMS, arrivals):
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
    with serving(dsn, log, MAX_SSE_CONNECTIONS=str(MANY + 100), SSE_PER_CALLER=str(MANY + 100)) as server:
        async with opened(server, 20, Arrivals()):
            pass
        before = server.resident_kib()
        async with opened(server, MANY, Arrivals()):
            after = server.resident_kib()
    return Row(f"memory per stream, {MANY:,} streams", "KiB", (after - before) / MANY, Target(at_most=60))
