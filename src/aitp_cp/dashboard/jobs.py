"""Folds changes of the dashboard's totals, so that a question reads few of them."""

from aitp_cp.dashboard import store
from aitp_cp.db.locks import FOLDING, try_lock
from aitp_cp.jobs import Job
from aitp_cp.runtime import Runtime

EVERY_SECS = 5
BATCH = 20_000


async def fold(rt: Runtime) -> None:
    """One replica at a time; figures are the same before and after."""
    folded = BATCH
    while folded == BATCH:
        async with rt.db.transaction() as conn:
            if not await try_lock(conn, FOLDING):
                return
            folded = await store.fold(conn, BATCH)


JOBS = (Job("dashboard.fold", EVERY_SECS, fold),)
