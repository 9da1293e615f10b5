"""Runs the outbox in each process that runs shared jobs: woken by the tail, one process at a time does the work."""

from collections.abc import Callable, Sequence

from aitp_cp.deliveries import outbox
from aitp_cp.events.model import Event
from aitp_cp.jobs import Loop
from aitp_cp.protocol.vocabulary import DELIVERED_AS
from aitp_cp.runtime import Runtime

BUSY_SECS = 0.05  # until the next look while another process enqueues: it may die with what woke this one


class Enqueuer(Loop):
    """One per process; calls `on_enqueued` when there may be new deliveries."""

    poll_secs = 1.0  # how soon a process finds what a dead one left, and the cursor passes events without deliveries

    def __init__(self, rt: Runtime, on_enqueued: Callable[[], None]) -> None:
        super().__init__(rt, "deliveries.enqueue")
        self._on_enqueued = on_enqueued
        self._woken = False  # since the log was last followed to its end

    def on_events(self, events: Sequence[Event]) -> None:
        """For the tail: enqueue the deliveries of new events at once."""
        if any(event.type in DELIVERED_AS for event in events):
            self.on_reset()

    def on_reset(self) -> None:
        """For the tail: the log was replaced, and may end before the cursor."""
        self._woken = True
        self.wake()

    async def turn(self) -> float:
        """Follow the log to its end."""
        while not self.stopping:
            step = await outbox.step(self.rt.db)
            if step.enqueued:
                self._on_enqueued()
            if step.busy:
                return BUSY_SECS
            if not step.more:
                break
        if self._woken:  # another process may have enqueued what this one was woken for
            self._woken = False
            self._on_enqueued()
        return self.poll_secs
