"""Fold changes into the dashboard's counts, so that a query reads few of them."""

from aitp_cp.dashboard import store
from aitp_cp.db.locks import FOLDING
from aitp_cp.jobs import Job, in_batches, single_flight
from aitp_cp.runtime import Runtime

EVERY_SECS = 5
BATCH = 20_000


async def fold(rt: Runtime) -> None:
    """One replica at a time; figures are the same before and after."""
    batch = single_flight(FOLDING, lambda conn: store.fold(conn, BATCH))
    await in_batches(rt, batch, size=BATCH, secs=EVERY_SECS)


JOBS = (Job("dashboard.fold", EVERY_SECS, fold),)
