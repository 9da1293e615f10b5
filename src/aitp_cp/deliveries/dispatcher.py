"""Sends deliveries: lease in one transaction, POST outside any, record in another (contract, section 12)."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from uuid import UUID, uuid4

import structlog

from aitp_cp.deliveries import queue
from aitp_cp.deliveries.attempt import DEADLINE_SECS, post
from aitp_cp.deliveries.model import Attempt, BreakerRule, Claim, Verdict
from aitp_cp.deliveries.recorder import Recorder, Terms
from aitp_cp.errors import RETRIABLE
from aitp_cp.outbound import GuardedClient
from aitp_cp.runtime import Runtime

log = structlog.get_logger("aitp_cp.deliveries")

AT_ONCE = 8
PER_WEBHOOK = 2
# A webhook whose last attempt here took so long has one place less, until an answer is quicker again or none has come
# for a while: it may be gone.
SLOW_SECS = DEADLINE_SECS / 2
SLOW_FOR_SECS = 600.0
# An attempt's deadline and a slow database: afterwards another process takes it for dead.
LEASE = timedelta(seconds=DEADLINE_SECS + 20)
# How soon what another process changed is noticed.
POLL_SECS = 5.0
# How soon a delivery that falls due is noticed while others are being sent.
BUSY_POLL_SECS = 0.25
# The next one is due already, so another process holds it.
CONTENDED_SECS = 0.1
PROBE_LOOK_SECS = 0.2
# A burst of events is one call.
GATHER_SECS = 0.01
DATABASE_RETRY_SECS = 1.0
SPREAD_BATCH = 500
STOP_SECS = DEADLINE_SECS + 5


class Dispatcher:
    """One per process; idle until started, asleep between due times."""

    def __init__(self, rt: Runtime, client: GuardedClient) -> None:
        settings = rt.settings
        self._rt = rt
        self._client = client
        reset = timedelta(milliseconds=settings.webhook_breaker_reset_ms)
        self._max_attempts = settings.webhook_retry_attempts
        self._spread = reset / 2
        self._bell = asyncio.Event()
        terms = Terms(self._max_attempts, BreakerRule(settings.webhook_breaker_failure_threshold, reset))
        self._recorder = Recorder(rt, terms, self._bell.set)
        self._ringing = False
        self._stopping = False
        self._in_flight: dict[asyncio.Task[None], UUID] = {}
        self._slow: dict[UUID, float] = {}  # when the slow answer came, by the loop's clock
        self._probe_look = 0.0
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="webhooks")

    def wake(self) -> None:
        """There may be something to send: do not wait for the next look."""
        if self._task is not None and not self._ringing:
            self._ringing = True
            asyncio.get_running_loop().call_later(GATHER_SECS, self._ring)

    async def stop(self) -> None:
        """Claim nothing more, let what is being sent be answered and recorded; leases bring back the rest."""
        self._stopping = True
        self._bell.set()
        if self._task is not None:
            await self._task
        if self._in_flight:
            await asyncio.wait(self._in_flight, timeout=STOP_SECS)
        await self._recorder.stop()

    def _ring(self) -> None:
        self._ringing = False
        self._bell.set()

    async def _run(self) -> None:
        structlog.contextvars.clear_contextvars()
        while not self._stopping:
            self._bell.clear()
            pause = await self._turn()
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._bell.wait()

    async def _turn(self) -> float:
        """Start what is due and fits; the seconds after which to look again, unless the bell rings."""
        try:
            if len(self._in_flight) >= AT_ONCE:
                return POLL_SECS  # whoever ends first rings
            attempts = await self._claim()
            for attempt in attempts:
                self._begin(attempt)
            return BUSY_POLL_SECS if attempts else await self._until_next_due()
        except RETRIABLE:
            log.warning("webhooks wait for the database")
            return DATABASE_RETRY_SECS
        except Exception:
            log.exception("webhooks cannot be sent")
            return POLL_SECS

    async def _claim(self) -> list[Attempt]:
        attempts: list[Attempt] = []
        async with self._rt.db.connection() as conn:
            claim = self._claim_for([])
            clock = asyncio.get_running_loop().time()
            if clock >= self._probe_look:
                self._probe_look = clock + PROBE_LOOK_SECS
                attempts = await queue.claim_probes(conn, claim)
                claim = self._claim_for(attempts)
            if claim.room > 0:
                attempts = [*attempts, *await queue.claim_due(conn, claim)]
        return attempts

    def _claim_for(self, taken: Sequence[Attempt]) -> Claim:
        return Claim(
            lease=LEASE,
            lease_token=uuid4(),
            room=AT_ONCE - len(self._in_flight) - len(taken),
            per_webhook=PER_WEBHOOK,
            max_attempts=self._max_attempts,
            in_flight=self._places(taken),
        )

    def _places(self, taken: Sequence[Attempt] = ()) -> Counter[UUID]:
        """How many of its places each webhook cannot use: those in flight, and one that slow answers have cost it."""
        since = asyncio.get_running_loop().time() - SLOW_FOR_SECS
        self._slow = {id: at for id, at in self._slow.items() if at > since}
        return Counter([*self._in_flight.values(), *(attempt.webhook_id for attempt in taken), *self._slow])

    async def _until_next_due(self) -> float:
        full = [id for id, n in self._places().items() if n >= PER_WEBHOOK]
        async with self._rt.db.connection() as conn:
            await queue.fail_used_up(conn, self._max_attempts, SPREAD_BATCH)
            await queue.spread_waiting(conn, SPREAD_BATCH, self._spread)
            secs = await queue.secs_to_next_due(conn, full)
        return POLL_SECS if secs is None else min(max(secs, CONTENDED_SECS), POLL_SECS)

    def _begin(self, attempt: Attempt) -> None:
        task = asyncio.create_task(self._deliver(attempt), name="webhook-attempt")
        self._in_flight[task] = attempt.webhook_id
        task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        del self._in_flight[task]
        self._bell.set()
        if not task.cancelled() and (failure := task.exception()) is not None:
            log.error("a webhook attempt broke off", exc_info=failure)

    async def _deliver(self, attempt: Attempt) -> None:
        rt = self._rt
        began = asyncio.get_running_loop().time()
        with rt.tracer.span("webhook delivery", {"webhook.event": attempt.event_type}):
            outcome = await post(self._client, attempt, rt.clock())
        ended = asyncio.get_running_loop().time()
        seconds = ended - began
        self._slow.pop(attempt.webhook_id, None)
        if seconds >= SLOW_SECS:
            self._slow[attempt.webhook_id] = ended
        rt.metrics.webhook_attempt_seconds.labels(outcome=outcome.verdict.value).observe(seconds)
        said = {"webhook": str(attempt.webhook_id), "delivery": str(attempt.id), "attempt": attempt.number}
        if outcome.verdict is Verdict.DELIVERED:
            log.debug("webhook delivered", **said)
        else:
            log.warning("webhook not delivered", **said, outcome=outcome.verdict.value, reason=outcome.error)
        self._recorder.add(attempt, outcome)
