"""The tail: the one reader of the log in each process, and the only publisher."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Protocol

import structlog

from aitp_cp.db import urgent
from aitp_cp.db.listener import Listener
from aitp_cp.errors import RETRIABLE
from aitp_cp.events import reader, store
from aitp_cp.events.model import Event, HistoryFilter, LogPage, LogSpan
from aitp_cp.events.ring import Frame, Ring, frame
from aitp_cp.runtime import Runtime

log = structlog.get_logger("aitp_cp.events")

CHANNEL = "aitp_cp_log"
POLL_SECS = 1.0
READ_TIMEOUT_SECS = 10.0
GIVE_WAY_SECS = 0.5
STOP_TIMEOUT_SECS = 2.0
PAGE_ROWS = 500
PAGE_BYTES = 1024 * 1024
# A burst that a healthy reader needs a moment for must fit into memory, whatever MAX_AUDIT_EVENTS_MEMORY says.
WINDOW_EVENTS = 4096
WINDOW_BYTES = 16 * 1024 * 1024
MAX_SEQ = 2**63 - 1

EVERYTHING = HistoryFilter()

Callback = Callable[[Sequence[Event]], None]


class Follower(Protocol):
    """Told of every page; must neither wait nor fail."""

    @property
    def running(self) -> bool:
        """Whether it is still busy with what was published, and waits for nobody."""

    def published(self, frames: Sequence[Frame]) -> None: ...


class Tail:
    """Reads what comes after its position when the bell rings, or at least every second, and publishes it once.

    `last` is that position: everything up to it has been published, in order. It survives a database that is away.
    """

    def __init__(self, rt: Runtime) -> None:
        self.ring = Ring(rt.settings.max_audit_events_memory, window=WINDOW_EVENTS, max_bytes=WINDOW_BYTES)
        self.last = 0
        self.begun_at = 0  # what lies up to here was there before this process
        self._rt = rt
        self._bell = asyncio.Event()
        self._listener = Listener(rt.db.dsn, CHANNEL, self._bell.set)
        self._callbacks: list[Callback] = []
        self._followers: set[Follower] = set()
        self._task: asyncio.Task[None] | None = None
        self._rows = PAGE_ROWS
        self._failing = False
        self._read_to_end = 0.0

    def behind(self) -> float:
        """Seconds since the log had last been read to its end."""
        return asyncio.get_running_loop().time() - self._read_to_end

    def on_events(self, callback: Callback) -> None:
        """Call with each page of new events before any stream sees it; not with those that memory is filled with."""
        self._callbacks.append(callback)

    def follow(self, follower: Follower) -> None:
        self._followers.add(follower)

    def unfollow(self, follower: Follower) -> None:
        self._followers.discard(follower)

    async def start(self) -> None:
        """Fill the ring from the table, then follow the log; raises `DatabaseUnavailable`."""
        async with self._rt.db.connection() as conn:
            self.last = await store.before_newest(conn, self._rt.settings.max_audit_events_memory)
        self.ring.begin(self.last)
        more = True
        while more:
            page = await self._read()
            self._keep(page)
            more = page.more
        self.begun_at = self.last
        self._read_to_end = asyncio.get_running_loop().time()
        self._listener.start()
        with urgent():  # revoked keys and the signed list wait for what it reads
            self._task = asyncio.create_task(self._run(), name="tail")

    async def stop(self) -> None:
        """End at once; nothing is lost, for the position is only in memory."""
        await self._listener.stop()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task], timeout=STOP_TIMEOUT_SECS)

    async def _run(self) -> None:
        structlog.contextvars.clear_contextvars()
        while True:
            self._bell.clear()
            more = await self.step()
            await self._give_way()
            if not more:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._bell.wait(), POLL_SECS)

    async def step(self) -> bool:
        """Read and publish one page; whether more is waiting already."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        more = False
        try:
            async with asyncio.timeout(READ_TIMEOUT_SECS):
                page = await self._read()
            self._publish(page)
            more = page.more
            self._read_to_end = self._read_to_end if more else started
            self._report(failing=False)
        except (*RETRIABLE, TimeoutError):
            self._report(failing=True)
            if loop.time() - started > READ_TIMEOUT_SECS:
                await self._rt.db.renew()
        except Exception:
            log.exception("the log cannot be followed")
        self._rt.metrics.tail_lag.set(loop.time() - self._read_to_end)
        return more

    async def _give_way(self) -> None:
        """Let followers send what they have: publishing faster than they can would push it out of memory."""
        loop = asyncio.get_running_loop()
        until = loop.time() + GIVE_WAY_SECS
        while any(follower.running for follower in self._followers):
            await asyncio.sleep(0)
            if loop.time() > until:
                return

    async def _read(self) -> LogPage:
        page = await reader.read(self._rt.db, EVERYTHING, LogSpan(self.last, MAX_SEQ, self._rows, PAGE_BYTES))
        self._rows = rows_next(page, PAGE_ROWS)
        return page

    def _keep(self, page: LogPage) -> list[Frame]:
        frames = [frame(event) for event in page.events]
        self.last = page.last
        self._rt.metrics.backlog_dropped.inc(self.ring.append(frames))
        self._rt.metrics.tail_skipped.inc(page.skipped)
        return frames

    def _publish(self, page: LogPage) -> None:
        frames = self._keep(page)
        if not frames:
            return
        for callback in self._callbacks:
            try:
                callback(page.events)
            except Exception:
                log.exception("a follower of the log failed")
        for follower in tuple(self._followers):
            follower.published(frames)

    def _report(self, *, failing: bool) -> None:
        if failing != self._failing:
            self._failing = failing
            log.warning("the log cannot be read for now" if failing else "the log is being read again", seq=self.last)


def rows_next(page: LogPage, most: int) -> int:
    """How many rows to ask for after this page: not many more than fit, for the database measures all of them."""
    return min(most, 2 * len(page.events) + 8) if page.more else most
