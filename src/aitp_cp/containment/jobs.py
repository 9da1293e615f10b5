"""Revoke what is left of large containments, and watch how far they reach (contract, section 21)."""

from aitp_cp.containment import reach, service, store
from aitp_cp.db.locks import CONTAINING
from aitp_cp.jobs import Job, in_batches, single_flight
from aitp_cp.runtime import Runtime

EVERY_SECS = 1
WATCH_SECS = 10  # clients' versions are written down as often
TURN_SECS = 5  # a drain waits ten seconds for a job, so one that ends by itself in five is never cut off


async def settle(rt: Runtime) -> None:
    """Revoke batch by batch; reports are stored in between."""
    async with rt.db.connection() as conn:
        if await store.first_pending(conn) is None:
            return
    batch = single_flight(CONTAINING, lambda conn: service.settle_next(conn, rt.clock()))
    await in_batches(rt, batch, size=service.BATCH, secs=TURN_SECS)


async def watch(rt: Runtime) -> None:
    """Show how far the newest open containment has reached."""
    async with rt.db.connection() as conn:
        progress = await reach.watch(conn, rt.clock())
    rt.metrics.containment_confirmed.set(progress.confirmed_ratio)
    rt.metrics.containment_seconds.labels(share="0.5").set(progress.secs_to_half)
    rt.metrics.containment_seconds.labels(share="0.95").set(progress.secs_to_most)


JOBS = (Job("containment.settle", EVERY_SECS, settle), Job("containment.reach", WATCH_SECS, watch))
