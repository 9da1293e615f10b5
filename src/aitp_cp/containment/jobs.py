"""Revoke what is left of large containments (contract, section 21)."""

from aitp_cp.containment import service, store
from aitp_cp.db.locks import CONTAINING
from aitp_cp.jobs import Job, in_batches, single_flight
from aitp_cp.runtime import Runtime

EVERY_SECS = 1
TURN_SECS = 5  # a drain waits ten seconds for a job, so one that ends by itself in five is never cut off


async def settle(rt: Runtime) -> None:
    """Revoke batch by batch; reports are stored in between."""
    async with rt.db.connection() as conn:
        if await store.first_pending(conn) is None:
            return
    batch = single_flight(CONTAINING, lambda conn: service.settle_next(conn, rt.clock()))
    await in_batches(rt, batch, size=service.BATCH, secs=TURN_SECS)


JOBS = (Job("containment.settle", EVERY_SECS, settle),)
