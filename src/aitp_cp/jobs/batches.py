"""Work in bounded transactions, shared by replicas."""

import time
from collections.abc import Awaitable, Callable

from aitp_cp.db import Connection
from aitp_cp.db.locks import Lock, try_lock
from aitp_cp.runtime import Runtime

# One transaction's share of a job; returns the number of rows it handled.
Batch = Callable[[Connection], Awaitable[int]]


def single_flight(lock: Lock, batch: Batch) -> Batch:
    """Let one process at a time run the batch, under an advisory lock; elsewhere it handles 0 rows at once."""

    async def guarded(conn: Connection) -> int:
        return await batch(conn) if await try_lock(conn, lock) else 0

    return guarded


async def in_batches(rt: Runtime, batch: Batch, *, size: int, secs: float) -> None:
    """Run a batch in one transaction after another until it handles fewer than `size` rows or the time is up."""
    ends_at = time.monotonic() + secs
    rows = size
    while rows >= size and time.monotonic() < ends_at:
        async with rt.db.transaction() as conn:
            rows = await batch(conn)
