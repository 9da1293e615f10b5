"""What all connections of a process may hold: their number, the bytes that clients do not read, idle time.

One sweep looks at every connection, twice a second: that is cheaper than a timer for each request.
"""

import asyncio
import resource
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog
from starlette.types import Scope

from aitp_cp.errors import AppError
from aitp_cp.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from aitp_cp.web.guards import GuardedProtocol as Connection

SWEEP_SECS = 0.5
HURRY_SECS = 0.05  # until the next sweep once a client has stopped reading
# A response may wait for its client for this long, and for as long as it takes at this rate.
ANSWER_SECS = 30.0
ANSWER_BYTES_PER_SEC = 64 * 1024
CUT_TO = 0.75  # once the budget is exceeded, the slowest are cut until this share of it is left
CLOSE_SHARE = 20  # at the bound on connections, one in so many is closed at once: finding idle ones takes time
LOG_EVERY_SECS = 30.0  # lines about the bound on connections, which strangers can keep reached
OTHER_FILES = 256  # for the pool, the log, listeners and outgoing requests

log = structlog.get_logger("aitp_cp.http")

Charge = Callable[[str, AppError, Scope | None], AppError]


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one process."""

    connections: int = 4000
    unsent_bytes: int = 64 * 2**20
    keep_alive_secs: float = 75.0


class Unsent:
    """How long bytes have waited for one client, and how fast it reads them."""

    __slots__ = ("_base", "_since", "written")

    def __init__(self) -> None:
        self.written = 0  # bytes of responses since the connection was made
        self._base = 0  # of those, read by the client when the waiting began
        self._since = 0.0

    def waits(self, now: float, size: int) -> float:
        """Note that `size` bytes wait; return the seconds by which the client is late, negative while it is not."""
        if size == 0:
            self._since = 0.0
            return -ANSWER_SECS
        if self._since == 0.0:
            self._since, self._base = now, self.written - size
        return now - self._since - ANSWER_SECS - (self.written - self._base) / ANSWER_BYTES_PER_SEC

    def rate(self, now: float, size: int) -> float:
        """Return the bytes a second that the client has read since it began to wait."""
        return (self.written - size - self._base) / max(now - self._since, 1.0)


class Connections:
    """Every open connection of the process."""

    def __init__(
        self, limits: Limits | None = None, metrics: Metrics | None = None, charge: Charge | None = None
    ) -> None:
        """`charge` gets the refusal of bytes that are not a request, and returns the error to send."""
        limits = limits or Limits()
        self.keep_alive_secs = limits.keep_alive_secs
        self._most = _within_open_files(limits.connections)
        self._most_unsent = limits.unsent_bytes
        self._metrics = metrics
        self._charge = charge
        self._open: set[Connection] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._hurried = False
        self._limit_logged_at = float("-inf")

    def opened(self, connection: "Connection") -> None:
        """Accept it; at the limit close those that have been idle for longest, or refuse it."""
        if len(self._open) >= self._most:
            self._log_limit(asyncio.get_running_loop().time())
            if not self._close_idle():
                self._cut(connection, "full")
                return
        self._open.add(connection)
        if self._timer is None:
            self._sweep_in(SWEEP_SECS)

    def _log_limit(self, now: float) -> None:
        if now >= self._limit_logged_at + LOG_EVERY_SECS:
            self._limit_logged_at = now
            log.warning("connections_at_limit", limit=self._most, effect="idle ones are closed for new ones")

    def closed(self, connection: "Connection") -> None:
        self._open.discard(connection)

    def hurry(self) -> None:
        """Sweep soon: a client has stopped reading what is written to it."""
        if not self._hurried and self._timer is not None:
            self._hurried = True
            self._timer.cancel()
            self._sweep_in(HURRY_SECS)

    def refused(self, peer: str, refusal: AppError, scope: Scope | None) -> AppError:
        """Return the error to send for bytes that are not a request; `scope` is that of the request they belong to."""
        return self._charge(peer, refusal, scope) if self._charge else refusal

    def _close_idle(self) -> bool:
        """Close some idle connections, those first that never made a request; return whether there were any."""
        idle = [connection for connection in self._open if not connection.busy()]
        idle.sort(key=lambda connection: (connection.requests > 0, connection.active_at))
        for connection in idle[: max(1, self._most // CLOSE_SHARE)]:
            self._count("idle")
            self._open.discard(connection)
            _close(connection)
        return bool(idle)

    def _sweep_in(self, secs: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(secs, self._sweep)

    def _sweep(self) -> None:
        self._hurried = False
        self._timer = None
        self._check_all(asyncio.get_running_loop().time())
        if self._open:
            self._sweep_in(SWEEP_SECS)

    def _check_all(self, now: float) -> None:
        waiting: list[tuple[float, int, Connection]] = []
        queued = total = late_clients = 0
        for connection in list(self._open):
            queued += connection.queued
            size = connection.transport.get_write_buffer_size()
            late = connection.unsent.waits(now, size)
            if size and late > 0 and not connection.endless:
                self._cut(connection, "deadline")
                late_clients += 1
                continue
            if size:
                total += size
                waiting.append((connection.unsent.rate(now, size), size, connection))
            if connection.overdue(now):
                _close(connection)
        if late_clients:
            log.warning("slow_clients_cut", reason="deadline", connections=late_clients)
        if total > self._most_unsent:
            total = self._cut_slowest(waiting, total)
        if self._metrics is not None:
            self._metrics.connections_open.set(len(self._open))
            self._metrics.unsent_bytes.set(total)
            self._metrics.requests_queued.set(queued)

    def _cut_slowest(self, waiting: list[tuple[float, int, "Connection"]], total: int) -> int:
        """Cut the slowest readers; return the bytes that still wait."""
        waiting.sort(key=lambda entry: (entry[0], entry[2].active_at))  # of two equally slow the one that asked first
        cut = 0
        for _, size, connection in waiting:
            if total <= self._most_unsent * CUT_TO:
                break
            self._cut(connection, "budget")
            total -= size
            cut += 1
        log.warning("slow_clients_cut", reason="budget", connections=cut, unsent_bytes_left=total)
        return total

    def _cut(self, connection: "Connection", reason: str) -> None:
        self._count(reason)
        connection.transport.abort()

    def _count(self, reason: str) -> None:
        if self._metrics is not None:
            self._metrics.connections_cut.labels(reason).inc()


def _close(connection: "Connection") -> None:
    if not connection.transport.is_closing():
        connection.transport.close()


def _within_open_files(most: int) -> int:
    """Return `most`, or as many as the process may have files for once it has asked for enough."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = most + OTHER_FILES
    if soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return max(1, min(most, soft - OTHER_FILES))
