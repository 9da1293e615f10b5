"""The jobs of a process, run at once."""

from aitp_cp.ops.jobs import refresh
from aitp_cp.runtime import Runtime
from aitp_cp.worker import shared_jobs


async def run_all(rt: Runtime) -> None:
    """Read the figures and run every job that the processes share."""
    await refresh(rt)
    for job in shared_jobs(rt):
        await job.run(rt)
