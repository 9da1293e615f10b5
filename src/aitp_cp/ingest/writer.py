"""One writer per process gathers the batches waiting at a moment into one transaction.

The log lock is held to commit, so each transaction costs the whole fleet a commit: sharing it makes it cheap. While one
group waits for its commit, another one that is worth it may do all that comes before the log.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import structlog

from aitp_cp.errors import DatabaseUnavailable, ShuttingDown
from aitp_cp.ingest import service
from aitp_cp.protocol.reports import Report
from aitp_cp.runtime import Runtime

log = structlog.get_logger("aitp_cp.ingest")

GROUP_EVENTS = 1000
GROUPS_AT_ONCE = 2
# Fewer than these gather while another group is being written.
SECOND_GROUP_EVENTS = 100
# Who was answered together mostly comes back together: so many turns of the loop without another batch end the wait.
QUIET_TURNS = 2
MOST_TURNS = 10


@dataclass(frozen=True, slots=True)
class _Waiting:
    reports: Sequence[Report]
    answer: asyncio.Future[int]


class Writer:
    """Answers each caller after the commit that holds its batch."""

    def __init__(self, rt: Runtime) -> None:
        self._rt = rt
        self._waiting: deque[_Waiting] = deque()
        self._size = 0  # events in what is waiting
        self._writing: set[asyncio.Task[None]] = set()
        self._bell = asyncio.Event()
        self._stopping = False
        self._task = asyncio.create_task(self._run(), name="ingest-writer")

    async def submit(self, reports: Sequence[Report]) -> int:
        """Store a batch; how many of its events were new. Raises `DatabaseUnavailable`, `ShuttingDown`."""
        if self._stopping:
            raise ShuttingDown(headers={"Retry-After": "1"})
        answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(reports, answer))
        self._size += len(reports)
        self._bell.set()
        return await answer

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
        size = len(group[0].reports)
        while self._waiting and size + len(self._waiting[0].reports) <= GROUP_EVENTS:
            group.append(self._waiting.popleft())
            size += len(group[-1].reports)
        self._size -= size
        return group

    async def _write(self, group: list[_Waiting]) -> None:
        try:
            new = await self._store([report for batch in group for report in batch.reports])
        except Exception as failure:
            await self._recover(group, failure)
        else:
            _answer(group, new)

    async def _recover(self, group: list[_Waiting], failure: Exception) -> None:
        """One bad batch must hurt nobody else: the rest of its group is written one by one."""
        if len(group) == 1 or isinstance(failure, DatabaseUnavailable):
            for batch in group:
                if not batch.answer.done():
                    batch.answer.set_exception(failure)
            return
        for batch in group:
            await self._write([batch])

    async def _store(self, reports: Sequence[Report]) -> set[UUID]:
        async with self._rt.db.transaction() as conn:
            return await service.store_group(conn, reports, self._rt.clock())


def _answer(group: list[_Waiting], new: set[UUID]) -> None:
    for batch in group:
        mine = {report.id for report in batch.reports} & new
        new -= mine
        if not batch.answer.done():
            batch.answer.set_result(len(mine))
