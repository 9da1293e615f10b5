"""Streams of the log: what follows a cursor, from memory or the table, then live, without gap or duplicate."""

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
from aitp_cp.events.ring import Frame, frame_of, passes
from aitp_cp.events.tail import Tail, rows_next
from aitp_cp.runtime import Runtime
from aitp_cp.web.sse import CHUNK_BYTES, HEARTBEAT, OPENING, Produce, Sink

log = structlog.get_logger("aitp_cp.events")

T = TypeVar("T")

CAPACITY_RETRY_SECS = 30
# Streams that catch up share few connections, so that a thousand reconnecting at once leave the pool to others.
READERS = 4
# A page of the table that a slow client has not read yet is memory of this stream.
PAGE_ROWS = 64
PAGE_BYTES = 24 * 1024
SPAN = 5000  # positions read by one statement: with a rare filter it may find nothing in them
DATABASE_RETRY_SECS = 1.0
END_GRACE_SECS = 1.0
CHECK_SECS = 0.5  # how late a stream may notice that its credential has expired
TIMER_SLACK_SECS = 0.002  # a timer may fire this much early
RECONNECT_MS = (1000, 5000)


class Stream:
    """The stream of one client. Its queue is the ring: it holds a position there, and no events."""

    def __init__(
        self, streams: "Streams", filter: HistoryFilter, cursor: int | None, is_valid: Callable[[], bool]
    ) -> None:
        self.is_valid = is_valid
        self._db = streams.db
        self._tail = streams.tail
        self._turn = streams.turn
        self._heartbeat = streams.heartbeat_secs
        self._filter = filter
        self._cursor = cursor
        self._seq = 0  # the last position of the log that was sent or filtered out
        self._reset_through = 0  # the client knows of deletions up to this position of the log
        self._position = 0  # the next frame in the ring
        self._rows = PAGE_ROWS
        self._bell: asyncio.Future[None] | None = None
        self._farewell: bytes | None = None
        self._replaced = False  # the log was replaced by another: send a reset and restart
        self._sink: Sink | None = None

    async def run(self, sink: Sink) -> None:
        """Write to the client until `end` is called.

        When the ring drops frames before they are sent, continue from the table; but cut a client that reads nothing.
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
        """Send the farewell and end, after what is being sent."""
        self._farewell = farewell
        _ring(self._bell)

    def start_anew(self) -> None:
        """Send a reset and continue in a log that was replaced: its positions mean other events."""
        self._replaced = True
        _ring(self._bell)

    def cut(self) -> None:
        """End without a farewell."""
        if self._sink is not None:
            self._sink.cut()

    @property
    def running(self) -> bool:
        """Whether there are frames to send, and a client that reads them."""
        return self._position < self._tail.ring.end and self._sink is not None and not self._sink.sending

    def published(self, frames: Sequence[Frame]) -> None:
        ring = self._tail.ring
        overtaken = self._position < ring.base
        if overtaken and self._sink is not None and self._sink.sending:
            log.info("stream_cut", reason="the reader is too slow")
            self.cut()
        elif self._bell is not None and not self._bell.done():
            if overtaken or any(passes(self._filter, frame) for frame in frames):
                _ring(self._bell)
            else:
                self._position = ring.end
                self._seq = max(self._seq, frames[-1].seq)

    async def _begin(self, sink: Sink) -> None:
        """Set where the client starts: after its cursor, or before the newest events in memory."""
        if self._cursor is None:
            self._seq = self._tail.ring.before_newest()
        else:
            await self._check(sink, self._cursor)

    async def _reach_the_ring(self, sink: Sink) -> None:
        """Send from the table what is older than the ring."""
        ring = self._tail.ring
        while (position := ring.position_after(self._seq)) is None and not self._interrupted:
            await self._catch_up(sink)
        self._position = ring.end if position is None else position

    @property
    def _interrupted(self) -> bool:
        return self._replaced or self._farewell is not None

    async def _start_anew(self, sink: Sink) -> None:
        self._replaced = False
        self._seq = self._tail.ring.before_newest()
        extent = await self._query(sink, lambda conn: store.extent(conn, self._seq))
        if extent is not None:
            self._reset_through = extent.deleted_through
            await sink.write(cursors.reset_frame("cursor_unknown", extent))

    async def _check(self, sink: Sink, cursor: int) -> None:
        """Send a reset when events after the cursor are gone, or the cursor is unknown."""
        extent = await self._query(sink, lambda conn: store.extent(conn, cursor))
        if extent is None:
            return
        verdict = cursors.judge(cursor, extent)
        self._seq = cursor
        self._reset_through = extent.deleted_through
        if verdict == "cursor_expired":
            self._seq = max(cursor, cursors.oldest(extent) - 1)
        if verdict == "cursor_unknown":
            self._seq = self._tail.ring.before_newest()
        if verdict != "known":
            await sink.write(cursors.reset_frame(verdict, extent))

    async def _catch_up(self, sink: Sink) -> None:
        """Send one page of the table."""
        span = LogSpan(self._seq, min(self._seq + SPAN, self._tail.last), self._rows, PAGE_BYTES)
        page = await self._query(sink, lambda conn: store.read_log(conn, self._filter, span))
        if page is None:
            return
        if page.deleted_through > max(self._seq, self._reset_through):  # retention has deleted what comes next
            await self._check(sink, self._seq)
            return
        self._rows = rows_next(page, PAGE_ROWS)
        self._seq = page.last if page.more else span.through
        frames = [frame_of(event).data for event in page.events]
        del page
        await sink.write(*frames)
        await self._breathe(sink)

    async def _query(self, sink: Sink, statement: Callable[[Connection], Awaitable[T]]) -> T | None:
        """Return the statement's result, however long the database is away; None when the stream ends."""
        while self._farewell is None:
            try:
                async with (
                    asyncio.timeout(max(self._heartbeat, DATABASE_RETRY_SECS)),
                    self._turn,
                    self._db.connection() as conn,
                ):
                    return await statement(conn)
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
        """Return the next frames that pass the filter, about a chunk of them."""
        ring, size = self._tail.ring, 0
        data: list[bytes] = []
        while self._position < ring.end and size < CHUNK_BYTES:
            frame = ring.at(self._position)
            self._position += 1
            if frame.seq <= self._seq:
                continue
            self._seq = frame.seq
            if passes(self._filter, frame):
                data.append(frame.data)
                size += len(frame.data)
        return data

    async def _breathe(self, sink: Sink) -> None:
        """Send a heartbeat if one is due."""
        if sink.now() - sink.last_write >= self._heartbeat - TIMER_SLACK_SECS:
            await sink.write(HEARTBEAT)

    async def _rest(self, secs: float) -> None:
        """Wait for the bell, at most `secs`."""
        loop = asyncio.get_running_loop()
        self._bell = loop.create_future()
        timer = loop.call_later(max(0.0, secs), _ring, self._bell)
        try:
            await self._bell
        finally:
            timer.cancel()
            self._bell = None


class Streams:
    """The open streams of this process: their slots, what they share, and how they end."""

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
        self._checking = False
        self._ends_at: float | None = None
        self._empty = asyncio.Event()
        self._empty.set()
        tail.on_reset(self.start_anew)

    @contextmanager
    def opened(
        self,
        filter: HistoryFilter,
        cursor: int | None,
        caller: str | None = None,
        is_valid: Callable[[], bool] = lambda: True,
    ) -> Iterator[Produce]:
        """Hold a slot inside the block, one of the caller's if it is known; raises `SseCapacity`.

        The stream ends once `is_valid`, which tells whether the caller's credential is still good, returns false.
        """
        with self._slot(caller), self._running(filter, cursor, is_valid) as produce:
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
    def _running(self, filter: HistoryFilter, cursor: int | None, is_valid: Callable[[], bool]) -> Iterator[Produce]:
        stream = Stream(self, filter, cursor, is_valid)
        self._open.add(stream)
        self._empty.clear()
        self._metrics.sse_opened.inc()
        self._metrics.sse_open.set(len(self._open))
        if self._ends_at is not None:
            self._end_soon(stream)
        if not self._checking:
            self._check_later()
        try:
            yield stream.run
        finally:
            self._open.discard(stream)
            self._metrics.sse_open.set(len(self._open))
            if not self._open:
                self._empty.set()

    def start_anew(self) -> None:
        """For the tail: the log was replaced, so cursors of open streams mean nothing any more."""
        for stream in self._open:
            stream.start_anew()

    def end_invalid(self) -> None:
        """End the streams whose credential was revoked or has expired."""
        for stream in tuple(self._open):
            if not stream.is_valid():
                stream.end(self._farewell())
                asyncio.get_running_loop().call_later(CHECK_SECS, stream.cut)  # if its client reads nothing

    def _check_later(self) -> None:
        """Look at the credentials again while any stream is open."""
        self._checking = bool(self._open)
        if self._checking:
            asyncio.get_running_loop().call_later(CHECK_SECS, self._check)

    def _check(self) -> None:
        self.end_invalid()
        self._check_later()

    async def end(self, window_secs: float) -> None:
        """End each stream at a random moment of the window, those that open meanwhile too.

        Returns after the window. Cuts streams whose client has not read the farewell a second later.
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
        loop.call_later(self._spread(0.0, left), stream.end, self._farewell())

    def _farewell(self) -> bytes:
        return b"retry: %d\n\n" % self._spread(*RECONNECT_MS)


async def end_streams(rt: Runtime, window_secs: float) -> None:
    """For the process's drain (contract, section 16); takes the whole window."""
    await rt.get(Streams).end(window_secs)


def _ring(bell: "asyncio.Future[None] | None") -> None:
    if bell is not None and not bell.done():
        bell.set_result(None)
