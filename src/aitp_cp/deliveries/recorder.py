"""Keeps how attempts ended: those waiting at a moment share one write, so a fast receiver costs few commits."""

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import NamedTuple

import structlog

from aitp_cp.db import Connection
from aitp_cp.deliveries import results
from aitp_cp.deliveries.model import Attempt, BreakerRule, DeliveryStatus, Outcome, Setback, Verdict
from aitp_cp.deliveries.retry import pause
from aitp_cp.errors import RETRIABLE
from aitp_cp.runtime import Runtime

log = structlog.get_logger("aitp_cp.deliveries")

# Until the lease ends nobody else takes the row, so there is time to wait for a database that is away.
RETRY_SECS = (0.2, 0.5, 1.0, 2.0, 4.0)


class Ended(NamedTuple):
    attempt: Attempt
    outcome: Outcome


class Terms(NamedTuple):
    """Attempts a delivery has, when breakers open, and random numbers in [0, 1) for the pauses."""

    max_attempts: int
    breaker: BreakerRule
    roll: Callable[[], float] = random.random


class Recorder:
    """One writer per process, running while there is something to write; `on_setback` hears of new due times."""

    def __init__(self, rt: Runtime, terms: Terms, on_setback: Callable[[], None]) -> None:
        self._rt = rt
        self._terms = terms
        self._on_setback = on_setback
        self._waiting: list[Ended] = []
        self._task: asyncio.Task[None] | None = None

    def add(self, attempt: Attempt, outcome: Outcome) -> None:
        self._waiting.append(Ended(attempt, outcome))
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="webhook-recorder")

    async def stop(self) -> None:
        """Until everything is written, or given up for want of a database."""
        if self._task is not None:
            await self._task

    async def _run(self) -> None:
        try:
            while self._waiting:
                group, self._waiting = self._waiting, []
                await self._write(group)
        finally:
            self._task = None

    async def _write(self, group: Sequence[Ended]) -> None:
        for secs in RETRY_SECS:
            try:
                async with self._rt.db.connection() as conn:
                    await record(conn, group, self._terms)
                if any(one.outcome.verdict is not Verdict.DELIVERED for one in group):
                    self._on_setback()
                return
            except RETRIABLE:
                await asyncio.sleep(secs)
            except Exception:
                log.exception("the outcome of webhook attempts could not be recorded")
                return
        log.warning("the outcome of webhook attempts is lost: they will be repeated", attempts=len(group))


async def record(conn: Connection, group: Sequence[Ended], terms: Terms) -> None:
    """Each statement may be repeated; none has an effect on a row that another process has leased meanwhile."""
    delivered = [one for one in group if one.outcome.verdict is Verdict.DELIVERED]
    if delivered:
        await results.record_delivered(conn, [(one.attempt, one.outcome) for one in delivered])
    for attempt, outcome in group:
        match outcome.verdict:
            case Verdict.FAILED:
                await results.record_failed(conn, attempt, setback(attempt, outcome, terms), terms.breaker)
            case Verdict.REFUSED:
                await results.record_refused(conn, attempt, outcome)
            case Verdict.GONE:
                await results.record_gone(conn, attempt, outcome)


def setback(attempt: Attempt, outcome: Outcome, terms: Terms) -> Setback:
    """Wait and try again, or after the last attempt fail for good."""
    if attempt.number >= terms.max_attempts:
        return Setback(DeliveryStatus.FAILED, outcome.status_code, outcome.error, None)
    again = pause(attempt.number, outcome.retry_after_secs, terms.roll())
    return Setback(DeliveryStatus.PENDING, outcome.status_code, outcome.error, again)
