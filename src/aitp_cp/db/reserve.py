"""Keep a quarter of the connections for urgent work: revocation, health, keys, the log."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar

_URGENT: ContextVar[bool] = ContextVar("aitp_cp_urgent", default=False)


@contextmanager
def urgent() -> Iterator[None]:
    """Let the block, and tasks that it starts, use the reserved connections."""
    token = _URGENT.set(True)
    try:
        yield
    finally:
        _URGENT.reset(token)


class Reserve:
    """Limits ordinary work to three quarters of a pool; a pool of less than four connections has no reserve."""

    def __init__(self, pool_size: int, timeout_secs: float) -> None:
        self._ordinary = asyncio.Semaphore(pool_size - pool_size // 4)
        self._timeout_secs = timeout_secs

    @asynccontextmanager
    async def admitted(self) -> AsyncIterator[None]:
        """Wait for a connection that ordinary work may use; raises `TimeoutError`. Urgent work does not wait."""
        if _URGENT.get():
            yield
            return
        async with asyncio.timeout(self._timeout_secs):
            await self._ordinary.acquire()
        try:
            yield
        finally:
            self._ordinary.release()
