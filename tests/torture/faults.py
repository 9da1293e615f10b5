"""What is done to the world, dealt from a shuffled deck: the seed decides what comes when, and each kind comes."""

import asyncio
import os
import random
import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import NamedTuple

import asyncpg

from tests.torture.record import Record
from tests.torture.world import MOODS, Replica, World

# Retries are due after half a minute and more: the rows are told that it has passed.
HURRY = """
UPDATE webhook_deliveries SET next_retry_at = now() WHERE id IN (
    SELECT id FROM webhook_deliveries WHERE status = 'pending' AND next_retry_at > now() FOR UPDATE SKIP LOCKED
)
"""
HURRY_SECS = 1.0
# Longer than the longest fault, and a SIGTERM that is not obeyed.
MENDING_SECS = 150.0
CUT_BACKENDS = """
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
WHERE application_name = 'aitp-cp' AND pid <> pg_backend_pid() AND random() < 0.5
"""


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
        self._running: set[asyncio.Task[None]] = set()

    async def run(self, secs: float) -> None:
        """For so long; returns when the last one is mended."""
        tasks = [asyncio.create_task(self._hurry()), *(asyncio.create_task(one.tend()) for one in self._world.replicas)]
        loop = asyncio.get_running_loop()
        ends = loop.time() + secs
        deck: list[str] = []
        while (left := ends - loop.time()) > 0:
            await asyncio.sleep(min(left, self.dice.uniform(self._pace.least, self._pace.most)))
            deck = deck or self._shuffled()
            self._begin(deck.pop())
        async with asyncio.timeout(MENDING_SECS):
            await asyncio.gather(*self._running)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._world.receivers.mend()

    def _shuffled(self) -> list[str]:
        kinds = list(ON_REPLICAS) + (list(ON_POSTGRES) if self._world.postgres else [])
        return self.dice.sample(kinds, len(kinds))

    def _begin(self, kind: str) -> None:
        self._record.faults[kind] += 1
        fault = {**ON_REPLICAS, **ON_POSTGRES}[kind]
        task = asyncio.create_task(_awaited(fault(self)), name=kind)
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
            await replica.proxy.stop()
            await asyncio.sleep(min(secs, 8))
            await replica.proxy.start()

    async def cut_in_an_answer(self) -> None:
        replica = self.replica()
        async with replica.busy:
            replica.proxy.cut_after(self.dice.randrange(20_000))
            await asyncio.sleep(0.5)
            replica.proxy.cut_after(None)

    async def dead_connections(self) -> None:
        replica = self.replica()
        async with replica.busy:
            replica.proxy.freeze()

    async def stall(self) -> None:
        replica, secs = self.replica(), self.a_while()
        async with replica.busy:
            replica.proxy.stall()
            await asyncio.sleep(secs)
            replica.proxy.resume()

    async def change_moods(self) -> None:
        moods = self._world.receivers.moods
        moods[self.dice.randrange(len(moods))] = self.dice.choice(MOODS)

    async def terminate_backends(self) -> None:
        with suppress(OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
            await self._world.sql(CUT_BACKENDS)

    async def restart_postgres(self) -> None:
        await self._restart(signal.SIGINT)

    async def crash_postgres(self) -> None:
        await self._restart(signal.SIGQUIT)

    async def _restart(self, number: signal.Signals) -> None:
        postgres, secs = self._world.postgres, self.dice.uniform(0, min(3, self._pace.longest))
        assert postgres is not None
        async with postgres.busy:
            await postgres.stop(number)
            await asyncio.sleep(secs)
            await postgres.start()


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
}
ON_POSTGRES: dict[str, Fault] = {
    "Postgres restarted (fast)": Faults.restart_postgres,
    "Postgres crashed (immediate)": Faults.crash_postgres,
}
