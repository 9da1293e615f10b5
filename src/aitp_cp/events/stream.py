"""Streams of the log: what is in memory or in the table after a cursor, then live, without gap or duplicate."""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TypeVar

import structlog

from aitp_cp.db import Connection
from aitp_cp.errors import RETRIABLE, SseCapacity
from aitp_cp.events import cursor as cursors
from aitp_cp.events import store
from aitp_cp.events.model import HistoryFilter, LogSpan
from aitp_cp.events.ring import Frame, frame, passes
from aitp_cp.events.tail import Tail, rows_next
from aitp_cp.runtime import Runtime
from aitp_cp.web.sse import CHUNK_BYTES, HEARTBEAT, OPENING, Produce, Sink

log = structlog.get_logger("aitp_cp.events")

T = TypeVar("T")

CAPACITY_RETRY_SECS = 30
# Streams that catch up share few connections, so that a thousand reconnecting at once leave the pool to others.
READERS = 4
# A page of the table in the hands of a slow client counts against what one stream may hold.
PAGE_ROWS = 64
PAGE_BYTES = 24 * 1024
# With a rare filter a page may find nothing: this many positions at a time keep each statement short.
SPAN = 5000
DATABASE_RETRY_SECS = 1.0
END_GRACE_SECS = 1.0
# A timer may fire a little before its time.
TIMER_SLACK_SECS = 0.002
RECONNECT_MS = (1000, 5000)


class Stream:
    """One client's way through the log. Its queue is the ring: it holds a position there, and no events."""

    def __init__(self, streams: "Streams", wanted: HistoryFilter, cursor: int | None) -> None:
        self._db = streams.db
        self._tail = streams.tail
        self._turn = streams.turn
        self._heartbeat = streams.heartbeat_secs
        self._wanted = wanted
        self._cursor = cursor
        self._at = 0  # in the log: everything up to here is done with
        self._told = 0  # in the log: deletions up to here are known to the client
        self._position = 0  # in the ring: the next frame
        self._rows = PAGE_ROWS
        self._bell: asyncio.Future[None] | None = None
        self._farewell: bytes | None = None
        self._replaced = False  # the log was replaced by another: say so and start anew
        self._sink: Sink | None = None

    async def run(self, sink: Sink) -> None:
        """Write to the client until told to end.

        One that falls behind what memory holds goes on from the table, unless it is its client that takes nothing.
        """
        self._sink = sink
        await sink.write(OPENING)
        await self._begin(sink)
        while self._farewell is None:
            if self._replaced:
                await self._start_anew(sink)
            await self._reach_the_ring(sink)
            self._tail.follow(self)
            try:
                await self._live(sink)
            finally:
                self._tail.unfollow(self)
        await sink.write(self._farewell)

    def end(self, farewell: bytes) -> None:
        """Say this and end, as soon as the client has taken what is on its way."""
        self._farewell = farewell
        _ring(self._bell)

    def start_anew(self) -> None:
        """Send a reset and go on in a log that is not the one before: its positions mean other events."""
        self._replaced = True
        _ring(self._bell)

    def cut(self) -> None:
        """End without another word."""
        if self._sink is not None:
            self._sink.cut()

    @property
    def running(self) -> bool:
        """Whether it has something to send, and a client that takes it."""
        return self._position < self._tail.ring.end and self._sink is not None and not self._sink.sending

    def published(self, frames: Sequence[Frame]) -> None:
        ring = self._tail.ring
        overtaken = self._position < ring.base
        if overtaken and self._sink is not None and self._sink.sending:
            log.info("stream cut: its reader is too slow")
            self.cut()
        elif self._bell is not None and not self._bell.done():
            if overtaken or any(passes(self._wanted, one) for one in frames):
                _ring(self._bell)
            else:
                self._position = ring.end
                self._at = max(self._at, frames[-1].seq)

    async def _begin(self, sink: Sink) -> None:
        """Find what the client has already: without a cursor, all but the newest events in memory."""
        if self._cursor is None:
            self._at = self._tail.ring.before_newest()
        else:
            await self._check(sink, self._cursor)

    async def _reach_the_ring(self, sink: Sink) -> None:
        """Bring the client to where the ring takes over; what is older comes from the table."""
        ring = self._tail.ring
        while (position := ring.position_after(self._at)) is None and not self._interrupted:
            await self._catch_up(sink)
        self._position = ring.end if position is None else position

    @property
    def _interrupted(self) -> bool:
        return self._replaced or self._farewell is not None

    async def _start_anew(self, sink: Sink) -> None:
        self._replaced = False
        self._at = self._tail.ring.before_newest()
        extent = await self._patiently(sink, lambda conn: store.extent(conn, self._at))
        if extent is not None:
            self._told = extent.deleted_through
            await sink.write(cursors.reset_frame("cursor_unknown", extent))

    async def _check(self, sink: Sink, cursor: int) -> None:
        """Say aloud that something after the cursor is gone, or that nothing is known of it."""
        extent = await self._patiently(sink, lambda conn: store.extent(conn, cursor))
        if extent is None:
            return
        verdict = cursors.judge(cursor, extent)
        self._at = cursor
        self._told = extent.deleted_through
        if verdict == "cursor_expired":
            self._at = max(cursor, cursors.oldest(extent) - 1)
        if verdict == "cursor_unknown":
            self._at = self._tail.ring.before_newest()
        if verdict != "known":
            await sink.write(cursors.reset_frame(verdict, extent))

    async def _catch_up(self, sink: Sink) -> None:
        """One page of the table."""
        span = LogSpan(self._at, min(self._at + SPAN, self._tail.last), self._rows, PAGE_BYTES)
        page = await self._patiently(sink, lambda conn: store.read_log(conn, self._wanted, span))
        if page is None:
            return
        if page.deleted_through > max(self._at, self._told):  # retention has overtaken this reader
            await self._check(sink, self._at)
            return
        self._rows = rows_next(page, PAGE_ROWS)
        self._at = page.last if page.more else span.through
        frames = [frame(event).data for event in page.events]
        del page
        await sink.write(*frames)
        await self._breathe(sink)

    async def _patiently(self, sink: Sink, query: Callable[[Connection], Awaitable[T]]) -> T | None:
        """The answer, however long the database is away; None when the stream is to end."""
        while self._farewell is None:
            try:
                async with (
                    asyncio.timeout(max(self._heartbeat, DATABASE_RETRY_SECS)),
                    self._turn,
                    self._db.connection() as conn,
                ):
                    return await query(conn)
            except (*RETRIABLE, TimeoutError):
                await self._breathe(sink)
            await self._rest(min(self._heartbeat, DATABASE_RETRY_SECS))
        return None

    async def _live(self, sink: Sink) -> None:
        while not self._interrupted and self._position >= self._tail.ring.base:
            frames = self._collect()
            if frames:
                await sink.write(*frames)
            else:
                await self._rest(sink.last_write + self._heartbeat - sink.now())
                await self._breathe(sink)

    def _collect(self) -> list[bytes]:
        """The next frames that pass the filter, about a chunk of them."""
        ring, size = self._tail.ring, 0
        frames: list[bytes] = []
        while self._position < ring.end and size < CHUNK_BYTES:
            one = ring.at(self._position)
            self._position += 1
            if one.seq <= self._at:
                continue
            self._at = one.seq
            if passes(self._wanted, one):
                frames.append(one.data)
                size += len(one.data)
        return frames

    async def _breathe(self, sink: Sink) -> None:
        """A heartbeat, when it is time for one."""
        if sink.now() - sink.last_write >= self._heartbeat - TIMER_SLACK_SECS:
            await sink.write(HEARTBEAT)

    async def _rest(self, secs: float) -> None:
        """Wait for the bell, for so long."""
        loop = asyncio.get_running_loop()
        self._bell = loop.create_future()
        timer = loop.call_later(max(0.0, secs), _ring, self._bell)
        try:
            await self._bell
        finally:
            timer.cancel()
            self._bell = None


class Streams:
    """The open streams of this process: their slots, what they share, and their end."""

    def __init__(self, rt: Runtime, tail: Tail, *, spread: Callable[[float, float], float] = random.uniform) -> None:
        self.db = rt.db
        self.tail = tail
        self.turn = asyncio.Semaphore(READERS)
        self.heartbeat_secs = rt.settings.sse_heartbeat_ms / 1000
        self._slots = rt.settings.max_sse_connections
        self._slots_of_caller = rt.settings.streams_per_caller
        self._callers: Counter[str] = Counter()
        self._metrics = rt.metrics
        self._spread = spread
        self._open: set[Stream] = set()
        self._ends_at: float | None = None
        self._empty = asyncio.Event()
        self._empty.set()
        tail.on_reset(self.start_anew)

    @contextmanager
    def opened(self, wanted: HistoryFilter, cursor: int | None, caller: str | None = None) -> Iterator[Produce]:
        """Hold a slot for the length of the block, one of the caller's if it is known; raises `SseCapacity`."""
        with self._slot(caller), self._running(wanted, cursor) as produce:
            yield produce

    @contextmanager
    def _slot(self, caller: str | None) -> Iterator[None]:
        of_caller = caller is not None and self._callers[caller] >= self._slots_of_caller
        if of_caller or len(self._open) >= self._slots:
            self._metrics.sse_rejected.inc()
            message = "this caller has too many open event streams" if of_caller else None
            raise SseCapacity(message, headers={"Retry-After": str(CAPACITY_RETRY_SECS)})
        if caller is None:
            yield
            return
        self._callers[caller] += 1
        try:
            yield
        finally:
            self._callers[caller] -= 1
            if not self._callers[caller]:
                del self._callers[caller]

    @contextmanager
    def _running(self, wanted: HistoryFilter, cursor: int | None) -> Iterator[Produce]:
        stream = Stream(self, wanted, cursor)
        self._open.add(stream)
        self._empty.clear()
        self._metrics.sse_opened.inc()
        self._metrics.sse_open.set(len(self._open))
        if self._ends_at is not None:
            self._end_soon(stream)
        try:
            yield stream.run
        finally:
            self._open.discard(stream)
            self._metrics.sse_open.set(len(self._open))
            if not self._open:
                self._empty.set()

    def start_anew(self) -> None:
        """Called by the tail when the log was replaced: cursors of open streams mean nothing any more."""
        for stream in self._open:
            stream.start_anew()

    async def end(self, window_secs: float) -> None:
        """End every stream at a moment of its own within the window, and those that come meanwhile too.

        Returns after the window; who has not taken its farewell a second later is cut.
        """
        loop = asyncio.get_running_loop()
        self._ends_at = loop.time() + window_secs
        for stream in self._open:
            self._end_soon(stream)
        await asyncio.sleep(window_secs)
        with suppress(TimeoutError):
            await asyncio.wait_for(self._empty.wait(), END_GRACE_SECS)
        for stream in tuple(self._open):
            stream.cut()

    def _end_soon(self, stream: Stream) -> None:
        loop = asyncio.get_running_loop()
        left = max(0.0, (self._ends_at or 0.0) - loop.time())
        farewell = b"retry: %d\n\n" % self._spread(*RECONNECT_MS)
        loop.call_later(self._spread(0.0, left), stream.end, farewell)


async def end_streams(rt: Runtime, window_secs: float) -> None:
    """For the process's drain (contract, section 16); takes the whole window."""
    await rt.get(Streams).end(window_secs)


def _ring(bell: "asyncio.Future[None] | None") -> None:
    if bell is not None and not bell.done():
        bell.set_result(None)
