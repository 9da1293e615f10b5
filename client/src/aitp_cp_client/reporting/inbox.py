"""Encoded events in memory, oldest first."""

import threading
from collections import deque
from dataclasses import dataclass

ITEM_OVERHEAD = 64  # bytes of a `bytes` object and its place in the queue, beside its content


@dataclass(frozen=True, slots=True)
class Batch:
    """The oldest events of a queue. `full`: there was no room for one more. `last`: where a spool's batch ends."""

    items: list[bytes]
    full: bool = False
    last: int = 0

    @property
    def body(self) -> bytes:
        return b"[" + b",".join(self.items) + b"]"


class Inbox:
    """A queue bounded in bytes, for many writers and one reader; when full, the oldest waiting event is dropped."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._waiting: deque[bytes] = deque()
        self._taken: list[bytes] = []  # by `head`, until `remove`
        self._bytes = 0
        self._closed = False
        self.accepted = 0
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._waiting) + len(self._taken)

    def put(self, item: bytes) -> None:
        """Append an event, in constant time."""
        with self._lock:
            if self._closed:
                self.dropped += 1
                return
            self.accepted += 1
            self._waiting.append(item)
            self._bytes += len(item) + ITEM_OVERHEAD
            while self._bytes > self._max_bytes and self._waiting:
                self._bytes -= len(self._waiting.popleft()) + ITEM_OVERHEAD
                self.dropped += 1

    def head(self, max_events: int, max_bytes: int) -> Batch:
        """Return the oldest events, as a JSON array at most `max_bytes` long; they stay until `remove`."""
        with self._lock:
            size = sum(map(len, self._taken))
            while self._waiting and len(self._taken) < max_events and size < max_bytes:
                self._taken.append(self._waiting.popleft())
                size += len(self._taken[-1])
            return fit(self._taken, max_events, max_bytes)

    def remove(self, batch: Batch) -> None:
        """Forget a batch that `head` returned."""
        with self._lock:
            self._bytes -= sum(map(len, batch.items)) + ITEM_OVERHEAD * len(batch.items)
            del self._taken[: len(batch.items)]

    def passed(self, mark: int) -> bool:
        """Return whether every event up to this value of `accepted` has left."""
        return not self._taken and self.accepted - len(self._waiting) >= mark

    def close(self) -> None:
        """Drop and count whatever is put from now on."""
        with self._lock:
            self._closed = True

    def clear(self) -> int:
        """Drop everything; return how many events that were."""
        with self._lock:
            left = len(self)
            self.dropped += left
            self._waiting.clear()
            self._taken.clear()
            self._bytes = 0
            return left


def fit(items: list[bytes], max_events: int, max_bytes: int) -> Batch:
    """Return the first of these events that fit into one batch, at least one."""
    size, count = 1, 0
    for item in items[:max_events]:
        size += len(item) + 1
        if size > max_bytes and count:
            break
        count += 1
    return Batch(items[:count], full=count == max_events or count < len(items))
