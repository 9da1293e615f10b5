"""A reporter's worker over the life of its process: forks, deadlines, the end of the interpreter."""

import atexit
import logging
import os
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, TimeoutError

from aitp_cp_client.reporting.model import Counters, Limits, Tally
from aitp_cp_client.reporting.sender import Sender
from aitp_cp_client.reporting.spool import Spool
from aitp_cp_client.reporting.worker import Worker

Connect = Callable[..., Sender]  # with the tally that it counts in

log = logging.getLogger("aitp_cp_client.reporter")

EXIT_SECS = 2.0  # for what is left when the interpreter ends
STOP_SECS = 1.0  # for the thread to end after the deadline


class Engine:
    """Holds the worker of this process; a forked child gets another one."""

    def __init__(self, connect: Connect, limits: Limits, spool: Spool | None) -> None:
        self._connect = connect
        self._limits = limits
        self._spool = spool
        self.worker = self._new_worker()
        _engines.add(self)
        if spool is not None:  # an earlier process may have left events there
            self.worker.start()

    def close(self, deadline_secs: float) -> bool:
        """Send what is left; return whether nothing was lost. Blocks for at most the deadline and a second."""
        until = time.monotonic() + deadline_secs
        wait(self.worker.begin_close(), deadline_secs)
        wait(self.worker.begin_stop(), max(0.0, until - time.monotonic()) + STOP_SECS)
        return self.finish()

    def finish(self) -> bool:
        """Count what is lost now that the thread has ended or was given up; return whether nothing is."""
        _engines.discard(self)
        lost = self.worker.inbox.clear()
        if lost:
            log.warning("reports_lost count=%d", lost)
        return lost == 0

    def counters(self) -> Counters:
        tally, inbox = self.worker.tally, self.worker.inbox
        return Counters(
            reported=inbox.accepted,
            queued=len(inbox) + tally.spooled,
            sent=tally.sent,
            dropped=tally.dropped + inbox.dropped,
            refused=tally.refused,
            retries=tally.retries,
            last_error=tally.last_error,
            last_error_at=tally.last_error_at,
        )

    def after_fork(self) -> None:
        """Restart in the child: the parent sends what was queued, and its thread and its sockets are not here."""
        _inherited.append(self.worker)
        if self._spool is not None:
            self._spool.unlock()
        self.worker = self._new_worker()

    def _new_worker(self) -> Worker:
        tally = Tally()
        return Worker(self._connect(tally=tally), limits=self._limits, tally=tally, spool=self._spool)


def wait(future: "Future[bool]", secs: float | None) -> bool:
    """Return what it is done with, False after this time."""
    try:
        return future.result(secs)
    except (TimeoutError, CancelledError):
        return False


_engines: set[Engine] = set()
_inherited: list[Worker] = []  # kept, so that nothing of the parent's is closed here


def _after_fork() -> None:
    for engine in list(_engines):
        engine.after_fork()


@atexit.register
def _close_all() -> None:
    """Send what is left, as `logging` does; a name that is not known yet can no longer be looked up."""
    until = time.monotonic() + EXIT_SECS
    for engine in list(_engines):
        engine.close(max(0.0, until - time.monotonic()))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
