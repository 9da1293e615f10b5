"""Sends deliveries: lease in one transaction, POST outside any, record in another (contract, section 12)."""

import time
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

import msgspec
import structlog

from aitp_cp.db import Connection
from aitp_cp.deliveries import queue, results
from aitp_cp.deliveries.attempt import DEADLINE_SECS, post
from aitp_cp.deliveries.model import Attempt, Claim, Outcome, Rules, Verdict
from aitp_cp.deliveries.queue import LEASE
from aitp_cp.jobs import Done, LeasedLoop
from aitp_cp.outbound import GuardedClient
from aitp_cp.runtime import Runtime

log = structlog.get_logger("aitp_cp.deliveries")

# A webhook whose last attempt here took this long has one slot less, until a response is quicker or none has come for
# a while.
SLOW_SECS = DEADLINE_SECS / 2
SLOW_FOR_SECS = 600.0
PROBE_LOOK_SECS = 0.2  # between two looks for breakers that may let a probe through
CONTENDED_SECS = 0.1  # until the next look when something is due already: another process holds it
SPREAD_BATCH = 500


class Dispatcher(LeasedLoop[Attempt, Outcome]):
    """One per process; idle until started, asleep between due times."""

    drain_secs = DEADLINE_SECS + 5

    def __init__(self, rt: Runtime, client: GuardedClient) -> None:
        super().__init__(rt, "deliveries.send")
        settings = rt.settings
        reset = timedelta(milliseconds=settings.webhook_breaker_reset_ms)
        self._rules = Rules(settings.webhook_retry_attempts, settings.webhook_breaker_failure_threshold, reset)
        self._client = client
        self._slow: dict[UUID, float] = {}  # when the slow response came, on the monotonic clock
        # A failed attempt keeps its slot until it is recorded or its lease ends: claims would outrun the breaker.
        self._failed: dict[UUID, tuple[UUID, float]] = {}  # by delivery: the webhook, and when
        self._probe_look = 0.0

    async def claim(self, conn: Connection, room: int) -> Sequence[Attempt]:
        attempts: list[Attempt] = []
        now = time.monotonic()
        if now >= self._probe_look:
            self._probe_look = now + PROBE_LOOK_SECS
            attempts = await queue.claim_probes(conn, Claim(room, self._rules.max_attempts, self._slots_in_use()))
        if len(attempts) < room:
            claim = Claim(room - len(attempts), self._rules.max_attempts, self._slots_in_use(attempts))
            attempts += await queue.claim_due(conn, claim)
        return attempts

    async def work(self, attempt: Attempt) -> Outcome:
        began = time.monotonic()
        with self.rt.tracer.span("webhook delivery", {"webhook.event": attempt.event_type}):
            outcome = await post(self._client, attempt, self.rt.clock())
        seconds = time.monotonic() - began
        self._slow.pop(attempt.webhook_id, None)
        if seconds >= SLOW_SECS:
            self._slow[attempt.webhook_id] = time.monotonic()
        self.rt.metrics.webhook_attempt_seconds.labels(outcome=outcome.verdict.value).observe(seconds)
        fields = {"webhook": str(attempt.webhook_id), "delivery": str(attempt.id), "attempt": attempt.number}
        outcome = msgspec.structs.replace(outcome, ms=round(seconds * 1000))
        if outcome.verdict is Verdict.DELIVERED:
            log.debug("webhook_delivered", **fields)
        else:
            self._failed[attempt.id] = (attempt.webhook_id, time.monotonic())
            log.warning("webhook_not_delivered", **fields, outcome=outcome.verdict.value, reason=outcome.error)
        return outcome

    async def record(self, conn: Connection, done: Sequence[Done[Attempt, Outcome]]) -> None:
        try:
            await results.record(conn, done, self._rules)
        finally:
            for attempt, _ in done:
                self._failed.pop(attempt.id, None)
        if any(outcome.verdict is not Verdict.DELIVERED for _, outcome in done):
            self.wake()  # there is a new due time

    async def secs_to_next(self, conn: Connection) -> float:
        await queue.fail_used_up(conn, self._rules.max_attempts, SPREAD_BATCH)
        await queue.spread_waiting(conn, SPREAD_BATCH, self._rules.breaker_reset / 2)
        secs = await queue.secs_to_next_due(conn, self._slots_in_use())
        return self.poll_secs if secs is None else min(max(secs, CONTENDED_SECS), self.poll_secs)

    def _slots_in_use(self, taken: Sequence[Attempt] = ()) -> Counter[UUID]:
        """Count for each webhook its attempts here, those just `taken` too, and a slot that a slow one may not use."""
        now = time.monotonic()
        self._slow = {id: at for id, at in self._slow.items() if at > now - SLOW_FOR_SECS}
        failed = ((id, webhook) for id, (webhook, at) in self._failed.items() if at > now - LEASE.total_seconds())
        attempts = dict(failed) | {attempt.id: attempt.webhook_id for attempt in (*self.in_flight, *taken)}
        return Counter([*attempts.values(), *self._slow])
