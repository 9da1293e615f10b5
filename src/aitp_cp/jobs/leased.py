"""A loop that works off a queue in the database, shared by every process through leases."""

import asyncio
from abc import abstractmethod
from collections.abc import Collection, Sequence
from typing import Generic, NamedTuple, TypeVar

import structlog

from aitp_cp.db import Connection
from aitp_cp.errors import RETRIABLE
from aitp_cp.jobs.loop import STOP_SECS, Loop
from aitp_cp.runtime import Runtime

log = structlog.get_logger("aitp_cp.jobs")

# The lease keeps other processes away for longer, so there is time to wait for a database that is away.
RECORD_RETRY_SECS = (0.2, 0.5, 1.0, 2.0, 4.0)

Item = TypeVar("Item")
Result = TypeVar("Result")


class Done(NamedTuple, Generic[Item, Result]):
    """An item and how the work on it ended."""

    item: Item
    result: Result


class LeasedLoop(Loop, Generic[Item, Result]):
    """Claims due items, works on each in a task, and records the results.

        claim ──items──▶ work ──results──▶ record
          ▲                │ an item ends     │ results that wait share a write
          └──── wake ──────┴──────────────────┘

    `claim` and `record` get a connection and commit what they do; no connection is held during `work`. A claim leases
    its items by the database's clock, for the clocks of processes differ. When a process dies, its leases end and
    other processes claim the items again. So `record` may not change an item that was leased again since.
    """

    max_in_flight = 8
    poll_secs = 5.0  # between two looks while nothing is due: how soon changes by other processes are noticed
    busy_secs = 0.25  # between a claim that took something and the next look
    drain_secs = STOP_SECS  # how long a stop waits for the items in flight

    def __init__(self, rt: Runtime, name: str) -> None:
        super().__init__(rt, name)
        self._in_flight: dict[asyncio.Task[None], Item] = {}
        self._done: list[Done[Item, Result]] = []
        self._recording: asyncio.Task[None] | None = None

    @abstractmethod
    async def claim(self, conn: Connection, room: int) -> Sequence[Item]:
        """Lease at most `room` items that are due."""

    @abstractmethod
    async def work(self, item: Item) -> Result:
        """Do the work; errors of the outside world are results too."""

    @abstractmethod
    async def record(self, conn: Connection, done: Sequence[Done[Item, Result]]) -> None:
        """Write the results; may run again after a failure halfway."""

    async def secs_to_next(self, conn: Connection) -> float:
        """Return the seconds until something may be due, asked when nothing is."""
        return self.poll_secs

    @property
    def in_flight(self) -> Collection[Item]:
        return self._in_flight.values()

    async def turn(self) -> float:
        if len(self._in_flight) >= self.max_in_flight:
            return self.poll_secs  # the first item that ends wakes the loop
        async with self.rt.db.connection() as conn:
            # Counted here, because items end while the loop waits for a connection.
            items = await self.claim(conn, self.max_in_flight - len(self._in_flight))
        for item in items:
            task = asyncio.create_task(self._work(item), name=f"item:{self.name}")
            self._in_flight[task] = item
            task.add_done_callback(self._ended)
        if items:
            return self.busy_secs
        async with self.rt.db.connection() as conn:
            return await self.secs_to_next(conn)

    async def run_due(self) -> None:
        """Work off all that is due and return, in a process where the loop is not started."""
        while await self.turn() == self.busy_secs or self._in_flight:
            await self._settle(None)

    async def stop(self, grace_secs: float = STOP_SECS) -> None:
        """Claim nothing more, and let items in flight end and be recorded; the leases of the rest run out."""
        await super().stop(grace_secs)
        await self._settle(self.drain_secs)

    async def _settle(self, timeout: float | None) -> None:
        if self._in_flight:
            _, late = await asyncio.wait(self._in_flight, timeout=timeout)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        if self._recording is not None:
            await self._recording

    async def _work(self, item: Item) -> None:
        result = await self.work(item)
        self._done.append(Done(item, result))
        if self._recording is None:
            self._recording = asyncio.create_task(self._record_waiting(), name=f"record:{self.name}")

    def _ended(self, task: "asyncio.Task[None]") -> None:
        del self._in_flight[task]
        self.wake()
        if not task.cancelled() and (failure := task.exception()) is not None:
            log.error("job_item_failed", job=self.name, exc_info=failure)

    async def _record_waiting(self) -> None:
        """One writer at a time: results that came meanwhile share the next write."""
        try:
            while self._done:
                done, self._done = self._done, []
                await self._record(done)
        finally:
            self._recording = None

    async def _record(self, done: Sequence[Done[Item, Result]]) -> None:
        for secs in RECORD_RETRY_SECS:
            try:
                async with self.rt.db.connection() as conn:
                    await self.record(conn, done)
                return
            except RETRIABLE:
                await asyncio.sleep(secs)
            except Exception:
                log.exception("job_results_lost", job=self.name, items=len(done))
                return
        log.warning("job_results_lost", job=self.name, items=len(done))  # the items come back when their leases end
