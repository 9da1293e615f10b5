"""Rows that an older control plane writes into the log have no position yet: give them one."""

from aitp_cp.events import service
from aitp_cp.jobs import Job
from aitp_cp.runtime import Runtime

EVERY_SECS = 30
# A batch holds the log lock for as long as it takes, and every writer of the fleet waits.
BATCH = 500


async def adopt(rt: Runtime) -> None:
    """At boot and ever after, for the older one may still be running; one replica at a time."""
    adopted = BATCH
    while adopted == BATCH:
        async with rt.db.transaction() as conn:
            adopted = await service.adopt(conn, BATCH)


JOBS = (Job("events.adopt", EVERY_SECS, adopt),)
