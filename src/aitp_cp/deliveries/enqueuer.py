"""Runs the outbox in each process that runs shared jobs: woken by the tail, one process at a time does the work."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Protocol

import structlog

from aitp_cp.deliveries import outbox
from aitp_cp.deliveries.model import delivered_as
from aitp_cp.errors import RETRIABLE
from aitp_cp.runtime import Runtime

log = structlog.get_logger("aitp_cp.deliveries")

# How soon events are passed over that nobody is told of, and what a process left that died.
POLL_SECS = 1.0
# Another process is enqueuing: it may die with what woke this one.
BUSY_SECS = 0.05
RETRY_SECS = 1.0


class Event(Protocol):
    @property
    def type(self) -> str: ...


class Enqueuer:
    """One per process; `on_enqueued` is called when there may be new deliveries."""

    def __init__(self, rt: Runtime, on_enqueued: Callable[[], None]) -> None:
        self._rt = rt
        self._on_enqueued = on_enqueued
        self._bell = asyncio.Event()
        self._awaited = False  # an event with deliveries was published since the log was last followed to its end
        self._stopping = False
        self._failing = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="webhook-outbox")

    def on_events(self, events: Sequence[Event]) -> None:
        """For the tail: enqueue the deliveries of new events at once."""
        if any(delivered_as(event.type) for event in events):
            self._awaited = True
            self._bell.set()

    def on_reset(self) -> None:
        """For the tail: the log was replaced, and may end before the cursor."""
        self._awaited = True
        self._bell.set()

    async def stop(self) -> None:
        """End after the transaction in progress; another process, or the next start, goes on behind it."""
        self._stopping = True
        self._bell.set()
        if self._task is not None:
            await self._task

    async def _run(self) -> None:
        structlog.contextvars.clear_contextvars()
        while not self._stopping:
            self._bell.clear()
            pause = await self._turn()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._bell.wait(), pause)

    async def _turn(self) -> float:
        """Follow the log to its end; the seconds after which to look again, unless the bell rings."""
        try:
            while not self._stopping:
                done = await outbox.step(self._rt.db)
                self._report(failing=False)
                if done.enqueued:
                    self._on_enqueued()
                if done.busy:
                    return BUSY_SECS
                if not done.more:
                    break
        except RETRIABLE:
            self._report(failing=True)
            return RETRY_SECS
        except Exception:
            log.exception("webhook_outbox_failed")
            return RETRY_SECS
        if self._awaited:  # another process may have enqueued what this one was woken for
            self._awaited = False
            self._on_enqueued()
        return POLL_SECS

    def _report(self, *, failing: bool) -> None:
        if failing != self._failing:
            self._failing = failing
            log.warning("webhook_outbox_waits_for_database" if failing else "webhook_outbox_goes_on")
