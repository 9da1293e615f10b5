"""What is tortured: replicas in processes of their own, a Postgres, a proxy before it for each replica, receivers."""

import asyncio
import hashlib
import hmac
import os
import random
import re
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import asyncpg

from aitp_cp.cli.exits import DATABASE
from aitp_cp.db import embedded
from aitp_cp.db.migrations.run import upgrade
from tests.support.process import Process, free_port
from tests.support.proxy import Proxy
from tests.support.receiver import Answer, Behaviour, Received, Receiver, receiver
from tests.torture.record import Received as Kept
from tests.torture.record import Record

SECRET = "torture-secret"
SETTINGS = {
    "CONSOLE_IDLE_MINUTES": "600",
    "DB_POOL_MAX": "8",
    "DRAIN_WINDOW_MS": "300",
    "JWKS_REFRESH_ENABLED": "false",
    "LOG_LEVEL": "warn",
    "MAX_AUDIT_EVENTS_MEMORY": "100",
    "SSE_HEARTBEAT_MS": "1000",
    "WEBHOOK_ALLOWED_CIDRS": "127.0.0.0/8",
    "WEBHOOK_BREAKER_RESET_MS": "500",
}
STOP_SECS = 60.0
# What a replica says that is told to stop while its database keeps silent; the second is the driver's own.
FORESEEN = ("timeout graceful shutdown exceeded", "PoolConnectionHolder.release()")
TEND_SECS = 0.1
# A receiver that says no more than this has accepted: the status line alone decides.
STATUS_LINE = b"HTTP/1.1 200 OK\r\n"
MOODS = ("well", "slow", "failing", "half dead")


class Postgres:
    """The database server, when it is the run's own; `dsn` leads past every proxy."""

    def __init__(self, home: Path) -> None:
        self.busy = asyncio.Lock()
        self._home = home
        self._server: embedded.Server | None = None

    async def start(self) -> None:
        starting = asyncio.ensure_future(asyncio.to_thread(embedded.start, self._home))
        try:
            self._server = await asyncio.shield(starting)
        except asyncio.CancelledError:
            self._server = await starting  # so that it can be stopped
            raise

    async def stop(self, number: signal.Signals = signal.SIGINT) -> None:
        """SIGINT is Postgres's fast shutdown, SIGQUIT its immediate one, after which it has to recover."""
        if self._server is not None:
            server, self._server = self._server, None
            with suppress(ProcessLookupError):
                os.kill(server.pid, number)
            await asyncio.to_thread(server.stop)

    @property
    def dsn(self) -> str:
        assert self._server is not None
        return self._server.dsn()


class Replica:
    """One `aitp-cp serve`, started again whenever it ends, and the proxy between it and the database."""

    def __init__(self, number: int, proxy: Proxy, folder: Path, record: Record) -> None:
        self.number = number
        self.proxy = proxy
        self.busy = asyncio.Lock()  # whoever does something to the process or to its proxy holds it
        self._record = record
        self._process = Process(proxy.dsn, folder / f"replica-{number}.log", port=free_port(), **SETTINGS)

    @property
    def port(self) -> int:
        return self._process.port

    @property
    def pid(self) -> int:
        return self._process.running.pid

    def start(self) -> None:
        self._process.start(wait=False)

    def errors(self) -> list[str]:
        """Lines of its log that speak of something nobody has foreseen."""
        lines = self._process.log().splitlines()
        pairs = [f"{line} {after}" for line, after in zip(lines, [*lines[1:], ""], strict=True)]
        errors = [pair for pair in pairs if re.match(r"\S+ \[(error|critical)", pair)]
        return [error for error in errors if not any(known in error for known in FORESEEN)]

    async def ready(self) -> None:
        await asyncio.to_thread(self._process.wait_ready)

    def kill(self) -> None:
        self._process.kill()

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

    async def tend(self) -> None:
        """What a supervisor does: a process that ends by itself is started again."""
        while True:
            await asyncio.sleep(TEND_SECS)
            if self.busy.locked() or (code := self._process.running.poll()) is None:
                continue
            if code == DATABASE:
                self._record.faults["replica gave up waiting for the database"] += 1
            else:
                self._record.complain("replicas", "wrong", f"replica {self.number} ended by itself with {code}")
            self.start()


class Receivers:
    """Where webhooks are sent; the mood of each changes."""

    def __init__(self, record: Record, seed: int) -> None:
        self.open: list[Receiver] = []
        self.moods: list[str] = []
        self._record = record
        self._dice = random.Random(f"{seed}/receivers")

    def behave(self, number: int) -> Behaviour:
        def answer(received: Received) -> Answer:
            chosen = self._choose(self.moods[number])
            self._keep(received, accepted=_accepts(chosen))
            return chosen

        return answer

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


def _accepts(answer: Answer) -> bool:
    return answer.status == 200 and answer.raw in {None, STATUS_LINE} and not answer.drop


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
    """Everything running; with `dsn` on a migrated database that is there already, else on a Postgres of its own."""
    async with AsyncExitStack() as stack:
        postgres = None
        if dsn is None:
            postgres = Postgres(folder / "pg")
            stack.push_async_callback(postgres.stop)
            await postgres.start()
            dsn = postgres.dsn
            await upgrade(dsn)
        receivers = Receivers(record, record.seed)
        for number in range(3):
            receivers.open.append(await stack.enter_async_context(receiver(receivers.behave(number))))
            receivers.moods.append("well")
        made = []
        for number in range(replicas):
            proxy = await stack.enter_async_context(Proxy(dsn))
            made.append(Replica(number, proxy, folder, record))
        try:
            for replica in made:
                replica.start()
            for replica in made:
                await replica.ready()
            yield World(dsn, made, receivers, postgres)
        finally:
            for replica in made:
                replica.kill()
