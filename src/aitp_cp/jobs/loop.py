"""A background task that takes turns: on time, and at once when somebody wakes it."""

import asyncio
import time
from abc import ABC, abstractmethod
from contextlib import suppress

import structlog

from aitp_cp.db.failures import reason
from aitp_cp.errors import RETRIABLE
from aitp_cp.runtime import Runtime

log = structlog.get_logger("aitp_cp.jobs")

FIRST_BACKOFF_SECS = 0.5  # doubled with each turn that fails on the database
MAX_BACKOFF_SECS = 5.0
STOP_SECS = 10.0


class Loop(ABC):
    """One task per process; started once, and stopped between two turns.

    A failed turn is logged under the loop's name and repeated: after a backoff when the database was away or busy,
    otherwise after `retry_secs`.
    """

    retry_secs = 5.0

    def __init__(self, rt: Runtime, name: str) -> None:
        self.rt = rt
        self.name = name
        self.stopping = False
        self._bell = asyncio.Event()
        self._failures = 0
        self._task: asyncio.Task[None] | None = None

    @abstractmethod
    async def turn(self) -> float:
        """Do what is due; return the seconds until the next turn."""

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name=f"job:{self.name}")

    def wake(self) -> None:
        """Take the next turn at once."""
        self._bell.set()

    async def stop(self, grace_secs: float = STOP_SECS) -> None:
        """Take no more turns; cancel one that does not end within `grace_secs`."""
        self.stopping = True
        self._bell.set()
        if self._task is None:
            return
        _, late = await asyncio.wait({self._task}, timeout=grace_secs)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)

    async def _run(self) -> None:
        structlog.contextvars.clear_contextvars()
        while not self.stopping:
            self._bell.clear()
            pause = await self._guarded_turn()
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._bell.wait()

    async def _guarded_turn(self) -> float:
        started = time.monotonic()
        try:
            pause = await self.turn()
        except RETRIABLE as away:
            self._note_run(started, away)
            if self._failures == 0:
                log.warning("job_waits_for_database", job=self.name, reason=reason(away))
            self._failures += 1
            return float(min(FIRST_BACKOFF_SECS * 2 ** min(self._failures - 1, 10), MAX_BACKOFF_SECS))
        except Exception as bug:
            self._note_run(started, bug)
            log.exception("job_failed", job=self.name)
            return self.retry_secs
        self._note_run(started, None)
        if self._failures:
            log.warning("job_continues", job=self.name)
        self._failures = 0
        self.rt.metrics.job_last_success.labels(job=self.name).set(self.rt.clock().timestamp())
        return pause

    def _note_run(self, started: float, failure: Exception | None) -> None:
        self.rt.job_runs.record(self.name, self.rt.clock(), time.monotonic() - started, failure)
