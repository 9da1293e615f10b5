"""What is done behind the writers of the log: older rows get a position, and invocations are counted."""

from aitp_cp.events import service
from aitp_cp.jobs import Job, in_batches
from aitp_cp.runtime import Runtime

ADOPT_EVERY_SECS = 30
# A batch holds the log lock for as long as it takes, and every writer of the fleet waits.
BATCH = 500
COUNT_EVERY_SECS = 5
COUNT_BATCH = 20_000


async def adopt(rt: Runtime) -> None:
    """At boot and ever after, for the older one may still be running; one replica at a time."""
    await in_batches(rt, lambda conn: service.adopt(conn, BATCH), size=BATCH, secs=ADOPT_EVERY_SECS)


async def count_invocations(rt: Runtime) -> None:
    """Replicas take turns; who asks meanwhile counts what is left from the log itself."""
    async with rt.db.connection() as conn:
        while await service.count_invocations(conn, COUNT_BATCH) == COUNT_BATCH:
            pass


JOBS = (
    Job("events.adopt", ADOPT_EVERY_SECS, adopt),
    Job("events.count_invocations", COUNT_EVERY_SECS, count_invocations),
)
