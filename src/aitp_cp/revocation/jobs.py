"""Write down who holds which version of the signed list."""

from aitp_cp.jobs import Job
from aitp_cp.revocation.holders import Holders
from aitp_cp.runtime import Runtime

FLUSH_SECS = 10


async def flush_holders(rt: Runtime) -> None:
    await rt.get(Holders).flush()


# Each process writes down what its own clients have shown.
OWN_JOBS = (Job("revocation.holders", FLUSH_SECS, flush_holders),)
