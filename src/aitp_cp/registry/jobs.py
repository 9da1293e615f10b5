"""The expiry job: every five minutes and at boot, exactly once per agent across replicas."""

from aitp_cp.jobs import Job
from aitp_cp.registry import service
from aitp_cp.runtime import Runtime

EVERY_SECS = 300


async def expire_agents(rt: Runtime) -> None:
    # Rows another replica is expiring are skipped, so replicas share the work and no agent expires twice.
    while True:
        async with rt.db.transaction() as conn:
            expired = await service.expire_due(conn, rt.clock())
        if expired < service.EXPIRY_BATCH:
            return


JOBS = (Job("registry.expire", EVERY_SECS, expire_agents),)
