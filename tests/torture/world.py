"""What is tortured: replicas in processes of their own, a Postgres with its standby, proxies before both, receivers."""

import asyncio
import fcntl
import hashlib
import hmac
import os
import random
import re
import signal
import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

import asyncpg
import httpx

from aitp_cp.cli.exits import DATABASE
from tests.support.process import Process, free_port
from tests.support.proxy import Proxy
from tests.support.receiver import Answer, Behaviour, Received, Receiver, receiver
from tests.support.standby import Pair, streaming_pair
from tests.torture.clocked import CLOCK_FILE, Clock
from tests.torture.record import Received as Kept
from tests.torture.record import Record

SECRET = "torture-secret"
SETTINGS = {
    "CONSOLE_IDLE_MINUTES": "600",
    "DB_POOL_MAX": "8",
    "DRAIN_WINDOW_MS": "300",
    "JWKS_REFRESH_ENABLED": "false",
    "LOG_LEVEL": "info",
    "MAX_AUDIT_EVENTS_MEMORY": "100",
    "SSE_HEARTBEAT_MS": "1000",
    "WEBHOOK_ALLOWED_CIDRS": "127.0.0.0/8",
    "WEBHOOK_BREAKER_RESET_MS": "500",
}
STOP_SECS = 60.0
READY_SECS = 180.0  # on a machine with much else to do
PIPE_BYTES = 4096  # the least there is, so that it is soon full
# What a replica says that is told to stop while its database keeps silent; the second is the driver's own.
FORESEEN = ("timeout graceful shutdown exceeded", "PoolConnectionHolder.release()")
TEND_SECS = 0.1
# A receiver that says no more than this has accepted: the status line alone decides.
STATUS_LINE = b"HTTP/1.1 200 OK\r\n"
MOODS = ("well", "slow", "failing", "half dead")


class Postgres:
    """The database's servers, when they are the run's own: a primary and its standby, which take each other's place."""

    def __init__(self) -> None:
        self.busy = asyncio.Lock()
        self._opened = streaming_pair()
        self._pair: Pair | None = None

    @property
    def pair(self) -> Pair:
        assert self._pair is not None
        return self._pair

    async def open(self) -> None:
        opening = asyncio.ensure_future(asyncio.to_thread(self._opened.__enter__))
        try:
            self._pair = await asyncio.shield(opening)
        except asyncio.CancelledError:
            self._pair = await opening  # so that it can be closed
            raise

    async def close(self) -> None:
        if self._pair is not None:
            await asyncio.to_thread(self._opened.__exit__, None, None, None)

    async def stop(self, mode: str) -> None:
        """Stop the primary: `fast`, or `immediate`, after which it has to recover."""
        await asyncio.to_thread(self.pair.primary.stop, mode)

    async def start(self) -> None:
        await asyncio.to_thread(self.pair.primary.start)

    async def synchronise(self) -> None:
        """From here on nothing is acknowledged that the standby lacks, and it lacks nothing of before."""
        await asyncio.to_thread(self.pair.synchronise)
        await self.pair.caught_up()

    async def fail_over(self) -> None:
        """The primary is gone without a word, and the standby takes its place."""
        await asyncio.to_thread(self.pair.fail_over)

    async def rejoin(self) -> None:
        await asyncio.to_thread(self.pair.rejoin)


class Way:
    """Leads a replica to the database, through a proxy before each of its servers."""

    def __init__(self, dsns: Sequence[str]) -> None:
        self._proxies = [Proxy(dsn) for dsn in dsns]

    @property
    def dsn(self) -> str:
        first, *others = [urlsplit(proxy.dsn) for proxy in self._proxies]
        if not others:
            return first.geturl()
        ports = ",".join(str(part.port) for part in (first, *others))
        hosts = ",".join("127.0.0.1" for _ in self._proxies)
        return f"postgresql://postgres@{first.path}?host={hosts}&port={ports}&sslmode=disable"

    async def start(self) -> None:
        for proxy in self._proxies:
            await proxy.start()

    async def stop(self) -> None:
        for proxy in self._proxies:
            await proxy.stop()

    def stall(self) -> None:
        for proxy in self._proxies:
            proxy.stall()

    def resume(self) -> None:
        for proxy in self._proxies:
            proxy.resume()

    def freeze(self) -> None:
        for proxy in self._proxies:
            proxy.freeze()

    def cut_after(self, size: int | None) -> None:
        for proxy in self._proxies:
            proxy.cut_after(size)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.resume()
        await self.stop()


class LogReader:
    """A process that copies what a replica logs into a file, as a shipper of logs does; its pipe is a small one."""

    def __init__(self, file: Path) -> None:
        ours, self.pipe = os.pipe()
        fcntl.fcntl(self.pipe, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        with file.open("ab") as out:
            self._process = subprocess.Popen(["cat"], stdin=ours, stdout=out)
        os.close(ours)

    def stall(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """Let it read to the end."""
        self.go_on()
        os.close(self.pipe)
        self._process.wait()


class Clocked(Process):
    module = "tests.torture.clocked"


class Replica:
    """One `aitp-cp serve`, started again whenever it ends, its way to the database, its clock, and who reads its log.

    Half of them write their log into a file themselves, so that its disk can be full.
    """

    def __init__(self, number: int, way: Way, folder: Path, record: Record) -> None:
        self.number = number
        self.way = way
        self.busy = asyncio.Lock()  # whoever does something to the process or to its way to the database holds it
        self.clock = Clock(folder / f"clock-{number}")
        file = folder / f"replica-{number}.log"
        self.reader = LogReader(file) if number % 2 else None
        self._record = record
        settings = {**SETTINGS, CLOCK_FILE: str(self.clock.file)}
        self._process = Clocked(way.dsn, file, port=free_port(), **settings)

    @property
    def port(self) -> int:
        return self._process.port

    @property
    def pid(self) -> int:
        return self._process.running.pid

    def start(self) -> None:
        to = {} if self.reader is None else {"stdout": self.reader.pipe, "stderr": self.reader.pipe}
        self._process.start(wait=False, **to)

    def errors(self) -> list[str]:
        """Lines of its log that speak of something nobody has foreseen."""
        lines = self._process.log().splitlines()
        pairs = [f"{line} {after}" for line, after in zip(lines, [*lines[1:], ""], strict=True)]
        errors = [pair for pair in pairs if re.match(r"\S+ \[(error|critical)", pair)]
        return [error for error in errors if not any(known in error for known in FORESEEN)]

    async def ready(self) -> None:
        """Wait until it serves; what ends by itself meanwhile is started again."""
        async with asyncio.timeout(READY_SECS), httpx.AsyncClient(timeout=5) as http:
            while True:
                self.revive()
                with suppress(httpx.TransportError):
                    if (await http.get(f"{self._process.url}/api/readyz")).status_code == 200:
                        return
                await asyncio.sleep(TEND_SECS)

    def kill(self) -> None:
        self._process.kill()

    def close(self) -> None:
        self.kill()
        if self.reader is not None:
            self.reader.close()

    async def terminate(self) -> None:
        """SIGTERM; whatever else is going on, the process must end well."""
        process = self._process.running
        if process.poll() is not None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            code = await asyncio.to_thread(process.wait, STOP_SECS)
        except subprocess.TimeoutExpired:
            code = None
        # Told to stop before it serves, or while it waits for a database to start with, it has nothing to end well.
        if code not in {0, DATABASE, -signal.SIGTERM, 128 + signal.SIGTERM}:
            self._record.complain("replicas", "wrong", f"replica {self.number} ended with {code} after SIGTERM")
        if code is None:
            self.kill()

    def revive(self) -> None:
        """What a supervisor does: a process that has ended by itself is started again."""
        if (code := self._process.running.poll()) is None:
            return
        if code == DATABASE:
            self._record.faults["replica gave up waiting for the database"] += 1
        else:
            self._record.complain("replicas", "wrong", f"replica {self.number} ended by itself with {code}")
        self.start()

    async def tend(self) -> None:
        """Be its supervisor, except while somebody does something to it."""
        while True:
            await asyncio.sleep(TEND_SECS)
            if not self.busy.locked():
                self.revive()


class Receivers:
    """Where webhooks are sent; the mood of each changes."""

    def __init__(self, record: Record, seed: int) -> None:
        self.open: list[Receiver] = []
        self.moods: list[str] = []
        self._record = record
        self._dice = random.Random(f"{seed}/receivers")

    def behave(self, number: int) -> Behaviour:
        def response(received: Received) -> Answer:
            chosen = self._choose(self.moods[number])
            self._keep(received, accepted=_accepts(chosen))
            return chosen

        return response

    async def mend(self) -> None:
        """All well from here on, and what hangs is cut."""
        self.moods[:] = ["well" for _ in self.moods]
        for one in self.open:
            port = one.port
            await one.close()
            await one.open(port=port)

    def _choose(self, mood: str) -> Answer:
        roll = self._dice.random()
        if mood == "slow":
            return Answer(wait_secs=roll, drip_secs=roll / 10)
        if mood == "failing":
            return Answer(self._dice.choice([500, 429, 503, 302, 200]), headers={"Location": "http://127.0.0.1:1/"})
        if mood == "half dead" and roll < 0.7:
            hang, cut = Answer(wait_secs=15), Answer(raw=b"HTTP/1.1 20")
            return self._dice.choice([hang, cut, Answer(drop=True), Answer(raw=b"junk"), Answer(raw=STATUS_LINE)])
        return Answer(wait_secs=roll / 50)

    def _keep(self, received: Received, *, accepted: bool) -> None:
        kept = self._record.deliveries.setdefault(received.headers["x-aitp-delivery"], Kept())
        kept.posts += 1
        kept.accepted += accepted
        kept.bodies.add(hashlib.sha256(received.body).hexdigest())
        signature = "sha256=" + hmac.new(SECRET.encode(), received.body, "sha256").hexdigest()
        if received.path.startswith("/hook/kept") and received.headers["x-aitp-signature"] != signature:
            self._record.complain("deliveries", "wrong", f"{received.headers['x-aitp-delivery']} is signed wrongly")


def _accepts(response: Answer) -> bool:
    return response.status == 200 and response.raw in {None, STATUS_LINE} and not response.drop


class World:
    def __init__(self, dsn: str, replicas: list[Replica], receivers: Receivers, postgres: Postgres | None) -> None:
        self.dsn = dsn
        self.replicas = replicas
        self.receivers = receivers
        self.postgres = postgres

    async def sql(self, statement: str) -> str:
        """Straight to the database, as its administrator."""
        conn = await asyncpg.connect(self.dsn, timeout=5)
        try:
            return await conn.execute(statement, timeout=20)
        finally:
            conn.terminate()


@asynccontextmanager
async def opened(folder: Path, record: Record, replicas: int, dsn: str | None = None) -> AsyncIterator[World]:
    """Everything running; with `dsn` on a migrated database that is there already, else on servers of its own."""
    async with AsyncExitStack() as stack:
        postgres, servers = None, [dsn or ""]
        if dsn is None:
            postgres = Postgres()
            stack.push_async_callback(postgres.close)
            await postgres.open()
            dsn = postgres.pair.dsn
            servers = [node.dsn() for node in (postgres.pair.primary, postgres.pair.standby)]
        receivers = Receivers(record, record.seed)
        for number in range(3):
            receivers.open.append(await stack.enter_async_context(receiver(receivers.behave(number))))
            receivers.moods.append("well")
        made = []
        for number in range(replicas):
            way = await stack.enter_async_context(Way(servers))
            made.append(Replica(number, way, folder, record))
        try:
            for replica in made:
                replica.start()
            for replica in made:
                await replica.ready()
            yield World(dsn, made, receivers, postgres)
        finally:
            for replica in made:
                replica.close()
