"""How many lists, exports and dashboards one caller reads at once."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from prometheus_client import Gauge

from aitp_cp.errors import RateLimited

BUCKET = "caller-reads"
MAX_READS = 8  # at once; a page takes milliseconds, so this is hundreds a second
MAX_WAIT_SECS = 1.0  # a burst of short reads passes, a caller of long ones gets 429


@dataclass(slots=True)
class _Caller:
    slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(MAX_READS))
    requests: int = 0  # running and waiting


class CallerReads:
    """The reads that run now, by caller; a caller without any takes no memory."""

    def __init__(self, drops: Gauge) -> None:
        self._refused = drops.labels(bucket=BUCKET)
        self._callers: dict[str, _Caller] = {}

    @asynccontextmanager
    async def slot(self, name: str) -> AsyncIterator[None]:
        """Hold one of the caller's slots for the length of the block; raises `RateLimited` after `MAX_WAIT_SECS`."""
        caller = self._callers.setdefault(name, _Caller())
        caller.requests += 1
        try:
            await self._acquire(caller)
            try:
                yield
            finally:
                caller.slots.release()
        finally:
            caller.requests -= 1
            if not caller.requests:
                del self._callers[name]

    async def _acquire(self, caller: _Caller) -> None:
        try:
            async with asyncio.timeout(MAX_WAIT_SECS):
                await caller.slots.acquire()
        except TimeoutError:
            self._refused.inc()
            raise RateLimited(
                f"{MAX_READS} reads of this caller are running", extra={"bucket": BUCKET}, headers=_headers()
            ) from None


def _headers() -> dict[str, str]:
    return {
        "Retry-After": "1",
        "X-RateLimit-Limit": str(MAX_READS),
        "X-RateLimit-Remaining": "0",
        "X-RateLimit-Reset": str(int(time.time()) + 1),
    }
