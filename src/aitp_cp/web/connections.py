"""What all connections of a process may make it hold: their number, the bytes that clients do not take, idle time.

One sweep looks at every connection, twice a second: that is cheaper than a timer for each request.
"""

import asyncio
import resource
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

import structlog

from aitp_cp.errors import AppError
from aitp_cp.telemetry.metrics import Metrics

SWEEP_SECS = 0.5
# A new sweep at once when a client has stopped taking its answer, but not more often than this.
HURRY_SECS = 0.05
# Time that an answer may wait for its client: this long, and as long as it takes at this rate.
ANSWER_SECS = 30.0
ANSWER_BYTES_PER_SEC = 64 * 1024
# Once the budget is exceeded the slowest are cut until this share of it is left, not one for each new byte.
CUT_TO = 0.75
# At the bound on connections so many idle ones are closed at once, so that finding them is paid rarely.
CLOSE_SHARE = 20
# Files that are no connections: the database's pool, the log, listeners, outgoing requests.
OTHER_FILES = 256

log = structlog.get_logger("aitp_cp.http")


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one process."""

    connections: int = 4000
    unsent_bytes: int = 64 * 2**20
    keep_alive_secs: float = 75.0


class Connection(Protocol):
    """What the sweep asks of a connection."""

    unsent: "Unsent"
    endless: bool
    active_at: float
    requests: int

    @property
    def queued(self) -> int: ...
    def busy(self) -> bool: ...
    def unsent_bytes(self) -> int: ...
    def overdue(self, now: float) -> bool: ...
    def close(self) -> None: ...
    def abort(self) -> None: ...


class Unsent:
    """How long bytes have waited for one client, and how fast it takes them."""

    __slots__ = ("_base", "_since", "written")

    def __init__(self) -> None:
        self.written = 0  # handed to the transport since the connection was made
        self._base = 0  # of those, taken by the client when the waiting began
        self._since = 0.0

    def waits(self, now: float, size: int) -> float:
        """Note that `size` bytes wait; the seconds by which the client is late, negative while it is in time."""
        if size == 0:
            self._since = 0.0
            return -ANSWER_SECS
        if self._since == 0.0:
            self._since, self._base = now, self.written - size
        return now - self._since - ANSWER_SECS - (self.written - self._base) / ANSWER_BYTES_PER_SEC

    def rate(self, now: float, size: int) -> float:
        """Bytes a second that the client has taken since it began to wait."""
        return (self.written - size - self._base) / max(now - self._since, 1.0)


class Connections:
    """Every open connection of the process."""

    def __init__(
        self,
        limits: Limits | None = None,
        metrics: Metrics | None = None,
        turn_away: Callable[[str, AppError, bool], AppError] | None = None,
    ) -> None:
        limits = limits or Limits()
        self.keep_alive_secs = limits.keep_alive_secs
        self._most = _within_open_files(limits.connections)
        self._most_unsent = limits.unsent_bytes
        self._metrics = metrics
        self._turn_away = turn_away
        self._open: set[Connection] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._hurried = False

    def opened(self, connection: Connection) -> None:
        """Take it in; at the bound, in the place of those that have been idle for longest, or not at all."""
        if len(self._open) >= self._most and not self._close_idle():
            self._count("full")
            connection.abort()
            return
        self._open.add(connection)
        if self._timer is None:
            self._sweep_in(SWEEP_SECS)

    def closed(self, connection: Connection) -> None:
        self._open.discard(connection)

    def hurry(self) -> None:
        """A client has stopped taking what is written to it."""
        if not self._hurried and self._timer is not None:
            self._hurried = True
            self._timer.cancel()
            self._sweep_in(HURRY_SECS)

    def turned_away(self, peer: str, refusal: AppError, *, executed: bool) -> AppError:
        """What to answer bytes with that are no request; `executed` when the application tells of it as well."""
        return self._turn_away(peer, refusal, executed) if self._turn_away else refusal

    def _close_idle(self) -> bool:
        """Those first that never made a request."""
        idle = [connection for connection in self._open if not connection.busy()]
        idle.sort(key=lambda connection: (connection.requests > 0, connection.active_at))
        for connection in idle[: max(1, self._most // CLOSE_SHARE)]:
            self._count("idle")
            self._open.discard(connection)
            connection.close()
        return bool(idle)

    def _sweep_in(self, secs: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(secs, self._sweep)

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        self._hurried = False
        self._timer = None
        self._judge_all(loop.time())
        if self._open:
            self._sweep_in(SWEEP_SECS)

    def _judge_all(self, now: float) -> None:
        waiting: list[tuple[float, int, Connection]] = []
        queued = total = 0
        for connection in list(self._open):
            queued += connection.queued
            size = connection.unsent_bytes()
            late = connection.unsent.waits(now, size)
            if size and late > 0 and not connection.endless:
                self._cut(connection, "deadline")
                continue
            if size:
                total += size
                waiting.append((connection.unsent.rate(now, size), size, connection))
            if connection.overdue(now):
                connection.close()
        if total > self._most_unsent:
            total = self._cut_slowest(waiting, total)
        self._show(total, queued)

    def _cut_slowest(self, waiting: list[tuple[float, int, Connection]], total: int) -> int:
        waiting.sort(key=lambda entry: entry[0])
        cut = 0
        for _, size, connection in waiting:
            if total <= self._most_unsent * CUT_TO:
                break
            self._cut(connection, "budget")
            total -= size
            cut += 1
        log.warning("slow_clients_cut", connections=cut, unsent_bytes_left=total)
        return total

    def _cut(self, connection: Connection, reason: str) -> None:
        self._count(reason)
        connection.abort()

    def _count(self, reason: str) -> None:
        if self._metrics is not None:
            self._metrics.connections_cut.labels(reason).inc()

    def _show(self, unsent: int, queued: int) -> None:
        if self._metrics is not None:
            self._metrics.connections_open.set(len(self._open))
            self._metrics.unsent_bytes.set(unsent)
            self._metrics.requests_queued.set(queued)


def _within_open_files(most: int) -> int:
    """As many as the process may have files for, after it has asked for as many as it may ask for."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = most + OTHER_FILES
    if soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return max(1, min(most, soft - OTHER_FILES))
