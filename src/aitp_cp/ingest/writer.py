"""One writer per process stores the batches that wait at a moment in one transaction."""

from collections.abc import Sequence

from aitp_cp.db import ValueRefused
from aitp_cp.db.group_commit import GroupCommit
from aitp_cp.errors import AppError
from aitp_cp.ingest import service, unfit
from aitp_cp.ingest.backlog import Backlog
from aitp_cp.ingest.model import Stored, Submission
from aitp_cp.runtime import Runtime


class Writer:
    """Answers each caller after the commit that holds its batch; `backlog` bounds what may wait."""

    def __init__(self, rt: Runtime) -> None:
        self.backlog = Backlog(rt.metrics.ingest_waiting_bytes)
        self._rt = rt
        self._commits = GroupCommit("ingest", self._store, self._rescue)

    async def submit(self, submission: Submission) -> Stored:
        """Store a batch and return its response. Raises `DatabaseUnavailable`, `ShuttingDown` and what its key refuses.

        A second request under a key is refused at once, rather than when its group is written.
        """
        key = None if submission.once is None else submission.once.key
        return await self._commits.submit(submission, size=len(submission.batch.reports), key=key)

    async def stop(self) -> None:
        """Write what is waiting, then end."""
        await self._commits.stop()

    async def _store(self, submissions: Sequence[Submission]) -> list[Stored | AppError]:
        return await service.store(self._rt.db, submissions, self._rt.clock())

    async def _rescue(self, submission: Submission, failure: Exception) -> Stored | AppError:
        """Drop what the database cannot hold, as if it had been refused when it was read."""
        if not isinstance(failure, ValueRefused):
            raise failure
        [outcome] = await self._store([await unfit.without(self._rt, submission, failure)])
        return outcome
