"""The thread behind a reporter: an event loop of its own that saves and sends.

    report() -> inbox -> (spool ->) sender -> control plane

With a spool the inbox is emptied into it at once, and one process at a time sends what is in it.
"""

import asyncio
import logging
import selectors
import sqlite3
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Literal

from aitp_cp_client.reporting.bell import Bell
from aitp_cp_client.reporting.inbox import Batch, Inbox
from aitp_cp_client.reporting.model import MAX_BATCH_BYTES, MAX_BATCH_EVENTS, Limits, Tally
from aitp_cp_client.reporting.sender import Outcome, Sender
from aitp_cp_client.reporting.spool import Spool

log = logging.getLogger("aitp_cp_client.reporter")

SAVE_EVENTS = 2000  # in one transaction of the spool
SAVE_BYTES = 4 * 1024 * 1024
TICK_SECS = 1.0  # between two looks at a spool, where other processes work too; after an error; while closing

Goal = Literal["safe", "sent"]


def _loop() -> asyncio.AbstractEventLoop:
    """Return a loop without an epoll: a forked child would share it, and what the child closes would leave it."""
    return asyncio.SelectorEventLoop(getattr(selectors, "PollSelector", selectors.SelectSelector)())


@dataclass(slots=True)
class Waiter:
    """Waits until every event up to `mark` is in the spool, or has left; `position` is where they end there.

    The future's result is False when the thread has ended before.
    """

    goal: Goal
    mark: int
    position: int | None = None
    future: "Future[bool]" = field(default_factory=Future)

    def resolve(self, reached: bool) -> None:
        with suppress(InvalidStateError):  # it was given up, or resolved by another thread
            self.future.set_result(reached)


class Worker:
    """`put` and the `begin_` methods from any thread; the rest happens in a thread that starts with the first event."""

    def __init__(self, sender: Sender, *, limits: Limits, tally: Tally, spool: Spool | None) -> None:
        self.inbox = Inbox(limits.memory_bytes)
        self.tally = tally
        self.stopped: Future[bool] = Future()
        self.started = False
        self._sender = sender
        self._limits = limits
        self._spool = spool
        self._starting = threading.Lock()
        self._arrived, self._saved, self._hurry, self._end = Bell(), Bell(), Bell(), Bell()
        self._waiters: list[Waiter] = []
        self._closing = False
        self._stopping = False
        self._batch_events = MAX_BATCH_EVENTS  # fewer while looking for an event that does not fit

    def start(self) -> None:
        """Start the thread, once; never raises."""
        with self._starting:
            if self.started or self._closing:
                return
            try:
                threading.Thread(target=self._run, name="aitp-reporter", daemon=True).start()
                self.started = True
            except RuntimeError:  # no more threads, or the interpreter is ending
                self.tally.fail("the reporter's thread cannot be started")

    def put(self, item: bytes) -> None:
        """Queue an event; never blocks and never raises."""
        if not self.started:
            self.start()
        self.inbox.put(item)
        self._arrived.ring()

    def reach(self, goal: Goal) -> "Future[bool]":
        """Return a future that is done when what was reported so far is safe, or has left."""
        waiter = Waiter(goal, self.inbox.accepted)
        self._waiters.append(waiter)
        self._arrived.ring()
        self._hurry.ring()
        if not self.started or self.stopped.done():
            waiter.resolve(self.inbox.passed(waiter.mark))
        return waiter.future

    def begin_close(self) -> "Future[bool]":
        """Take no more events; return a future that is done when everything has left."""
        self._closing = True
        self.inbox.close()
        return self.reach("sent")

    def begin_stop(self) -> "Future[bool]":
        """Let the thread end, and return a future for that. What is left is saved, if there is a spool."""
        self._stopping = True
        self._end.ring()
        if not self.started and not self.stopped.done():
            self.stopped.set_result(True)
        return self.stopped

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=_loop) as runner:
                runner.run(self._main())
        except Exception as error:
            self._surprised(error)
        finally:
            with suppress(InvalidStateError):  # nobody waits any more
                self.stopped.set_result(True)
            for waiter in list(self._waiters):
                waiter.resolve(False)

    async def _main(self) -> None:
        steps = [self._forward] if self._spool is None else [self._forward, self._save]
        tasks = [asyncio.create_task(self._repeat(step)) for step in steps]
        self._end.listen()
        if not self._stopping:
            await self._end.wait()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._sender.close()
        if self._spool is not None:
            with suppress(sqlite3.Error, OSError):
                while self._save_some(self._spool):
                    pass
            self._spool.close()

    async def _repeat(self, step: Callable[[], Awaitable[None]]) -> None:
        """Take this step again and again, whatever happens in it."""
        while not self._stopping:
            try:
                await step()
                self._settle()
            except (sqlite3.Error, OSError) as error:
                self.tally.fail(f"the spool failed: {error}")
                await asyncio.sleep(TICK_SECS)
            except Exception as error:
                self._surprised(error)
                await asyncio.sleep(TICK_SECS)

    async def _save(self) -> None:
        """Move what is in the inbox to the spool, or wait for something."""
        assert self._spool is not None
        self._arrived.listen()
        if self._save_some(self._spool):
            self._saved.ring()
            await asyncio.sleep(0)
        else:
            self._settle()
            await self._arrived.wait()

    def _save_some(self, spool: Spool) -> bool:
        batch = self.inbox.head(SAVE_EVENTS, SAVE_BYTES)
        if not batch.items:
            return False
        dropped = spool.add(batch.items)
        self.inbox.remove(batch)
        self.tally.add(dropped=dropped)
        self._count_spool()
        return True

    async def _forward(self) -> None:
        """Send one batch, or wait for something to send."""
        batch = await self._next()
        if batch is None:
            return
        outcome = await self._sender.send(batch)
        if outcome.done:
            self._remove(batch)
            self._batch_events = min(self._batch_events * 2, MAX_BATCH_EVENTS)
        elif outcome.split:
            self._batch_events = len(batch.items) // 2
        else:
            await self._pause(outcome)

    async def _next(self) -> Batch | None:
        """Return the oldest events; None after waiting in vain."""
        bell, source = (self._arrived, self.inbox) if self._spool is None else (self._saved, self._spool)
        bell.listen()
        leads = self._spool is None or self._spool.leads()
        batch = source.head(self._batch_events, MAX_BATCH_BYTES) if leads else Batch([])
        if not batch.items:
            self._count_spool()
            self._settle()
            await bell.wait(None if self._spool is None else TICK_SECS)
            return None
        if batch.full or self._hurried():
            return batch
        await self._hurry.wait(self._limits.linger_secs)
        return source.head(self._batch_events, MAX_BATCH_BYTES)

    def _hurried(self) -> bool:
        """Return whether somebody waits for events to leave; if not, listen for one who does."""
        self._hurry.listen()
        return any(waiter.goal == "sent" or self._spool is None for waiter in self._waiters)

    def _remove(self, batch: Batch) -> None:
        if self._spool is None:
            self.inbox.remove(batch)
        else:
            self._spool.remove(batch)
            self._count_spool()

    def _count_spool(self) -> None:
        if self._spool is not None:
            self.tally.spooled = self._spool.size().events

    async def _pause(self, outcome: Outcome) -> None:
        """Wait before the next attempt. Who flushes gets one at once, unless the control plane asked for the pause."""
        if outcome.ordered:
            await asyncio.sleep(outcome.wait_secs)
            return
        self._hurry.listen()
        await self._hurry.wait(min(outcome.wait_secs, TICK_SECS) if self._closing else outcome.wait_secs)

    def _settle(self) -> None:
        """Tell those whose events are where they should be, once the counters say so too."""
        if self._waiters:
            self._count_spool()
        for waiter in list(self._waiters):
            if self._reached(waiter):
                self._waiters.remove(waiter)
                waiter.resolve(True)

    def _reached(self, waiter: Waiter) -> bool:
        if self._spool is None or not self.inbox.passed(waiter.mark):
            return self.inbox.passed(waiter.mark)
        if waiter.goal == "safe":
            return True
        if waiter.position is None:
            waiter.position = self._spool.size().newest
        return self._spool.passed(waiter.position)

    def _surprised(self, error: Exception) -> None:
        """A fault of this library must not become one of the agent."""
        log.error("reporter_failed error=%s", type(error).__name__, exc_info=error)
        self.tally.fail(f"the reporter failed: {type(error).__name__}")
