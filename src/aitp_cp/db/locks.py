"""Every advisory lock of the control plane, and the order in which a transaction takes them.

A transaction that needs several takes them by rank, rows between the graph and the log:

    single-flight jobs ─> idempotency keys ─> webhook creation ─> agents in key order ─> graph ─> rows in key order
    ─> log ─> inserts only

Taking a lower rank while holding a higher one deadlocks under load. Locks that are only tried never wait. All but the
migration's end with their transaction, so nothing can stay stuck. Keys never change: replicas of the previous version
use them too.
"""

import hashlib
from collections.abc import Collection, Sequence
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
# … settling what a revocation left over, …
SETTLING = Lock(1, _key("tcts.settle"))
# … revoking what a containment left over, …
CONTAINING = Lock(1, _key("containment.settle"))
# … and taking entries off the signed list that nobody needs any more.
UNLISTING = Lock(1, _key("revocation.unlist"))
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


_LOCK = "SELECT pg_advisory_xact_lock{shared}($1)"
# The subquery keeps the order of the keys, so that each result belongs to its key.
_TRY_ALL = """
SELECT pg_try_advisory_xact_lock(key) AS taken
FROM (SELECT key FROM unnest($1::bigint[]) WITH ORDINALITY AS request (key, place) ORDER BY place) AS ordered
"""


# Agents are locked by a part of their hash: many agents in one transaction must not fill the server's table of locks.
AGENT_LOCKS = 4096
_AGENT_KEY = f"hashtextextended(aid, 21) & {AGENT_LOCKS - 1} | (21::bigint << 32)"
_LOCK_AGENT = f"SELECT pg_advisory_xact_lock{{shared}}({_AGENT_KEY}) FROM (SELECT $1::text AS aid) AS named"
# One statement: the graph's lock is waited for only when every agent's is taken.
_SHARE_AGENTS_AND = f"""
WITH tried AS MATERIALIZED (
    SELECT aids, pg_try_advisory_xact_lock_shared(key) AS taken
    FROM (
        SELECT {_AGENT_KEY} AS key, array_agg(aid) AS aids FROM unnest($1::text[]) AS named (aid) GROUP BY 1 ORDER BY 1
    ) AS ordered
)
SELECT ARRAY(SELECT unnest(aids) FROM tried WHERE NOT taken) AS busy,
       CASE WHEN (SELECT coalesce(bool_and(taken), true) FROM tried) THEN pg_advisory_xact_lock{{shared}}($2) END
"""
_SHARE_AGENTS = f"""
SELECT pg_advisory_xact_lock_shared(key)
FROM (SELECT DISTINCT {_AGENT_KEY} AS key FROM unnest($1::text[]) AS named (aid) ORDER BY 1) AS ordered
"""


class AgentsBusy(Exception):
    """Others hold the locks of these agents for too long."""

    def __init__(self, aids: Collection[str]) -> None:
        super().__init__(f"{len(aids)} agents are being contained or released")
        self.aids = frozenset(aids)


async def lock_agent(conn: Connection, aid: str) -> None:
    """Hold an agent's lock to contain or release it: nobody registers it or reports its tokens meanwhile."""
    await conn.execute(_LOCK_AGENT.format(shared=""), aid)


async def share_agent(conn: Connection, aid: str) -> None:
    """Share an agent's lock to register it; waits for a containment to end."""
    await conn.execute(_LOCK_AGENT.format(shared="_shared"), aid)


async def lock_graph(conn: Connection, aids: Collection[str], secs: float, *, shared: bool) -> None:
    """Share the locks of agents whose tokens are written, then take the graph's, or share it.

    Raises `AgentsBusy` when others hold an agent's lock beyond `secs`. A containment that waits goes first, so reports
    cannot keep it waiting.
    """
    mode = "_shared" if shared else ""
    busy = await conn.fetchval(_SHARE_AGENTS_AND.format(shared=mode), list(aids), GRAPH.key)
    if not busy:
        return
    try:
        await _within(conn, secs, _SHARE_AGENTS, busy)
    except asyncpg.LockNotAvailableError:
        raise AgentsBusy(busy) from None
    await conn.execute(_LOCK.format(shared=mode), GRAPH.key)


async def lock(conn: Connection, lock: Lock) -> None:
    """Wait for the lock and hold it for the rest of the transaction."""
    await conn.execute(_LOCK.format(shared=""), lock.key)


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
    try:
        await _within(conn, secs, _LOCK.format(shared=""), lock.key)
    except asyncpg.LockNotAvailableError:
        return False
    return True


async def _within(conn: Connection, secs: float, statement: str, *args: object) -> None:
    """Run a statement that takes locks; raises `asyncpg.LockNotAvailableError` after `secs`."""
    usual = await conn.fetchval("SELECT current_setting('lock_timeout')")
    async with conn.transaction():
        await conn.fetchval("SELECT set_config('lock_timeout', $1, true)", f"{round(secs * 1000)}ms")
        await conn.execute(statement, *args)
        await conn.fetchval("SELECT set_config('lock_timeout', $1, true)", usual)
