"""One writer per process gathers the batches waiting at a moment into one transaction.

The log lock is held to commit, so each transaction costs the whole fleet a commit: sharing it makes it cheap. While one
group waits for its commit, another one that is worth it may do all that comes before the log.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import structlog

from aitp_cp.db import ValueRefused
from aitp_cp.errors import AppError, DatabaseUnavailable, IdempotencyInFlight, ShuttingDown
from aitp_cp.idempotency.model import Once
from aitp_cp.ingest import service, unfit
from aitp_cp.ingest.backlog import Backlog
from aitp_cp.ingest.model import Stored, Submission
from aitp_cp.runtime import Runtime

log = structlog.get_logger("aitp_cp.ingest")

GROUP_EVENTS = 1000
GROUPS_AT_ONCE = 2
GROUP_KEYS = 100  # batches with an Idempotency-Key, each of which takes a lock in the server's shared memory
# Fewer than these gather while another group is being written.
SECOND_GROUP_EVENTS = 100
# Who was answered together mostly comes back together: so many turns of the loop without another batch end the wait.
QUIET_TURNS = 2
MOST_TURNS = 10


@dataclass(frozen=True, slots=True)
class _Waiting:
    submission: Submission
    answer: asyncio.Future[Stored]

    @property
    def size(self) -> int:
        return len(self.submission.batch.reports)

    def settle(self, outcome: Stored | Exception) -> None:
        if self.answer.done():
            return
        if isinstance(outcome, Stored):
            self.answer.set_result(outcome)
        else:
            self.answer.set_exception(outcome)


class Writer:
    """Answers each caller after the commit that holds its batch; `backlog` bounds what may wait."""

    def __init__(self, rt: Runtime) -> None:
        self.backlog = Backlog(rt.metrics.ingest_waiting_bytes)
        self._rt = rt
        self._waiting: deque[_Waiting] = deque()
        self._size = 0  # events in what is waiting
        self._in_flight: set[Once] = set()
        self._writing: set[asyncio.Task[None]] = set()
        self._bell = asyncio.Event()
        self._stopping = False
        self._task = asyncio.create_task(self._run(), name="ingest-writer")

    async def submit(self, submission: Submission) -> Stored:
        """Store a batch; the answer to it. Raises `DatabaseUnavailable`, `ShuttingDown`, and what its key refuses."""
        if self._stopping:
            raise ShuttingDown(headers={"Retry-After": "1"})
        answer: asyncio.Future[Stored] = asyncio.get_running_loop().create_future()
        if submission.once is not None:
            self._fly(submission.once, answer)
        waiting = _Waiting(submission, answer)
        self._waiting.append(waiting)
        self._size += waiting.size
        self._bell.set()
        return await answer

    def _fly(self, once: Once, answer: asyncio.Future[Stored]) -> None:
        """Refuse a second request under a key at once, rather than when its group is written."""
        request = msgspec.structs.replace(once, body_sha256=b"")
        if request in self._in_flight:
            raise IdempotencyInFlight(headers={"Retry-After": "1"})
        self._in_flight.add(request)
        answer.add_done_callback(lambda _: self._in_flight.discard(request))

    async def stop(self) -> None:
        """Write what is waiting, then end."""
        self._stopping = True
        self._bell.set()
        await self._task

    async def _run(self) -> None:
        while True:
            await self._bell.wait()
            self._bell.clear()
            await self._settle()
            while self._is_time():
                task = asyncio.create_task(self._write(self._gather()), name="ingest-group")
                self._writing.add(task)
                task.add_done_callback(self._written)
            if self._stopping and not self._writing:
                return

    async def _settle(self) -> None:
        quiet, size = 0, self._size
        for _ in range(MOST_TURNS):
            await asyncio.sleep(0)
            quiet, size = (0 if self._size > size else quiet + 1), self._size
            if quiet == QUIET_TURNS:
                return

    def _is_time(self) -> bool:
        """Whether to write what is waiting now."""
        if not self._waiting or len(self._writing) >= GROUPS_AT_ONCE:
            return False
        return not self._writing or self._size >= SECOND_GROUP_EVENTS

    def _written(self, task: "asyncio.Task[None]") -> None:
        self._writing.discard(task)
        self._bell.set()

    def _gather(self) -> list[_Waiting]:
        group = [self._waiting.popleft()]
        size, keys = group[0].size, _keys(group[0])
        while self._waiting:
            size, keys = size + self._waiting[0].size, keys + _keys(self._waiting[0])
            if size > GROUP_EVENTS or keys > GROUP_KEYS:
                break
            group.append(self._waiting.popleft())
        self._size -= sum(batch.size for batch in group)
        return group

    async def _write(self, group: list[_Waiting]) -> None:
        try:
            outcomes = await self._store([waiting.submission for waiting in group])
        except Exception as failure:
            await self._recover(group, failure)
        else:
            for waiting, outcome in zip(group, outcomes, strict=True):
                waiting.settle(outcome)

    async def _recover(self, group: list[_Waiting], failure: Exception) -> None:
        """One bad batch must hurt nobody else: the rest of its group is written one by one."""
        if isinstance(failure, DatabaseUnavailable | ShuttingDown):
            for waiting in group:
                waiting.settle(failure)
        elif len(group) > 1:
            log.error("ingest_group_failed", batches=len(group), exc_info=failure)
            for waiting in group:
                await self._write([waiting])
        elif isinstance(failure, ValueRefused):
            await self._write_what_fits(group[0], failure)
        else:
            group[0].settle(failure)

    async def _write_what_fits(self, waiting: _Waiting, failure: Exception) -> None:
        """What the database cannot hold is the fault of its item, as if it had been refused when it was read."""
        try:
            [outcome] = await self._store([await unfit.without(self._rt, waiting.submission, failure)])
        except Exception as again:
            waiting.settle(again)
        else:
            waiting.settle(outcome)

    async def _store(self, submissions: Sequence[Submission]) -> list[Stored | AppError]:
        return await service.store(self._rt.db, submissions, self._rt.clock())


def _keys(waiting: _Waiting) -> int:
    return waiting.submission.once is not None
