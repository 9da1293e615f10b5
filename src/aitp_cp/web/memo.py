"""A cache of values that are expensive to build, bounded in time and in bytes."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from prometheus_client import Gauge

T = TypeVar("T")

ENTRY_BYTES = 1024  # what an entry takes besides its value: key, headers, objects


@dataclass(slots=True, eq=False)
class _Entry(Generic[T]):
    expires: float
    future: asyncio.Future[T]
    size: int = 0  # in bytes, once the value is there

    def value(self) -> T | None:
        future = self.future
        return future.result() if future.done() and not future.cancelled() and not future.exception() else None


class Memo(Generic[T]):
    """Keeps values for `ttl_secs`, at most `max_bytes` of them; the oldest leave first.

    Concurrent requests for one key share one build. A build that fails is not kept. Neither is one that `forget` or
    `clear` hits while it runs, for it may have read what was there before the change.
    """

    def __init__(
        self,
        ttl_secs: float,
        max_bytes: int,
        *,
        clock: Callable[[], float] = time.monotonic,
        version: Callable[[], int] = lambda: 0,
        gauge: Gauge | None = None,
    ) -> None:
        """Everything is forgotten when `version()` changes; `gauge` shows the bytes that are held."""
        self._ttl = ttl_secs
        self._max_bytes = max_bytes
        self._clock = clock
        self._version = version
        self._last_version = version()
        self._gauge = gauge
        self._entries: OrderedDict[Hashable, _Entry[T]] = OrderedDict()  # in the order in which they expire
        self.bytes_held = 0

    def size(self, value: T) -> int:
        """Return the bytes that a value takes; 0 for values that need no bound."""
        return 0

    def usable(self, value: T) -> bool:
        """Return whether a cached value may be used now."""
        return True

    def find(self, key: Hashable) -> T | None:
        """Return the cached value, or None if there is none that may be used."""
        entry = self._find(key)
        value = None if entry is None else entry.value()
        return value if value is not None and self.usable(value) else None

    async def get(self, key: Hashable, build: Callable[[], Awaitable[T]]) -> T:
        """Return the cached value, or what `build` returns."""
        value = self.find(key)
        if value is not None:
            return value
        entry = self._find(key)
        if entry is None or entry.future.done():
            entry = self._start(key, build)
        # A client that disconnects must not cancel the build of the others.
        return await asyncio.shield(entry.future)

    def forget(self, *keys: Hashable) -> None:
        for key in keys:
            entry = self._entries.pop(key, None)
            if entry is not None:
                self._hold(-entry.size)

    def clear(self) -> None:
        self._entries.clear()
        self._hold(-self.bytes_held)

    def peek(self, key: Hashable) -> T | None:
        """Return the value under a key, whether or not it may be used; None while it is being built."""
        entry = self._entries.get(key)
        return None if entry is None else entry.value()

    def _find(self, key: Hashable) -> _Entry[T] | None:
        version = self._version()
        if version != self._last_version:
            self._last_version = version
            self.clear()
        entry = self._entries.get(key)
        return None if entry is None or self._clock() >= entry.expires else entry

    def _start(self, key: Hashable, build: Callable[[], Awaitable[T]]) -> _Entry[T]:
        self.forget(key)
        entry = _Entry(self._clock() + self._ttl, asyncio.ensure_future(build()))
        self._entries[key] = entry
        entry.future.add_done_callback(lambda _: self._built(key, entry))
        return entry

    def _built(self, key: Hashable, entry: _Entry[T]) -> None:
        value = entry.value()
        if self._entries.get(key) is not entry:
            return
        if value is None:
            self.forget(key)
            return
        size = self.size(value)
        entry.size = size + ENTRY_BYTES if size else 0
        self._hold(entry.size)
        self._evict()

    def _evict(self) -> None:
        """Drop what has expired, and the oldest while there are too many bytes."""
        now = self._clock()
        while self._entries:
            key, oldest = next(iter(self._entries.items()))
            if self.bytes_held <= self._max_bytes and now < oldest.expires:
                return
            self.forget(key)

    def _hold(self, more: int) -> None:
        self.bytes_held += more
        if self._gauge is not None and more:
            self._gauge.set(self.bytes_held)
