"""LISTEN on a connection of its own, and ring a bell at each NOTIFY of another session.

The bell only makes things quick: its users also look for news themselves, every second.
"""

import asyncio
import random
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from logging import DEBUG, WARNING

import structlog

from aitp_cp.db.connect import connect, ending
from aitp_cp.db.failures import reason

log = structlog.get_logger("aitp_cp.db.listener")

# A connection whose other end has vanished looks idle for ever, so it is probed this often. Both together bound how
# long after a failover the connections to the former primary are kept.
PROBE_SECS = 1.0
PROBE_TIMEOUT_SECS = 2.0
STARTED_AT = "SELECT pg_postmaster_start_time()"  # tells two servers apart
BACKOFF_SECS = (0.25, 0.5, 1.0, 2.0, 5.0)


class Listener:
    """Rings at every notification of a channel, and after each connect, because some may have been missed.

    `on_move` is called when it has connected to another server than before, with the `time.monotonic()` before which
    connections of this process may lead to the former one.
    """

    def __init__(
        self,
        dsn: str,
        channel: str,
        ring: Callable[[], None],
        *,
        probe_secs: float = PROBE_SECS,
        on_move: Callable[[float], None] = lambda before: None,
    ) -> None:
        self._dsn = dsn
        self._channel = channel
        self._ring = ring
        self._probe_secs = probe_secs
        self._on_move = on_move
        self._server: datetime | None = None
        self._others: list[tuple[str, Callable[[str], None]]] = []
        self._task: asyncio.Task[None] | None = None
        self._lost = asyncio.Event()
        self.connected = False

    def listen(self, channel: str, callback: Callable[[str], None]) -> None:
        """Call with the payload of each notification of another channel; to be called before `start`."""
        self._others.append((channel, callback))

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="db-listener")

    def renew(self) -> None:
        """Reconnect: the name may lead to another server now."""
        self._lost.set()

    async def stop(self) -> None:
        """Stop at once, whatever state the connection is in."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        structlog.contextvars.clear_contextvars()
        failures = 0
        while True:
            try:
                await self._listen()
            except Exception as failure:  # a new connection helps against all of them
                log.log(DEBUG if failures else WARNING, "notifications_lost", reason=reason(failure))
            failures = 0 if self.connected else failures + 1
            self.connected = False
            pause = BACKOFF_SECS[min(failures, len(BACKOFF_SECS) - 1)]
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - spreads load, guards nothing

    async def _listen(self) -> None:
        """Serve until the connection is lost."""
        began = time.monotonic()
        with ending(await connect(self._dsn, command_timeout=PROBE_TIMEOUT_SECS)) as conn:
            lost = self._lost = asyncio.Event()
            conn.add_termination_listener(lambda _: lost.set())
            server: datetime = await conn.fetchval(STARTED_AT)
            await conn.add_listener(self._channel, lambda *_: self._ring())
            for channel, callback in self._others:
                await conn.add_listener(channel, lambda *args, callback=callback: callback(args[-1]))
            moved = self._server not in {None, server}
            self._server = server
            if moved:
                self._on_move(began)
            self.connected = True
            self._ring()
            while not lost.is_set():
                with suppress(TimeoutError):
                    await asyncio.wait_for(lost.wait(), self._probe_secs)
                    return
                await conn.execute("SELECT 1")
