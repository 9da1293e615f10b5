"""Tidying up after webhooks, shared by replicas through row locks."""

from aitp_cp.deliveries import sweep
from aitp_cp.jobs import Job
from aitp_cp.runtime import Runtime

EVERY_SECS = 30
BATCH = 1000


async def tidy(rt: Runtime) -> None:
    batch = BATCH
    while batch == BATCH:
        async with rt.db.connection() as conn:
            batch = await sweep.fail_undeliverable(conn, BATCH)
    batch = BATCH
    while batch == BATCH:
        async with rt.db.connection() as conn:
            batch = await sweep.delete_left_over(conn, BATCH)
    async with rt.db.connection() as conn:
        await sweep.delete_webhooks(conn)


JOBS = (Job("webhooks.tidy", EVERY_SECS, tidy),)
