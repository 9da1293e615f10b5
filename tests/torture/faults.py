"""What is done to the world, dealt from a shuffled deck: the seed decides what comes when, and each kind comes."""

import asyncio
import os
import random
import resource
import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import NamedTuple

import asyncpg

from aitp_cp.db.locks import LOG
from tests.torture.clocked import SKEW_SECS
from tests.torture.record import Record
from tests.torture.world import MOODS, Postgres, Replica, World

# Retries are due after half a minute and more: the rows are told that it has passed.
HURRY = """
UPDATE webhook_deliveries SET next_retry_at = now() WHERE id IN (
    SELECT id FROM webhook_deliveries WHERE status = 'pending' AND next_retry_at > now() FOR UPDATE SKIP LOCKED
)
"""
HURRY_SECS = 1.0
# Longer than the longest fault, and a SIGTERM that is not obeyed.
MENDING_SECS = 300.0
CUT_BACKENDS = """
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
WHERE application_name = 'aitp-cp' AND pid <> pg_backend_pid() AND random() < 0.5
"""
# The writers' own lock, and one that lets them take it and then keeps them from writing.
HOLD_THE_LOG = (f"SELECT pg_advisory_xact_lock({LOG.key})", "LOCK TABLE audit_events IN EXCLUSIVE MODE")


class Pace(NamedTuple):
    """Seconds between two faults, and how long one may last."""

    least: float
    most: float
    longest: float


Fault = Callable[["Faults"], Awaitable[None]]


class Faults:
    """Several may be under way at once; whoever has to do with one replica waits for its turn."""

    def __init__(self, world: World, record: Record, pace: Pace) -> None:
        self._world = world
        self._record = record
        self._pace = pace
        self.dice = random.Random(f"{record.seed}/faults")
        self._kinds = {**ON_REPLICAS, **(ON_POSTGRES if world.postgres else {})}
        self._running: set[asyncio.Task[None]] = set()

    async def run(self, secs: float) -> None:
        """Inject faults for this long and until each kind has occurred; return when the last one has ended."""
        tasks = [asyncio.create_task(self._hurry()), *(asyncio.create_task(one.tend()) for one in self._world.replicas)]
        loop = asyncio.get_running_loop()
        ends = loop.time() + secs
        deck = self._shuffled()
        while (left := ends - loop.time()) > 0 or not self._record.faults.keys() >= self._kinds.keys():
            pause = self.dice.uniform(self._pace.least, self._pace.most)
            await asyncio.sleep(min(left, pause) if left > 0 else pause)
            self._begin(deck.pop())
            deck = deck or self._shuffled()
        async with asyncio.timeout(MENDING_SECS):
            await asyncio.gather(*self._running)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._world.receivers.mend()

    def _shuffled(self) -> list[str]:
        return self.dice.sample(list(self._kinds), len(self._kinds))

    def _begin(self, kind: str) -> None:
        self._record.faults[kind] += 1
        task = asyncio.create_task(_awaited(self._kinds[kind](self)), name=kind)
        self._running.add(task)

    async def _hurry(self) -> None:
        while True:
            await asyncio.sleep(HURRY_SECS)
            with suppress(OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
                await self._world.sql(HURRY)

    def replica(self) -> Replica:
        return self.dice.choice(self._world.replicas)

    def a_while(self) -> float:
        """Mostly short, now and then beyond every timeout there is."""
        return self.dice.choice([0.1, 0.3, 0.6, 1, 2, 4, 8, 20]) if self._pace.longest >= 20 else self._short()

    def _short(self) -> float:
        return self.dice.uniform(0.05, self._pace.longest)

    async def kill(self) -> None:
        replica = self.replica()
        async with replica.busy:
            replica.kill()
            await asyncio.sleep(self.dice.uniform(0, 1))
            replica.start()

    async def restart(self) -> None:
        replica = self.replica()
        async with replica.busy:
            await replica.terminate()
            replica.start()

    async def freeze_replica(self) -> None:
        """It stops in the middle of whatever it is doing, perhaps holding every lock there is."""
        replica, secs = self.replica(), self.a_while()
        async with replica.busy:
            if replica_runs(replica):
                os.kill(replica.pid, signal.SIGSTOP)
                await asyncio.sleep(secs)
                os.kill(replica.pid, signal.SIGCONT)

    async def cut_connections(self) -> None:
        replica, secs = self.replica(), self.a_while()
        async with replica.busy:
            await replica.way.stop()
            await asyncio.sleep(min(secs, 8))
            await replica.way.start()

    async def cut_in_an_answer(self) -> None:
        replica = self.replica()
        async with replica.busy:
            replica.way.cut_after(self.dice.randrange(20_000))
            await asyncio.sleep(0.5)
            replica.way.cut_after(None)

    async def dead_connections(self) -> None:
        replica = self.replica()
        async with replica.busy:
            replica.way.freeze()

    async def stall(self) -> None:
        replica, secs = self.replica(), self.a_while()
        async with replica.busy:
            replica.way.stall()
            await asyncio.sleep(secs)
            replica.way.resume()

    async def change_moods(self) -> None:
        moods = self._world.receivers.moods
        moods[self.dice.randrange(len(moods))] = self.dice.choice(MOODS)

    async def terminate_backends(self) -> None:
        with suppress(OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
            await self._world.sql(CUT_BACKENDS)

    async def set_clock(self) -> None:
        """Ahead or behind, and back again: it may jump twice."""
        clock, secs = self.replica().clock, self.a_while()
        clock.set(self.dice.uniform(-SKEW_SECS, SKEW_SECS))
        await asyncio.sleep(secs)
        clock.set(0)

    async def fill_the_disk(self) -> None:
        """The file of a replica's log may grow no more."""
        replica, secs = self.dice.choice([one for one in self._world.replicas if one.reader is None]), self.a_while()
        async with replica.busy:
            with suppress(ProcessLookupError):
                _, most = resource.prlimit(replica.pid, resource.RLIMIT_FSIZE)
                resource.prlimit(replica.pid, resource.RLIMIT_FSIZE, (0, most))
                await asyncio.sleep(secs)
                resource.prlimit(replica.pid, resource.RLIMIT_FSIZE, (most, most))

    async def stall_a_log_reader(self) -> None:
        readers = [one.reader for one in self._world.replicas if one.reader is not None]
        for reader in readers:
            reader.stall()
        await asyncio.sleep(self.a_while())
        for reader in readers:
            reader.go_on()

    async def stall_the_log(self) -> None:
        """Somebody holds what every writer of the log needs last."""
        with suppress(OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
            conn = await asyncpg.connect(self._world.dsn, timeout=5)
            try:
                async with conn.transaction():
                    await conn.execute(self.dice.choice(HOLD_THE_LOG), timeout=20)
                    await asyncio.sleep(min(self.a_while(), 8))
            finally:
                conn.terminate()

    async def restart_postgres(self) -> None:
        await self._restart("fast")

    async def crash_postgres(self) -> None:
        await self._restart("immediate")

    async def _restart(self, mode: str) -> None:
        postgres, secs = self._postgres, self.dice.uniform(0, min(3, self._pace.longest))
        async with postgres.busy:
            await postgres.stop(mode)
            await asyncio.sleep(secs)
            await postgres.start()

    async def promote_the_standby(self) -> None:
        postgres, secs = self._postgres, self.dice.uniform(0, min(3, self._pace.longest))
        async with postgres.busy:
            await postgres.synchronise()
            await asyncio.sleep(secs)
            await postgres.fail_over()
            await asyncio.sleep(secs)
            await postgres.rejoin()

    @property
    def _postgres(self) -> Postgres:
        assert self._world.postgres is not None
        return self._world.postgres


def replica_runs(replica: Replica) -> bool:
    try:
        os.kill(replica.pid, 0)
    except ProcessLookupError:
        return False
    return True


async def _awaited(fault: Awaitable[None]) -> None:
    await fault


ON_REPLICAS: dict[str, Fault] = {
    "replica killed (kill -9)": Faults.kill,
    "replica killed once more": Faults.kill,
    "replica restarted (SIGTERM)": Faults.restart,
    "replica frozen (SIGSTOP)": Faults.freeze_replica,
    "database connections cut": Faults.cut_connections,
    "database connection cut in an answer": Faults.cut_in_an_answer,
    "database connections dead without a word": Faults.dead_connections,
    "database silent": Faults.stall,
    "receiver slow, failing or half dead": Faults.change_moods,
    "database sessions terminated": Faults.terminate_backends,
    "log stalled": Faults.stall_the_log,
    "clock of a replica set": Faults.set_clock,
    "disk of a log full": Faults.fill_the_disk,
    "reader of a log stalled": Faults.stall_a_log_reader,
}
ON_POSTGRES: dict[str, Fault] = {
    "Postgres restarted (fast)": Faults.restart_postgres,
    "Postgres crashed (immediate)": Faults.crash_postgres,
    "standby promoted": Faults.promote_the_standby,
}
