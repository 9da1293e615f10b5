"""Gives events that an older control plane wrote a position in the log."""

from aitp_cp.events import service
from aitp_cp.jobs import Job, in_batches
from aitp_cp.runtime import Runtime

ADOPT_EVERY_SECS = 30
BATCH = 500  # a batch holds the log lock for as long as it takes, and every writer of the fleet waits


async def adopt(rt: Runtime) -> None:
    """Run at boot and periodically, for an older version may still write; one replica at a time."""
    await in_batches(rt, lambda conn: service.adopt(conn, BATCH), size=BATCH, secs=ADOPT_EVERY_SECS)


JOBS = (Job("events.adopt", ADOPT_EVERY_SECS, adopt),)
