"""Keeps the anchors' key sets fresh (contract, section 13).

Anchors that are due are claimed in a short transaction, fetched outside any, and stored in another, so replicas
share the work and no connection waits for somebody else's server. What was fetched last is kept through failures.
"""

import asyncio
from contextlib import suppress
from datetime import timedelta

import structlog

from aitp_cp.errors import RETRIABLE
from aitp_cp.outbound import GuardedClient, Refused, Unreachable
from aitp_cp.runtime import Runtime
from aitp_cp.truststore import jwks, store
from aitp_cp.truststore.model import Due

log = structlog.get_logger("aitp_cp.truststore")

JOB = "truststore.jwks"
# How soon what another process changed is noticed.
POLL_SECS = 5.0
RETRY_SECS = 60.0
# One slow provider must not hold up the others.
AT_ONCE = 8
LEASE_MARGIN_SECS = 30.0
STOP_SECS = 10.0


class JwksRefresher:
    """One task per process; idle when JWKS_REFRESH_ENABLED is false."""

    def __init__(self, rt: Runtime, client: GuardedClient) -> None:
        self._rt = rt
        self._client = client
        self._bell = asyncio.Event()
        self._stopping = False
        self._fetching: set[asyncio.Task[None]] = set()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        if self._rt.settings.jwks_refresh_enabled:
            self._task = asyncio.create_task(self._run(), name=f"job:{JOB}")

    def wake(self) -> None:
        """There is a new or changed anchor: do not wait for the next look."""
        self._bell.set()

    async def stop(self) -> None:
        """Let the fetches at hand finish, for a while."""
        self._stopping = True
        self._bell.set()
        if self._task is None:
            return
        await asyncio.wait({self._task}, timeout=STOP_SECS)  # claims nothing more, and waits for nobody's server
        at_hand = {self._task, *self._fetching}
        await asyncio.wait(at_hand, timeout=STOP_SECS)
        for task in at_hand:
            task.cancel()
        await asyncio.wait(at_hand)

    async def _run(self) -> None:
        structlog.contextvars.clear_contextvars()
        while not self._stopping:
            self._bell.clear()
            try:
                with self._rt.tracer.span(f"job {JOB}"):
                    await self._begin_due()
            except RETRIABLE:
                log.warning("job waits for the database", job=JOB)
            except Exception:
                log.exception("job failed", job=JOB)
            else:
                self._rt.metrics.job_last_success.labels(job=JOB).set(self._rt.clock().timestamp())
            with suppress(TimeoutError):
                await asyncio.wait_for(self._bell.wait(), POLL_SECS)

    async def refresh_due(self) -> None:
        """Return once every key set has been fetched that was due and that no other replica was fetching."""
        while await self._begin_due():
            await asyncio.wait(self._fetching)

    async def _begin_due(self) -> bool:
        """Start fetching what is due and fits; whether that was anything. Whoever ends makes room and rings."""
        room = AT_ONCE - len(self._fetching)
        if room <= 0:
            return False
        lease = timedelta(milliseconds=2 * self._rt.settings.jwks_fetch_timeout_ms, seconds=LEASE_MARGIN_SECS)
        async with self._rt.db.transaction() as conn:
            due = await store.claim_due(conn, lease, room)
        for one in due:
            task = asyncio.create_task(self._refresh(one), name="jwks-fetch")
            self._fetching.add(task)
            task.add_done_callback(self._ended)
        return bool(due)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._fetching.discard(task)
        self._bell.set()
        if not task.cancelled() and (failure := task.exception()) is not None:
            log.error("a key set could not be kept", exc_info=failure)

    async def _refresh(self, due: Due) -> None:
        settings = self._rt.settings
        interval = timedelta(milliseconds=settings.jwks_refresh_interval_ms)
        try:
            text = await jwks.fetch(self._client, due.source, settings.jwks_fetch_timeout_ms / 1000)
        except (jwks.KeysUnusable, Refused, Unreachable) as failure:
            log.warning("a key set could not be fetched", anchor=str(due.id), reason=str(failure))
            async with self._rt.db.transaction() as conn:
                await store.keep_failure(conn, due, str(failure), min(interval, timedelta(seconds=RETRY_SECS)))
            return
        async with self._rt.db.transaction() as conn:
            await store.keep_keys(conn, due, text, interval)
