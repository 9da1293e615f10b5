"""Settles what a revocation left over (contract, section 21)."""

import time

from aitp_cp.jobs import Job
from aitp_cp.runtime import Runtime
from aitp_cp.tcts import service

EVERY_SECS = 1
TURN_SECS = 5  # a job that ends within the drain's patience is never cut off


async def settle(rt: Runtime) -> None:
    """Batch by batch; replicas take turns, and whoever waits for the graph lock goes in between."""
    ends_at = time.monotonic() + TURN_SECS
    while time.monotonic() < ends_at:
        async with rt.db.connection() as conn:
            if not await service.has_unsettled(conn):
                return
        async with rt.db.transaction() as conn:
            if not await service.settle_next(conn):
                return


JOBS = (Job("tcts.settle", EVERY_SECS, settle),)
