"""The expiry job, exactly once per agent across replicas, and skeletons of names that an older version wrote."""

from aitp_cp.jobs import Job, in_batches
from aitp_cp.registry import service
from aitp_cp.runtime import Runtime

EVERY_SECS = 300


async def expire_agents(rt: Runtime) -> None:
    """Rows that another replica is expiring are skipped, so replicas share the work and no agent expires twice."""
    await in_batches(rt, lambda conn: service.expire_due(conn, rt.clock()), size=service.EXPIRY_BATCH, secs=EVERY_SECS)


async def read_names(rt: Runtime) -> None:
    """Replicas share this work, too."""
    await in_batches(rt, service.read_names, size=service.NAME_BATCH, secs=EVERY_SECS)


JOBS = (Job("registry.expire", EVERY_SECS, expire_agents), Job("registry.read-names", EVERY_SECS, read_names))
