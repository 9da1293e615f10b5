"""The tail: the one reader of the log in each process, and the only publisher."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Protocol
from uuid import UUID

import structlog

from aitp_cp.db import numbering, urgent
from aitp_cp.db.failures import reason
from aitp_cp.db.listener import Listener
from aitp_cp.errors import RETRIABLE, DatabaseUnavailable
from aitp_cp.events import store
from aitp_cp.events.model import MAX_SEQ, Event, HistoryFilter, LogPage, LogSpan
from aitp_cp.events.ring import Frame, Ring, frame_of
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

EVERYTHING = HistoryFilter()

Callback = Callable[[Sequence[Event]], None]


class Follower(Protocol):
    """Receives every page; must neither wait nor fail."""

    @property
    def running(self) -> bool:
        """Whether it still works on what was published, and waits for nobody."""

    def published(self, frames: Sequence[Frame]) -> None: ...


class Tail:
    """Reads what comes after its position when the bell rings, or at least every second, and publishes it once.

    `last` is that position: everything up to it has been published, in order. It survives a database that is away.
    """

    def __init__(self, rt: Runtime) -> None:
        self.ring = Ring(rt.settings.max_audit_events_memory, window=WINDOW_EVENTS, max_bytes=WINDOW_BYTES)
        self.last = 0
        self.begun_at = 0  # events up to this position were there before this process
        self._rt = rt
        self._bell = asyncio.Event()
        self._listener = Listener(rt.db.dsn, CHANNEL, self._bell.set, on_move=rt.db.leave)
        self._anchor: UUID | None = None  # the id of the event at `last`
        self._replaced = self._taken = False
        self._callbacks: list[Callback] = []
        self._reset_callbacks: list[Callable[[], None]] = []
        self._followers: set[Follower] = set()
        self._task: asyncio.Task[None] | None = None
        self._rows = PAGE_ROWS
        self._failing = False
        self._read_to_end = 0.0

    def behind(self) -> float:
        """Return the seconds since the log was last read to its end."""
        return asyncio.get_running_loop().time() - self._read_to_end

    def on_events(self, callback: Callback) -> None:
        """Call with each page of new events before any stream sees it; not with those that fill memory at the start."""
        self._callbacks.append(callback)

    def on_reset(self, callback: Callable[[], None]) -> None:
        """Call when the log was replaced, as by a restore: what was read from it before may be wrong."""
        self._reset_callbacks.append(callback)

    def on_notice(self, channel: str, callback: Callable[[str], None]) -> None:
        """Call with what other sessions NOTIFY on this channel, which may get lost; to be called before `start`."""
        self._listener.listen(channel, callback)

    def follow(self, follower: Follower) -> None:
        self._followers.add(follower)

    def unfollow(self, follower: Follower) -> None:
        self._followers.discard(follower)

    async def start(self) -> None:
        """Fill the ring from the table, then follow the log; raises `DatabaseUnavailable`."""
        await self._fill()
        self.begun_at = self.last
        self._read_to_end = asyncio.get_running_loop().time()
        self._rt.db.on_renew(self._listener.renew)
        self._rt.db.on_taken_position(self._position_was_taken)
        self._listener.start()
        with urgent():  # revoked keys and the signed list wait for what it reads
            self._task = asyncio.create_task(self._run(), name="tail")

    async def _fill(self) -> None:
        """Take the newest events into memory, in one step once all are read; raises `DatabaseUnavailable`."""
        async with self._rt.db.connection() as conn:
            begin = await store.before_newest(conn, self._rt.settings.max_audit_events_memory)
        pages = [await self._read(begin)]
        while pages[-1].more:
            pages.append(await self._read(pages[-1].last))
        self.ring.begin(begin)
        for page in pages:
            self._keep(page)

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
        """Read and publish one page; returns whether there is more."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        more = False
        try:
            async with asyncio.timeout(READ_TIMEOUT_SECS):
                if self._taken:
                    self._taken = False
                    await self._repair_sequence()
                more = await self._advance()
            self._read_to_end = self._read_to_end if more else started
            self._report(None)
        except (*RETRIABLE, TimeoutError) as failure:
            self._report(failure)
            if loop.time() - started > READ_TIMEOUT_SECS:
                await self._rt.db.renew()
        except Exception:
            log.exception("log_tail_failed")
        self._rt.metrics.tail_lag.set(loop.time() - self._read_to_end)
        return more

    async def _advance(self) -> bool:
        """Publish the next page, or restart in a log that was replaced; returns whether there is more."""
        page = await self._read(self.last)
        gone = page.anchor is None and page.deleted_through >= self.last  # retention took the event at `last`
        if self._anchor is not None and page.anchor != self._anchor and not gone:
            if not await self._rt.db.takes_writes():  # a standby that lags: it comes after, or becomes the log
                raise DatabaseUnavailable
            self._replaced = True
        if self._replaced:
            await self._start_anew()
            return True
        self._publish(page)
        return page.more

    async def _start_anew(self) -> None:
        """The event at `last` is another one or gone, as after a restore or a failover to a standby that lagged."""
        was = self.last
        await self._repair_sequence()
        await self._fill()
        self._replaced = False
        self._rt.metrics.tail_resets.inc()
        log.warning("log_replaced", position=was, log_end=self.last)
        for callback in self._reset_callbacks:
            try:
                callback()
            except Exception:
                log.exception("log_follower_failed")

    def _position_was_taken(self) -> None:
        """Note that the sequence gave a position that an event has, as after a restore of single tables."""
        self._taken = True
        self._bell.set()

    async def _repair_sequence(self) -> None:
        try:
            async with self._rt.db.connection() as conn:
                repaired = await numbering.repair(conn)
        except numbering.RepairRefused:
            log.error("log_sequence_behind", remedy="run `aitp-cp migrate` as the owner of audit_events_seq")
            return
        if repaired:
            log.warning("log_sequence_repaired", next=repaired.next, log_end=repaired.log_end)

    async def _give_way(self) -> None:
        """Let followers send first: publishing faster than they do would push frames out of memory."""
        loop = asyncio.get_running_loop()
        until = loop.time() + GIVE_WAY_SECS
        while any(follower.running for follower in self._followers):
            await asyncio.sleep(0)
            if loop.time() > until:
                return

    async def _read(self, after: int) -> LogPage:
        async with self._rt.db.connection() as conn:
            page = await store.read_log(conn, EVERYTHING, LogSpan(after, MAX_SEQ, self._rows, PAGE_BYTES))
        self._rows = rows_next(page, PAGE_ROWS)
        return page

    def _keep(self, page: LogPage) -> list[Frame]:
        frames = [frame_of(event) for event in page.events]
        self.last = page.last
        if page.events:
            self._anchor = page.events[-1].id
        self._rt.metrics.backlog_dropped.inc(self.ring.append(frames))
        return frames

    def _publish(self, page: LogPage) -> None:
        frames = self._keep(page)
        if not frames:
            return
        for callback in self._callbacks:
            try:
                callback(page.events)
            except Exception:
                log.exception("log_follower_failed")
        for follower in tuple(self._followers):
            follower.published(frames)

    def _report(self, failure: Exception | None) -> None:
        if (failing := failure is not None) == self._failing:
            return
        self._failing = failing
        if failing:
            log.warning("log_unreadable", seq=self.last, reason=reason(failure))
        else:
            log.warning("log_readable_again", seq=self.last)


def rows_next(page: LogPage, most: int) -> int:
    """Return the next page's rows: not many more than fit, because the database measures all of them."""
    return min(most, 2 * len(page.events) + 8) if page.more else most
