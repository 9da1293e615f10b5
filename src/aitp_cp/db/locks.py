"""Transaction-scoped advisory locks: gone with the transaction, so nothing can stay stuck."""

import hashlib

from aitp_cp.db.pool import Connection


def lock_key(name: str) -> int:
    """A stable signed 64-bit key for a name."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big", signed=True)


async def try_lock(conn: Connection, key: int) -> bool:
    """Take the lock for the rest of the transaction, or say at once that someone else holds it."""
    return bool(await conn.fetchval("SELECT pg_try_advisory_xact_lock($1)", key))
