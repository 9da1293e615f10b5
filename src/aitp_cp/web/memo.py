"""Answers remembered for a moment, with concurrent identical questions sharing one database call."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")

# So often within its time must a question be asked before memory answers it: who asks rarely is shown the table,
# also where another program has just changed it.
CROWD = 5


class Memo(Generic[T]):
    """At most `ttl_secs` old, at most `max_keys` answers; `drop` forgets everything at once.

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
        self._entries: OrderedDict[Hashable, tuple[float, asyncio.Future[T]]] = OrderedDict()

    async def get(self, key: Hashable, build: Callable[[], Awaitable[T]]) -> T:
        """The remembered answer, or `build`'s; a failure is not remembered."""
        crowded = self._crowded(key)
        found = self._find(key)
        if found is None or found[1].cancelled() or (found[1].done() and not crowded):
            found = self._start(key, build)
        if found[1].done():
            return found[1].result()
        # A caller that goes away must not take the answer from the others.
        return await asyncio.shield(found[1])

    def peek(self, key: Hashable) -> T | None:
        """The remembered answer if it is there already and its crowd has come, without waiting."""
        found = self._find(key)
        if found is None or (self._crowd and self._times(key) < self._crowd):
            return None
        future = found[1]
        return future.result() if future.done() and not future.cancelled() and not future.exception() else None

    def drop(self) -> None:
        """Forget everything; questions asked before still get their answer."""
        self._entries.clear()

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

    def _find(self, key: Hashable) -> tuple[float, asyncio.Future[T]] | None:
        version = self._version()
        if version != self._seen:
            self._seen = version
            self._entries.clear()
        found = self._entries.get(key)
        return None if found is None or self._clock() - found[0] >= self._ttl else found

    def _start(self, key: Hashable, build: Callable[[], Awaitable[T]]) -> tuple[float, asyncio.Future[T]]:
        future = asyncio.ensure_future(build())
        entry = (self._clock(), future)
        self._entries[key] = entry
        self._entries.move_to_end(key)
        self._evict(entry[0])
        future.add_done_callback(lambda done: self._forget_failure(key, entry, done))
        return entry

    def _evict(self, now: float) -> None:
        """Answers may be large: the old ones go at once, not only when there are too many."""
        oldest = next(iter(self._entries.values()))
        while len(self._entries) > self._max_keys or now - oldest[0] >= self._ttl:
            self._entries.popitem(last=False)
            oldest = next(iter(self._entries.values()))

    def _forget_failure(self, key: Hashable, entry: tuple[float, asyncio.Future[T]], done: "asyncio.Future[T]") -> None:
        if (done.cancelled() or done.exception() is not None) and self._entries.get(key) is entry:
            del self._entries[key]
