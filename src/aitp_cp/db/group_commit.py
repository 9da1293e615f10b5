"""Group commit: requests that wait at the same moment share one transaction, and each is answered after the commit.

    submit ──> queue ──> group ──> write, one transaction ──> answers
                                     └─ on failure ──> each request alone, so that a bad request fails alone

The log lock is held to commit, so each transaction costs the whole fleet a commit. While one group waits for its
commit, a second one that is large enough does everything that comes before the log.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import structlog

from aitp_cp.errors import AppError, DatabaseUnavailable, IdempotencyInFlight, ShuttingDown

log = structlog.get_logger("aitp_cp.db")

T = TypeVar("T")
R = TypeVar("R")

GROUP_SIZE = 1000  # rows of one transaction: about 50 ms under the log lock
GROUP_KEYS = 100  # requests with an Idempotency-Key, each of which takes a lock in the server's shared memory
GROUPS_AT_ONCE = 2  # one commits, one prepares
SECOND_GROUP_SIZE = 100  # less than this waits for the group that is being written
# Clients that were answered together mostly come back together: gather until this many turns of the loop bring nothing.
QUIET_TURNS = 2
MAX_TURNS = 10


@dataclass(frozen=True, slots=True)
class _Waiting(Generic[T, R]):
    item: T
    size: int
    key: Hashable
    future: "asyncio.Future[R]"

    def settle(self, outcome: R | Exception) -> None:
        if self.future.done():
            return
        if isinstance(outcome, Exception):
            self.future.set_exception(outcome)
        else:
            self.future.set_result(outcome)


class GroupCommit(Generic[T, R]):
    """Gathers requests and writes them in groups.

    `write` stores a group in one transaction and returns the outcome of each item. `rescue` gets an item that failed
    alone, and its failure, which it raises unless it can do something about it.
    """

    def __init__(
        self,
        name: str,
        write: Callable[[Sequence[T]], Awaitable[Sequence[R | AppError]]],
        rescue: Callable[[T, Exception], Awaitable[R | AppError]] | None = None,
    ) -> None:
        self._name = name
        self._write_items = write
        self._rescue = rescue
        self._waiting: deque[_Waiting[T, R]] = deque()
        self._size = 0  # of everything that waits
        self._in_flight: set[Hashable] = set()
        self._writing: set[asyncio.Task[None]] = set()
        self._bell = asyncio.Event()
        self._stopping = False
        self._task = asyncio.create_task(self._run(), name=f"group-commit:{name}")

    async def submit(self, item: T, *, size: int, key: Hashable = None) -> R:
        """Return the outcome of `item`, which counts for `size` rows, after its commit.

        Raises what `write` returns or raises for it, `ShuttingDown`, and `IdempotencyInFlight` while another request
        with the same `key` waits.
        """
        if self._stopping:
            raise ShuttingDown(headers={"Retry-After": "1"})
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        if key is not None:
            if key in self._in_flight:
                raise IdempotencyInFlight(headers={"Retry-After": "1"})
            self._in_flight.add(key)
            future.add_done_callback(lambda _: self._in_flight.discard(key))
        self._waiting.append(_Waiting(item, size, key, future))
        self._size += size
        self._bell.set()
        return await future

    async def stop(self) -> None:
        """Write what is waiting, then end."""
        self._stopping = True
        self._bell.set()
        await self._task

    async def _run(self) -> None:
        while True:
            await self._bell.wait()
            self._bell.clear()
            await self._gather_more()
            while self._is_time():
                task = asyncio.create_task(self._write(self._next_group()), name=f"group:{self._name}")
                self._writing.add(task)
                task.add_done_callback(self._written)
            if self._stopping and not self._writing:
                return

    async def _gather_more(self) -> None:
        quiet, size = 0, self._size
        for _ in range(MAX_TURNS):
            await asyncio.sleep(0)
            quiet, size = (0 if self._size > size else quiet + 1), self._size
            if quiet == QUIET_TURNS:
                return

    def _is_time(self) -> bool:
        if not self._waiting or len(self._writing) >= GROUPS_AT_ONCE:
            return False
        return not self._writing or self._size >= SECOND_GROUP_SIZE

    def _written(self, task: "asyncio.Task[None]") -> None:
        self._writing.discard(task)
        self._bell.set()

    def _next_group(self) -> list[_Waiting[T, R]]:
        """Take the first request whatever its size, and those behind it that fit."""
        group: list[_Waiting[T, R]] = []
        size = keys = 0
        while self._waiting:
            size, keys = size + self._waiting[0].size, keys + (self._waiting[0].key is not None)
            if group and (size > GROUP_SIZE or keys > GROUP_KEYS):
                break
            group.append(self._waiting.popleft())
        self._size -= sum(waiting.size for waiting in group)
        return group

    async def _write(self, group: Sequence[_Waiting[T, R]]) -> None:
        try:
            outcomes = await self._write_items([waiting.item for waiting in group])
        except Exception as failure:
            await self._recover(group, failure)
        else:
            for waiting, outcome in zip(group, outcomes, strict=True):
                waiting.settle(outcome)

    async def _recover(self, group: Sequence[_Waiting[T, R]], failure: Exception) -> None:
        if isinstance(failure, DatabaseUnavailable | ShuttingDown):
            for waiting in group:
                waiting.settle(failure)
        elif len(group) > 1:
            log.error(f"{self._name}_group_failed", requests=len(group), exc_info=failure)
            for waiting in group:
                await self._write([waiting])
        elif self._rescue is None:
            group[0].settle(failure)
        else:
            try:
                group[0].settle(await self._rescue(group[0].item, failure))
            except Exception as final:
                group[0].settle(final)
