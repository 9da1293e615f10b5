"""Settle what a revocation left over (contract, section 21)."""

from aitp_cp.db import Connection
from aitp_cp.jobs import Job, in_batches
from aitp_cp.runtime import Runtime
from aitp_cp.tcts import graph, service

EVERY_SECS = 1
TURN_SECS = 5  # a drain waits ten seconds for a job, so one that ends by itself in five is never cut off


async def settle(rt: Runtime) -> None:
    """Settle batch by batch; replicas take turns, and others get the graph lock in between."""
    async with rt.db.connection() as conn:
        if not await graph.has_work(conn):
            return
    await in_batches(rt, _settle_next, size=1, secs=TURN_SECS)


async def _settle_next(conn: Connection) -> int:
    return await graph.has_work(conn) and await service.settle_next(conn)


JOBS = (Job("tcts.settle", EVERY_SECS, settle),)
