"""One writer per process: revocations that wait at a moment share a transaction."""

from collections.abc import Sequence

from aitp_cp.db import Connection, urgent
from aitp_cp.db.group_commit import GroupCommit
from aitp_cp.errors import AppError
from aitp_cp.idempotency import service as idempotency
from aitp_cp.idempotency.model import ApiResponse
from aitp_cp.revocation import service
from aitp_cp.revocation.model import Done, Submission
from aitp_cp.revocation.published import PublishedList
from aitp_cp.runtime import Runtime


class Revoker:
    """Answers each caller after the commit that holds its revocation, and tells the published list."""

    def __init__(self, rt: Runtime, published: PublishedList) -> None:
        self._rt = rt
        self._published = published
        self._commits = GroupCommit("revocation", self._store)

    async def submit(self, submission: Submission) -> ApiResponse:
        """Store a revocation and return its response.

        Raises `Conflict`, `DatabaseUnavailable`, `ShuttingDown`, and what the key refuses.
        """
        key = None if submission.once is None else submission.once.key
        done = await self._commits.submit(submission, size=len(submission.request.entries), key=key)
        return done.response

    async def stop(self) -> None:
        """Write what is waiting, then end."""
        await self._commits.stop()

    async def _store(self, submissions: Sequence[Submission]) -> list[Done | AppError]:
        is_written = False
        try:
            with urgent():
                async with self._rt.db.transaction() as conn:
                    outcomes = await self._store_in(conn, submissions)
                    is_written = True
        except BaseException:
            if is_written:  # the commit may have happened although its confirmation was lost
                self._published.changed()
            raise
        for done in outcomes:
            if isinstance(done, Done) and done.outcome is not None:
                self._published.changed(done.outcome.seq)
        return outcomes

    async def _store_in(self, conn: Connection, submissions: Sequence[Submission]) -> list[Done | AppError]:
        now = self._rt.clock()
        claims = await idempotency.claim(conn, [submission.once for submission in submissions])
        fresh = [submission for submission, claim in zip(submissions, claims, strict=True) if claim is None]
        outcomes = await service.revoke(conn, [submission.request for submission in fresh], now) if fresh else []
        responses = [
            (submission.once, ApiResponse(201, service.view_of(outcome, bulk=submission.request.bulk)))
            for submission, outcome in zip(fresh, outcomes, strict=True)
        ]
        kept = await idempotency.keep(conn, responses, now)
        done = iter([Done(response, outcome) for response, outcome in zip(kept, outcomes, strict=True)])
        return [
            next(done) if claim is None else claim if isinstance(claim, AppError) else Done(claim, None)
            for claim in claims
        ]
