"""Webhook deliveries to a receiver on this machine, beside the guarded client alone."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import asyncpg

from aitp_cp.outbound import GuardedClient, policy_of
from aitp_cp.settings import load
from bench.fleet import batches, report
from bench.load import HOST, Outcome, drive
from bench.report import Row, Target
from bench.servers import Running, production, serving

WEBHOOKS = 8
EVENTS = 250
TIMEOUT_SECS = 60.0
PATIENCE_SECS = 2.0
ALONE = 1500
AT_ONCE = 8
HEADERS = {"Content-Type": "application/json"}
BODY = b'{"deliveryId":"%b"}' % (b"x" * 700)
# Outside production a receiver needs no TLS, whose cost would be that of the receiver here as well.
LOOPBACK = {"CP_ENV": "development", "WEBHOOK_ALLOWED_CIDRS": "127.0.0.0/8"}
ADD = """
INSERT INTO webhooks (id, url, secret, events, active)
SELECT gen_random_uuid(), $1 || n, 'secret', '["handshake.complete"]', true FROM generate_series(1, $2) AS n
"""
REMOVE = "DELETE FROM webhooks WHERE url LIKE $1 || '%'"


class Receiver:
    """Answers 204 to everything and remembers when."""

    def __init__(self) -> None:
        self.arrivals: list[float] = []
        self.url = ""

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        server = await asyncio.get_running_loop().create_server(lambda: _Exchange(self), HOST, 0)
        self.url = f"http://{HOST}:{server.sockets[0].getsockname()[1]}/"
        try:
            yield
        finally:
            server.close()

    async def wait_for(self, count: int) -> None:
        """Until so many have arrived, or none has for a while."""
        seen = -1
        while seen < len(self.arrivals) < count:
            seen = len(self.arrivals)
            await asyncio.sleep(PATIENCE_SECS)


class _Exchange(asyncio.Protocol):
    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, end, body = self._buffer.partition(b"\r\n\r\n")
        if not end or len(body) < int(head.lower().partition(b"content-length: ")[2].split(b"\r\n", 1)[0] or 0):
            return
        self._buffer = b""
        self._receiver.arrivals.append(time.perf_counter())
        self._transport.write(b"HTTP/1.1 204 No Content\r\n\r\n")


async def measure(dsn: str, log: Path, aids: list[str]) -> Row:
    """Handshakes are reported at once; eight webhooks want each of them."""
    receiver = Receiver()
    async with receiver.listening():
        conn = await asyncpg.connect(dsn)
        try:
            await conn.execute(ADD, receiver.url, WEBHOOKS)
            with serving(dsn, log, **LOOPBACK) as server:
                row = await _delivered(server, receiver, aids)
        finally:
            await conn.execute(REMOVE, receiver.url)
            await conn.close()
        return replace(row, limit=(await _alone(receiver.url)).rate)


async def _delivered(server: Running, receiver: Receiver, aids: list[str]) -> Row:
    before = server.cpu_secs()
    bodies = batches(aids, 50, EVENTS // 10)
    await drive(server.port, map(report, bodies), connections=1, seconds=TIMEOUT_SECS)
    await receiver.wait_for(EVENTS * WEBHOOKS)
    arrivals = tuple(receiver.arrivals)
    return Row(
        what="deliveries to a local receiver",
        unit="/s",
        value=(len(arrivals) - 1) / (arrivals[-1] - arrivals[0]),
        target=Target(rate=500),
        cpu_us=1e6 * (server.cpu_secs() - before) / len(arrivals),
        refused=EVENTS * WEBHOOKS - len(arrivals),
    )


async def _alone(url: str) -> Outcome:
    """POSTs of that size, eight at a time, by the same client, without a queue."""
    settings = load({**production(), **LOOPBACK, "DATABASE_URL": "postgresql://unused"}, command="serve")
    client = GuardedClient(policy_of(settings))
    outcome, numbers = Outcome(), itertools.count()
    began = time.perf_counter()
    await asyncio.gather(*(_send(client, url, outcome, numbers) for _ in range(AT_ONCE)))
    outcome.seconds = time.perf_counter() - began
    return outcome


async def _send(client: GuardedClient, url: str, outcome: Outcome, numbers: Iterator[int]) -> None:
    while next(numbers) < ALONE:
        sent = time.perf_counter()
        await client.send("POST", url, headers=HEADERS, body=BODY, deadline_secs=10, max_bytes=1024)
        outcome.latencies.append(time.perf_counter() - sent)
