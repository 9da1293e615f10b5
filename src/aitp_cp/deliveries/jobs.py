"""Clears up after webhooks in batches; replicas share the rows by their locks."""

from aitp_cp.deliveries import sweep
from aitp_cp.jobs import Job, in_batches
from aitp_cp.runtime import Runtime

EVERY_SECS = 30
BATCH = 1000


async def tidy(rt: Runtime) -> None:
    await in_batches(rt, lambda conn: sweep.fail_undeliverable(conn, BATCH), size=BATCH, secs=EVERY_SECS)
    await in_batches(rt, lambda conn: sweep.delete_left_over(conn, BATCH), size=BATCH, secs=EVERY_SECS)
    async with rt.db.connection() as conn:
        await sweep.delete_webhooks(conn)


JOBS = (Job("webhooks.tidy", EVERY_SECS, tidy),)
