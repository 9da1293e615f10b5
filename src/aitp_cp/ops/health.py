"""One database probe shared by everyone who asks within a second (contract, section 6)."""

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
        self._asked_at = float("-inf")
        self._schema: State | None = None
        self._pinging: asyncio.Task[State | None] | None = None

    @property
    def recent(self) -> bool:
        """Whether the last answer may still be given."""
        return time.monotonic() - self._asked_at < SHARED_FOR_SECS

    async def up(self) -> bool:
        """Whether the database answered within the last second, or answers within two now, and takes writes."""
        return await self.schema() is not None

    async def schema(self) -> State | None:
        """Where the schema stands against this version's, by the same ping; None while it is down or read-only."""
        if not self.recent:
            async with self._lock:
                if not self.recent:
                    self._schema = await self._ping()
                    self._asked_at = time.monotonic()
                    self._rt.metrics.db_up.set(self._schema is not None)
        return self._schema

    def seen_up(self) -> bool:
        """The same without waiting: whether it is known to have answered within the last second."""
        return self._schema is not None and self.recent

    async def _ping(self) -> State | None:
        """Gives up after the budget even where the driver does not: it asks a silent server to cancel, and waits."""
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
    """Why this process should get no traffic, or None.

    A schema that is ahead is no reason: the old replicas of a rolling deployment serve on.
    """
    if rt.draining:
        return "shutting_down"
    schema = await rt.get(DatabaseProbe).schema()
    if schema is None:
        return "database_unavailable"
    return "migrations_pending" if schema == "behind" else None
