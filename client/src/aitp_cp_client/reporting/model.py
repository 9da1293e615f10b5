"""What a reporter is set to, and what it counts."""

import threading
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypedDict

import msgspec

from aitp_cp_client.wire import times

MAX_BATCH_EVENTS = 500  # what `POST /api/events` takes (docs/events.md)
MAX_BATCH_BYTES = 256 * 1024
MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a reporter holds, and how long it waits.

    `memory_bytes` bounds the queue in memory, `spool_bytes` the events in the spool; both at least 1 MiB.
    `linger_secs` is how long an event waits for others to come along. `longest_wait_secs` is the longest pause between
    two attempts, unless the control plane asks for a longer one.
    """

    memory_bytes: int = 16 * MIB
    spool_bytes: int = 256 * MIB
    linger_secs: float = 0.2
    first_wait_secs: float = 0.2
    longest_wait_secs: float = 30.0
    answer_secs: float = 30.0

    def __post_init__(self) -> None:
        if min(self.memory_bytes, self.spool_bytes) < MIB:
            raise ValueError("a queue needs at least 1 MiB")


class EventFields(TypedDict, total=False):
    """The members of docs/events.md beside `type`."""

    id: str
    ts: datetime | str | float
    aid_a: str | None
    aid_b: str | None
    session_id: str | None
    run_id: str | None
    grants: list[str] | None
    payload: Any
    source: str | None


class Counters(msgspec.Struct, frozen=True):
    """What became of the events of this reporter.

    `queued` are in memory or in the spool, including those that other processes put there. `sent` were stored, now or
    by an earlier attempt. `dropped` were lost: the queue was full or closed. `refused` can never be sent.
    """

    reported: int
    queued: int
    sent: int
    dropped: int
    refused: int
    retries: int
    last_error: str | None
    last_error_at: datetime | None


@dataclass(slots=True)
class Tally:
    """Counts for many threads."""

    sent: int = 0
    dropped: int = 0
    refused: int = 0
    retries: int = 0
    spooled: int = 0  # set, not added: how many events the spool holds
    last_error: str | None = None
    last_error_at: datetime | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def add(self, *, sent: int = 0, dropped: int = 0, refused: int = 0, retries: int = 0) -> None:
        with self._lock:
            self.sent += sent
            self.dropped += dropped
            self.refused += refused
            self.retries += retries

    def fail(self, error: str) -> None:
        self.last_error, self.last_error_at = error, times.now()

    def refuse(self, reason: str) -> None:
        self.add(refused=1)
        self.fail(reason)
