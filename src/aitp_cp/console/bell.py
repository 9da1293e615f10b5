"""The bell: one stream a browser that says which topics have changed, and nothing else.

Nothing has to be resumed: after a connection was lost, a page asks for all its regions once.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from uuid import UUID

import msgspec

from aitp_cp.console.topics import BY_TIME, Topic, of_action, of_event
from aitp_cp.errors import SseCapacity
from aitp_cp.events.model import Event
from aitp_cp.events.tail import Tail
from aitp_cp.runtime import Runtime
from aitp_cp.web.sse import OPENING, Produce, Sink

FRAME_SECS = 0.25  # between two frames: at most four a second
CHECK_SECS = 0.5  # how late a stream notices that its session has ended, or that the process stops
COMMENT_SECS = 15.0
PER_SESSION = 2  # streams: one, and one more while the next tab takes over
TICK_SECS = 2.0  # of what nothing announces
BEHIND_SECS = 5.0  # without reading the log to its end: pages say that they are old
CAPACITY_RETRY_SECS = 30
RECONNECT_MS = (1000, 4000)
COMMENT = b": still here\n\n"


class Bell:
    """Counts the changes of each topic in this process, and tells the open streams."""

    def __init__(self, rt: Runtime, tail: Tail) -> None:
        self._rt = rt
        self._tail = tail
        self._counts: Counter[Topic] = Counter()
        self._changed = asyncio.Event()
        self._open = 0
        self._of_sessions: dict[UUID | None, list[object]] = {}
        self._ticker: asyncio.TimerHandle | None = None

    def on_events(self, events: Sequence[Event]) -> None:
        """Called by the tail. A page that asks at once must find what it was told of."""
        counts = Counter(topic for event in events for topic in of_event(event.type))
        self._rt.db.when_readable(lambda: self._ring(counts))

    def on_audited(self, action: str) -> None:
        """Called with the action of what any process has recorded in the audit."""
        self._ring(Counter(of_action(action)))

    def on_reset(self) -> None:
        """Called by the tail: the log was replaced, so everything may have changed."""
        self._ring(Counter(Topic))

    @contextmanager
    def opened(self, is_valid: Callable[[], bool], session: UUID | None = None) -> Iterator[Produce]:
        """Hold one of the process's streams; raises `SseCapacity`. It ends soon after `is_valid` returns false.

        A browser needs one. Beyond `PER_SESSION` of one session the oldest ends: it may be of a connection that is
        lost without anybody knowing.
        """
        if self._open >= self._rt.settings.console_streams:
            self._rt.metrics.sse_rejected.inc()
            raise SseCapacity(headers={"Retry-After": str(CAPACITY_RETRY_SECS)})
        stream, streams = object(), self._of_sessions.setdefault(session, [])
        streams.append(stream)
        if session is not None:
            del streams[:-PER_SESSION]
        self._count(+1)
        try:
            yield lambda sink: self._run(sink, lambda: is_valid() and stream in streams)
        finally:
            self._count(-1)
            if stream in streams:
                streams.remove(stream)
            if not streams:
                self._of_sessions.pop(session, None)

    async def _run(self, sink: Sink, is_valid: Callable[[], bool]) -> None:
        await sink.write(OPENING)
        heard, health = self._counts.copy(), ""
        while is_valid() and not self._rt.draining:
            topics, now = self._counts - heard, self._health()
            if topics or now != health:
                heard, health = self._counts.copy(), now
                await sink.write(self._frame(topics, health))
                await asyncio.sleep(FRAME_SECS)
            elif sink.now() - sink.last_write >= COMMENT_SECS:
                await sink.write(COMMENT)
            else:
                await self._rest()
        await sink.write(b"retry: %d\n\n" % random.uniform(*RECONNECT_MS))  # noqa: S311 - it spreads browsers

    def _frame(self, topics: Counter[Topic], health: str) -> bytes:
        """Return the position in the log, how often topics have changed since the last frame, and the log's health."""
        ring = {"seq": self._tail.last, "topics": topics, "health": health}
        return b"event: bell\ndata: " + msgspec.json.encode(ring) + b"\n\n"

    async def _rest(self) -> None:
        try:
            async with asyncio.timeout(CHECK_SECS):
                await self._changed.wait()
        except TimeoutError:
            return

    def _ring(self, counts: Counter[Topic]) -> None:
        if not self._open or not counts:
            return
        self._counts += counts
        # Whoever waits now wakes up; who comes later compares counts.
        self._changed.set()
        self._changed = asyncio.Event()

    def _health(self) -> str:
        return "ok" if self._tail.behind() < BEHIND_SECS else "behind"

    def _count(self, more: int) -> None:
        self._open += more
        self._rt.metrics.console_streams.set(self._open)
        if self._open and self._ticker is None:
            self._tick()

    def _tick(self) -> None:
        self._ring(Counter(BY_TIME))
        loop = asyncio.get_running_loop()
        self._ticker = loop.call_later(TICK_SECS, self._tick) if self._open else None
