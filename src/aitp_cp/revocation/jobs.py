"""Keep the signed list short, and write down who holds which version of it."""

from aitp_cp.db.locks import UNLISTING
from aitp_cp.jobs import Job, in_batches, single_flight
from aitp_cp.revocation.holders import Holders
from aitp_cp.runtime import Runtime
from aitp_cp.tcts import unlisting

FLUSH_SECS = 10
UNLIST_SECS = 300  # each turn looks at every listed entry: a second for a million
UNLIST_BATCH = 5000


async def flush_holders(rt: Runtime) -> None:
    await rt.get(Holders).flush()


async def unlist(rt: Runtime) -> None:
    """Take entries off the signed list whose tokens nobody accepts any more."""
    batch = single_flight(UNLISTING, lambda conn: unlisting.unlist(conn, UNLIST_BATCH))
    await in_batches(rt, batch, size=UNLIST_BATCH, secs=UNLIST_SECS)


JOBS = (Job("revocation.unlist", UNLIST_SECS, unlist),)
# Each process writes down what its own clients have shown.
OWN_JOBS = (Job("revocation.holders", FLUSH_SECS, flush_holders),)
