"""One database probe a second, shared by all callers (contract, section 6)."""

import asyncio
import time

from aitp_cp.db import WRITABLE, urgent
from aitp_cp.db.migrations import State, classify
from aitp_cp.db.schema import current_revision
from aitp_cp.errors import RETRIABLE
from aitp_cp.runtime import Runtime

PING_BUDGET_SECS = 2.0
SHARED_FOR_SECS = 1.0


class DatabaseProbe:
    """The latest ping, at most one a second; concurrent probes wait for the same one."""

    def __init__(self, rt: Runtime) -> None:
        self._rt = rt
        self._lock = asyncio.Lock()
        self._pinged_at = float("-inf")
        self._schema: State | None = None
        self._pinging: asyncio.Task[State | None] | None = None

    @property
    def recent(self) -> bool:
        """Whether the last result still counts."""
        return time.monotonic() - self._pinged_at < SHARED_FOR_SECS

    async def up(self) -> bool:
        """Return whether the database takes writes: it answered within the last second, or does so within two."""
        return await self.schema() is not None

    async def schema(self) -> State | None:
        """Compare the schema with this version's, by the same ping; None while the database is down or read-only."""
        if not self.recent:
            async with self._lock:
                if not self.recent:
                    self._schema = await self._ping()
                    self._pinged_at = time.monotonic()
                    self._rt.metrics.db_up.set(self._schema is not None)
        return self._schema

    async def _ping(self) -> State | None:
        """Stop waiting after the budget, even while the driver waits for a silent server to cancel."""
        if self._pinging is None or self._pinging.done():
            self._pinging = asyncio.create_task(self._ask())
        answered, _ = await asyncio.wait({self._pinging}, timeout=PING_BUDGET_SECS)
        return self._pinging.result() if answered else None

    async def _ask(self) -> State | None:
        try:
            with urgent():
                async with asyncio.timeout(PING_BUDGET_SECS), self._rt.db.connection() as conn:
                    writable = await conn.fetchval(WRITABLE)
                    state = classify(await current_revision(conn))
            if writable:
                return state
            await self._rt.db.renew_read_only()
            return None
        except (*RETRIABLE, TimeoutError):
            return None


async def readiness(rt: Runtime) -> str | None:
    """Return why this process should get no traffic, or None.

    A schema that is ahead is no reason: the old replicas of a rolling deployment go on serving.
    """
    if rt.draining:
        return "shutting_down"
    schema = await rt.get(DatabaseProbe).schema()
    if schema is None:
        return "database_unavailable"
    return "migrations_pending" if schema == "behind" else None
