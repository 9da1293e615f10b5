"""Wakes a coroutine of another thread's loop."""

import asyncio
from contextlib import suppress


class Bell:
    """For one waiting coroutine. Ringing costs next to nothing while it does not wait."""

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None  # set while the coroutine waits

    def ring(self) -> None:
        """Call this after the change that it announces."""
        loop = self._loop
        if loop is not None:
            self._loop = None
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(self._event.set)

    async def wait(self, secs: float | None = None) -> None:
        """Return when it rings, or after `secs`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(secs):  # unlike `wait_for` it never swallows a cancellation
                await self._event.wait()

    def listen(self) -> None:
        """From now on ringing counts: look for changes after this, then wait."""
        self._event.clear()
        self._loop = asyncio.get_running_loop()
