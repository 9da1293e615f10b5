"""Wait for what a process or a task brings about."""

import asyncio
import inspect
import time
from collections.abc import Callable
from typing import Any

PATIENCE_SECS = 20
PAUSE_SECS = 0.01


def eventually(is_so: Callable[[], Any]) -> Any:
    """Return what `is_so` returns, once that is true."""
    deadline = time.monotonic() + PATIENCE_SECS
    while not (found := is_so()):
        assert time.monotonic() < deadline
        time.sleep(PAUSE_SECS)
    return found


async def until(condition: Callable[[], Any], timeout: float = PATIENCE_SECS) -> Any:
    """Return what `condition` returns, awaited if need be, once that is true; raises `TimeoutError`."""
    async with asyncio.timeout(timeout):
        while True:
            found = condition()
            if inspect.isawaitable(found):
                found = await found
            if found:
                return found
            await asyncio.sleep(PAUSE_SECS)
