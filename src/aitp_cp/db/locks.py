"""Every advisory lock of the control plane, and the order in which a transaction takes them.

A transaction that needs several takes them by rank, rows between the graph and the log:

    single-flight jobs ─> idempotency keys ─> webhook creation ─> graph ─> rows in key order ─> log ─> inserts only

Taking a lower rank while holding a higher one deadlocks under load. Locks that are only tried never wait. All but the
migration's end with their transaction, so nothing can stay stuck. Keys never change: replicas of the previous version
use them too.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import asyncpg

from aitp_cp.db.pool import Connection


def _key(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big", signed=True)


@dataclass(frozen=True, slots=True)
class Lock:
    """`rank` says when to take it; locks of one rank are never held together."""

    rank: int
    key: int


# Held by the session that migrates, which takes no other lock meanwhile.
MIGRATION = Lock(0, 4694481020131148802)
# Tried by a job, so that one replica does it: the retention sweep, …
RETENTION = Lock(1, 4694481020131148800)
# … folding the dashboard's changes into its counts, …
FOLDING = Lock(1, _key("dashboard.fold"))
# … giving positions to events that an older control plane wrote, …
ADOPTION = Lock(1, _key("events.adopt"))
# … and settling what a revocation left over.
SETTLING = Lock(1, _key("tcts.settle"))
# Held while a webhook is created, so that their number stays within WEBHOOKS_MAX.
WEBHOOK_CREATION = Lock(3, _key("webhooks.create"))
# Held by writers of delegations and revocations, shared by writers of tokens: of two transactions of which one adds a
# child while the other revokes its parent, the second sees what the first did.
GRAPH = Lock(4, _key("revocation graph"))
# Held to commit by every transaction that gives out log positions: the order of `seq` is the order of commits.
LOG = Lock(5, 4694481020131148801)


def idempotency(scope: str, key: str) -> Lock:
    """Tried by a request with an Idempotency-Key: a second one with the same key is refused while the first runs."""
    return Lock(2, _key(f"{scope}\n{key}"))


# The subquery keeps the order of the keys, so that each answer belongs to its key.
_TRY_ALL = """
SELECT pg_try_advisory_xact_lock(key) AS taken
FROM (SELECT key FROM unnest($1::bigint[]) WITH ORDINALITY AS request (key, place) ORDER BY place) AS ordered
"""


async def lock(conn: Connection, lock: Lock) -> None:
    """Wait for the lock and hold it for the rest of the transaction."""
    await conn.execute("SELECT pg_advisory_xact_lock($1)", lock.key)


async def lock_shared(conn: Connection, lock: Lock) -> None:
    """Share the lock with others that share it, for the rest of the transaction."""
    await conn.execute("SELECT pg_advisory_xact_lock_shared($1)", lock.key)


async def try_lock(conn: Connection, lock: Lock) -> bool:
    """Take the lock for the rest of the transaction, or return False at once when another session holds it."""
    return bool(await conn.fetchval("SELECT pg_try_advisory_xact_lock($1)", lock.key))


async def try_locks(conn: Connection, locks: Sequence[Lock]) -> list[bool]:
    """Try each lock, in one statement; returns which were taken, in the order of `locks`."""
    return [row["taken"] for row in await conn.fetch(_TRY_ALL, [lock.key for lock in locks])]


async def lock_within(conn: Connection, lock: Lock, secs: float) -> bool:
    """Take the lock for the rest of the transaction; False when others hold it for longer than `secs`."""
    if await try_lock(conn, lock):
        return True
    usual = await conn.fetchval("SELECT current_setting('lock_timeout')")
    try:
        async with conn.transaction():
            await conn.fetchval("SELECT set_config('lock_timeout', $1, true)", f"{round(secs * 1000)}ms")
            await conn.execute("SELECT pg_advisory_xact_lock($1)", lock.key)
            await conn.fetchval("SELECT set_config('lock_timeout', $1, true)", usual)
    except asyncpg.LockNotAvailableError:
        return False
    return True
