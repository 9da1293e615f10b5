"""One database probe shared by everyone who asks within a second (contract, section 6)."""

import asyncio
import time

from aitp_cp.db.migrations import classify
from aitp_cp.db.schema import current_revision
from aitp_cp.errors import DatabaseUnavailable
from aitp_cp.runtime import Runtime

PING_BUDGET_SECS = 2.0
SHARED_FOR_SECS = 1.0


class DatabaseProbe:
    """The latest ping, at most one a second; concurrent probes wait for the same one."""

    def __init__(self, rt: Runtime) -> None:
        self._rt = rt
        self._lock = asyncio.Lock()
        self._asked_at = float("-inf")
        self._up = False
        self._at_head = False
        self._pinging: asyncio.Task[bool] | None = None

    @property
    def recent(self) -> bool:
        """Whether the last answer may still be given."""
        return time.monotonic() - self._asked_at < SHARED_FOR_SECS

    async def up(self) -> bool:
        """Whether the database answered within the last second, or answers within two now."""
        if not self.recent:
            async with self._lock:
                if not self.recent:
                    self._up = await self._ping()
                    self._asked_at = time.monotonic()
                    self._rt.metrics.db_up.set(self._up)
        return self._up

    def seen_up(self) -> bool:
        """The same without waiting: whether it is known to have answered within the last second."""
        return self._up and self.recent

    async def at_head(self) -> bool:
        """Whether the schema is the one this version expects; asked again only while it is not."""
        if not self._at_head:
            async with self._rt.db.connection() as conn:
                self._at_head = classify(await current_revision(conn)) == "head"
        return self._at_head

    async def _ping(self) -> bool:
        """Gives up after the budget even where the driver does not: it asks a silent server to cancel, and waits."""
        if self._pinging is None or self._pinging.done():
            self._pinging = asyncio.create_task(self._rt.db.ping(PING_BUDGET_SECS))
        answered, _ = await asyncio.wait({self._pinging}, timeout=PING_BUDGET_SECS)
        return bool(answered) and self._pinging.result()


async def readiness(rt: Runtime) -> str | None:
    """Why this process should get no traffic, or None."""
    if rt.draining:
        return "shutting_down"
    probe = rt.get(DatabaseProbe)
    if not await probe.up():
        return "database_unavailable"
    try:
        return None if await probe.at_head() else "migrations_pending"
    except DatabaseUnavailable:
        return "database_unavailable"
