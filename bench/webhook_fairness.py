"""`python -m bench.webhook_fairness`: what one endpoint that hangs does to the deliveries of the others.

Two control planes side by side get the same events at the same time, so that what else the machine does hits both.
Each has the same webhooks and one more; that of the second lets every attempt wait for its ten seconds, and its
breaker is told never to open, which is the worst case. Shown is the time from an event's row to its arrival at the
others, whose receiver takes 20 ms to answer: the 99th percentile is to rise by less than a fifth.
"""

import asyncio
import json
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import asyncpg
import httpx
import uvloop
from rich.console import Console
from rich.table import Table

from aitp_cp.db import embedded
from aitp_cp.db.migrations.run import upgrade
from tests.support.app import AUTH
from tests.support.process import Process

SECS = 30.0
# By then the endpoint has let its first attempts wait for all of their ten seconds.
SETTLE_SECS = 12.0
ANSWER_SECS = 0.02
MOST_RISE = 0.2
SETTINGS = {
    "WEBHOOK_ALLOWED_CIDRS": "127.0.0.0/8",
    "WEBHOOK_BREAKER_FAILURE_THRESHOLD": "1000000",
    "LOG_LEVEL": "error",
}
ONE_MORE = {"well": "answers", "hangs": "hangs"}


class Load(NamedTuple):
    """How many webhooks get how many events a second."""

    webhooks: int
    events_per_sec: int


LOADS = (Load(4, 20), Load(7, 10), Load(20, 5))


class Receiver:
    """Answers everyone but `/hangs`; remembers how old deliveries to `/<side>` were when they came."""

    def __init__(self) -> None:
        self.ages: dict[str, list[float]] = {side: [] for side in ONE_MORE}
        self.url = ""

    @asynccontextmanager
    async def listening(self) -> AsyncIterator["Receiver"]:
        server = await asyncio.get_running_loop().create_server(lambda: _Exchange(self), "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield self
        server.close()


class _Exchange(asyncio.Protocol):
    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._read = b""

    def connection_made(self, transport: asyncio.WriteTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._read += data
        head, end, body = self._read.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n", 1)[0] or 0)
        if not end or len(body) < length:
            return
        path = head.split(b" ", 2)[1].decode().removeprefix("/")
        if path == "hangs":
            return
        if (side := path.removeprefix("of/")) in self._receiver.ages:
            made = datetime.fromisoformat(json.loads(body)["enqueuedAt"])
            self._receiver.ages[side].append(time.time() - made.timestamp())
        asyncio.get_running_loop().call_later(ANSWER_SECS, self._answer)

    def _answer(self) -> None:
        if not self._transport.is_closing():
            self._transport.write(b"HTTP/1.1 204 No Content\r\n\r\n")


async def report(sides: dict[str, httpx.AsyncClient], rate: int, secs: float) -> None:
    """The same events for both, at a steady rate."""
    began = time.monotonic()
    for number in range(int(rate * secs)):
        await asyncio.sleep(max(0.0, began + number / rate - time.monotonic()))
        event = [{"type": "handshake.failed"}]
        await asyncio.gather(*(http.post("/api/events", json=event) for http in sides.values()))


async def compare(sides: dict[str, httpx.AsyncClient], there: Receiver, load: Load) -> list[str]:
    """A row of the table."""
    made = []
    for side, http in sides.items():
        for path in (*[f"of/{side}"] * load.webhooks, ONE_MORE[side]):
            response = await http.post("/api/webhooks", json={"url": f"{there.url}/{path}"})
            made.append((http, f"/api/webhooks/{response.json()['id']}"))
    await report(sides, load.events_per_sec, SETTLE_SECS)
    for ages in there.ages.values():
        ages.clear()
    await report(sides, load.events_per_sec, SECS)
    await asyncio.sleep(1)
    for http, path in made:
        await http.delete(path)
    await asyncio.sleep(11)  # until the last attempt has been given up
    return row(load, **there.ages)


def row(load: Load, well: list[float], hangs: list[float]) -> list[str]:
    rise = percentile(hangs, 0.99) / percentile(well, 0.99) - 1
    verdict = "yes" if rise < MOST_RISE and len(hangs) == len(well) else "NO"
    shown = [f"{percentile(ages, share):.1f}" for ages in (well, hangs) for share in (0.5, 0.99)]
    return [str(load.webhooks), str(load.events_per_sec), f"{len(well)}/{len(hangs)}", *shown, f"{rise:+.0%}", verdict]


def percentile(ages: list[float], share: float) -> float:
    """In milliseconds."""
    return sorted(ages)[min(len(ages) - 1, int(len(ages) * share))] * 1000


async def measure(server: embedded.Server, folder: Path) -> Table:
    table = Table("webhooks", "events/s", "deliveries", "p50 ms", "p99 ms", "p50 hung", "p99 hung", "rise", "< 20 %")
    conn = await asyncpg.connect(server.dsn())
    async with AsyncExitStack() as stack:
        sides = {}
        for side in ONE_MORE:
            await conn.execute(f"CREATE DATABASE {side}")
            await upgrade(server.dsn(side))
            process = stack.enter_context(Process(server.dsn(side), folder / side, **SETTINGS))
            sides[side] = await stack.enter_async_context(httpx.AsyncClient(base_url=process.url, headers=AUTH))
        there = await stack.enter_async_context(Receiver().listening())
        for load in LOADS:
            table.add_row(*await compare(sides, there, load))
    await conn.close()
    return table


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, embedded.start(Path(folder) / "pg") as server:
        Console(width=120).print(uvloop.run(measure(server, Path(folder))))


if __name__ == "__main__":
    main()
