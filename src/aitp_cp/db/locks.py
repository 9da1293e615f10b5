"""Transaction-scoped advisory locks: gone with the transaction, so nothing can stay stuck."""

import hashlib

import asyncpg

from aitp_cp.db.pool import Connection


def lock_key(name: str) -> int:
    """A stable signed 64-bit key for a name."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big", signed=True)


async def lock(conn: Connection, key: int) -> None:
    """Wait for the lock and hold it for the rest of the transaction."""
    await conn.execute("SELECT pg_advisory_xact_lock($1)", key)


async def try_lock(conn: Connection, key: int) -> bool:
    """Take the lock for the rest of the transaction, or say at once that someone else holds it."""
    return bool(await conn.fetchval("SELECT pg_try_advisory_xact_lock($1)", key))


async def lock_within(conn: Connection, key: int, secs: float) -> bool:
    """Take the lock for the rest of the transaction; False when others hold it for longer than `secs`."""
    usual = await conn.fetchval("SELECT current_setting('lock_timeout')")
    try:
        async with conn.transaction():
            await conn.fetchval("SELECT set_config('lock_timeout', $1, true)", f"{round(secs * 1000)}ms")
            await conn.execute("SELECT pg_advisory_xact_lock($1)", key)
            await conn.fetchval("SELECT set_config('lock_timeout', $1, true)", usual)
    except asyncpg.LockNotAvailableError:
        return False
    return True
