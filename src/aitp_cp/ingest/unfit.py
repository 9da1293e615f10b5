"""Finds the reports of a batch that the database cannot hold, such as text outside its encoding."""

from collections.abc import Sequence
from datetime import datetime

import msgspec
import structlog

from aitp_cp.db import Database, ValueRefused
from aitp_cp.db.locks import AgentsBusy
from aitp_cp.ingest import service
from aitp_cp.ingest.model import Submission
from aitp_cp.protocol.reports import MAX_PROBLEMS, Problem, Report
from aitp_cp.runtime import Runtime

REASON = "cannot be stored in this database"

log = structlog.get_logger("aitp_cp.ingest")


class _Undone(Exception):
    """Ends a trial."""


async def without(rt: Runtime, submission: Submission, failure: Exception) -> Submission:
    """Return the submission with its unfit reports dropped; raises `failure` when each of them fits alone."""
    batch = submission.batch
    unfit = await _unfit(rt.db, batch.reports, rt.clock())
    if not unfit:
        raise failure
    log.warning("ingest_items_unfit", items=len(unfit), exc_info=failure)
    indexes = {report.index for report in unfit}
    problems = [*batch.problems, *(Problem(index, "event", REASON) for index in sorted(indexes))]
    reduced = msgspec.structs.replace(
        batch,
        reports=[report for report in batch.reports if report.index not in indexes],
        problems=sorted(problems, key=lambda problem: problem.index)[:MAX_PROBLEMS],
        dropped=batch.dropped + len(indexes),
    )
    return submission._replace(batch=reduced)


async def _unfit(db: Database, reports: Sequence[Report], now: datetime) -> list[Report]:
    """By halving: a few trials where few reports are unfit."""
    if not reports or await _fits(db, reports, now):
        return []
    if len(reports) == 1:
        return list(reports)
    middle = len(reports) // 2
    return [*await _unfit(db, reports[:middle], now), *await _unfit(db, reports[middle:], now)]


async def _fits(db: Database, reports: Sequence[Report], now: datetime) -> bool:
    """Return whether the reports can be stored, in a transaction that leaves nothing."""
    try:
        async with db.transaction() as conn:
            await service.store_group(conn, reports, now)
            raise _Undone
    except ValueRefused:
        return False
    except (_Undone, service.Overtaken, AgentsBusy):
        return True
