"""Answers remembered for a moment, with concurrent identical questions sharing one database call."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")

MAX_BYTES = 16 * 1024 * 1024  # of remembered answers; a page of agents with their manifests has up to 1 MiB

# So often within its time must a question be asked before memory answers it: who asks rarely is shown the table,
# also where another program has just changed it.
CROWD = 5


@dataclass(slots=True)
class _Entry(Generic[T]):
    since: float
    future: asyncio.Future[T]
    size: int = 0  # in bytes, once the answer is there


class Memo(Generic[T]):
    """At most `ttl_secs` old, at most `max_keys` answers and `MAX_BYTES`; `drop` forgets everything at once.

    So does a change of `version()`: with the count of this process's commits, every caller reads its own writes.
    Of a question's askers within `ttl_secs` the first `crowd` share only what is being looked up at that moment.
    """

    def __init__(
        self,
        ttl_secs: float,
        max_keys: int,
        clock: Callable[[], float],
        version: Callable[[], int] = lambda: 0,
        crowd: int = 0,
    ) -> None:
        self._ttl = ttl_secs
        self._max_keys = max_keys
        self._clock = clock
        self._version = version
        self._crowd = crowd
        self._asked: OrderedDict[Hashable, tuple[float, int]] = OrderedDict()  # since when, and how often
        self._seen = 0
        self._entries: OrderedDict[Hashable, _Entry[T]] = OrderedDict()
        self._bytes = 0

    def size(self, answer: T) -> int:
        """How many bytes an answer takes; those that take none worth counting need not say so."""
        return 0

    def confirmed(self) -> bool:
        """Whether what is remembered may be trusted now; otherwise every question is looked up."""
        return True

    def held(self, size: int) -> None:
        """Told how many bytes are remembered, whenever that changes."""

    async def get(self, key: Hashable, build: Callable[[], Awaitable[T]]) -> T:
        """The remembered answer, or `build`'s; a failure is not remembered."""
        crowded = self._crowded(key) and self.confirmed()
        found = self._find(key)
        if found is None or found.future.cancelled() or (found.future.done() and not crowded):
            found = self._start(key, build)
        if found.future.done():
            return found.future.result()
        # A caller that goes away must not take the answer from the others.
        return await asyncio.shield(found.future)

    def peek(self, key: Hashable) -> T | None:
        """The remembered answer if it is there already and its crowd has come, without waiting."""
        found = self._find(key)
        if found is None or (self._crowd and self._times(key) < self._crowd) or not self.confirmed():
            return None
        future = found.future
        return future.result() if future.done() and not future.cancelled() and not future.exception() else None

    def drop(self) -> None:
        """Forget everything; questions asked before still get their answer."""
        self._entries.clear()
        self._hold(-self._bytes)

    def _crowded(self, key: Hashable) -> bool:
        if not self._crowd:
            return True
        times = self._times(key)
        known = self._asked.pop(key, None)
        self._asked[key] = (known[0] if known and times else self._clock(), times + 1)
        if len(self._asked) > self._max_keys:
            self._asked.popitem(last=False)
        return times >= self._crowd

    def _times(self, key: Hashable) -> int:
        """How often it has been asked within its time, by `get`."""
        asked = self._asked.get(key)
        return 0 if asked is None or self._clock() - asked[0] >= self._ttl else asked[1]

    def _find(self, key: Hashable) -> _Entry[T] | None:
        version = self._version()
        if version != self._seen:
            self._seen = version
            self.drop()
        found = self._entries.get(key)
        return None if found is None or self._clock() - found.since >= self._ttl else found

    def _start(self, key: Hashable, build: Callable[[], Awaitable[T]]) -> _Entry[T]:
        self._forget(key)
        entry = _Entry(self._clock(), asyncio.ensure_future(build()))
        self._entries[key] = entry
        self._evict()
        entry.future.add_done_callback(lambda done: self._answered(key, entry))
        return entry

    def _evict(self) -> None:
        """Answers may be large: the old ones go at once, not only when there are too many."""
        now = self._clock()
        while self._entries:
            oldest = next(iter(self._entries))
            too_much = len(self._entries) > self._max_keys or self._bytes > MAX_BYTES
            if not too_much and now - self._entries[oldest].since < self._ttl:
                return
            self._forget(oldest)

    def _answered(self, key: Hashable, entry: _Entry[T]) -> None:
        """Keep an answer that a crowd waits for; failures, and what only a few asked for, are forgotten."""
        if self._entries.get(key) is not entry:
            return
        failed = entry.future.cancelled() or entry.future.exception() is not None
        if failed or (self._crowd and self._times(key) < self._crowd):
            self._forget(key)
            return
        entry.size = self.size(entry.future.result())
        self._hold(entry.size)
        self._evict()

    def _forget(self, key: Hashable) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None and entry.size:
            self._hold(-entry.size)

    def _hold(self, more: int) -> None:
        self._bytes += more
        self.held(self._bytes)
