"""The signed list as this process publishes it: always the last good one, never older than it may be (section 11).

A list is served from memory while nothing is known to have changed and it is younger than a minute. One task
renews it: at once after a change, in time before the minute is over, and again and again while it cannot. Events only
make it quick: once a second the task compares the version of the table, so a change without an event is found too.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any, TypeVar

import msgspec
import structlog

from aitp_cp.db import urgent
from aitp_cp.errors import RETRIABLE, DatabaseUnavailable, RevocationUnavailable
from aitp_cp.events.model import OWN_SOURCE, Event
from aitp_cp.revocation import signing, store
from aitp_cp.revocation.model import Signed, Stored
from aitp_cp.revocation.service import TCT_REVOKED
from aitp_cp.revocation.signing_process import SigningProcess
from aitp_cp.runtime import Runtime
from aitp_cp.web.headers import max_age
from aitp_cp.web.ready import Ready

T = TypeVar("T")
log = structlog.get_logger("aitp_cp.revocation")

RESIGN_SECS = 60.0
CACHED_SECS = 60
# Renewal begins early enough that no request ever finds the list too old.
RENEW_AT = 0.75
# The tail reads the log every second; when it does not, changes stay unknown, and this is how old a list may then be.
FOLLOWED_SECS = 2.0
UNFOLLOWED_SECS = 0.5
# How long a request waits for a renewal, and the database is given to say anything at all.
PATIENCE_SECS = 2.0
READ_SECS = 15.0
SIGN_SECS = 30.0
RETRY_SECS = 0.5
COMPARE_EVERY_SECS = 1.0


class Published(msgspec.Struct, frozen=True):
    """A signing, what was known to have changed when its reading began, and when that was on both clocks.

    `table` is the version of the table that it holds at least.
    """

    signed: Signed
    table: int
    version: tuple[int, int]
    read_at: datetime
    read_tick: float


class PublishedList:
    """One per process; `behind` gives the seconds since the tail last read the log to its end."""

    def __init__(self, rt: Runtime, behind: Callable[[], float]) -> None:
        settings = rt.settings
        self._rt = rt
        self._behind = behind
        self._ttl = settings.revocation_list_ttl_secs
        self._limit = float(min(settings.revocation_max_staleness_secs, self._ttl))
        self._period = max(1.0, min(RESIGN_SECS, self._limit))
        seed = settings.cp_aid_seed_hex
        self._signing = SigningProcess(seed.get_secret_value()) if seed else None
        self._current: Published | None = None
        self._ready: Ready | None = None
        self._ready_cached = ""
        self._seq = 0
        self._doubts = 0
        self._failures = 0
        self._has_read = False
        self._started_at = (rt.clock(), time.monotonic())
        self._bell = asyncio.Event()
        self._attempted = asyncio.Event()
        self._abandoned: set[asyncio.Task[Any]] = set()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Build the first list; to be called once the tail has its position, or a change could slip in between."""
        self._task = asyncio.create_task(self._run(), name="revocation-list")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
        if self._signing is not None:
            await asyncio.to_thread(self._signing.close)

    def on_events(self, events: Sequence[Event]) -> None:
        """What the tail calls with new events; reports by others never change the deny list."""
        for event in events:
            if event.type == TCT_REVOKED and event.source == OWN_SOURCE and event.seq is not None:
                self.changed(event.seq)

    def on_reset(self) -> None:
        """Called by the tail: the log was replaced, so positions seen so far say nothing of those to come."""
        self._seq = 0
        self.changed()

    def changed(self, seq: int | None = None) -> None:
        """The table changed with the log's event `seq`; None when it is not known whether or when it did."""
        if seq is None:
            self._doubts += 1
        elif seq > self._seq:
            self._seq = seq
        else:
            return
        self._bell.set()

    async def get(self) -> Signed:
        """The list to serve; raises `RevocationUnavailable` when there is none that may be served."""
        asked_at = time.monotonic()
        while not self._is_fresh(asked_at) and not self._is_failing():
            self._bell.set()
            if not await self._attempt_ends():
                break
        if self._current is None or not (self._is_fresh(asked_at) or self._age() < self._limit):
            raise RevocationUnavailable(headers={"Retry-After": "30"})
        return self._current.signed

    @property
    def answer(self) -> Ready:
        """The list that `get` has just given, as it is published."""
        assert self._ready is not None
        if self.cached != self._ready_cached:
            self._make_ready()
        return self._ready

    @property
    def cached(self) -> str:
        """What caches may do with the list: keep it no longer than it may be served and its signature holds."""
        return max_age(CACHED_SECS, self._limit - self._age())

    def peek(self) -> Ready | None:
        """The same without waiting, while it may be served as it is."""
        return self.answer if self._is_fresh(time.monotonic()) else None

    async def _attempt_ends(self) -> bool:
        """Wait for the renewal at hand; False when the database keeps it waiting for too long."""
        attempted = self._attempted
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_SECS):
                await attempted.wait()
        if not attempted.is_set() and not self._has_read:
            return False
        await attempted.wait()  # only signing is left, and that ends
        return True

    def _is_fresh(self, asked_at: float) -> bool:
        current = self._current
        if current is None:
            return False
        if current.read_tick >= asked_at:
            return True
        followed = self._behind() < FOLLOWED_SECS
        return current.version == self._version() and self._age() < (self._period if followed else UNFOLLOWED_SECS)

    def _is_failing(self) -> bool:
        """One failure may be a single broken connection, which the next attempt does not meet again."""
        return self._failures > 1

    def _version(self) -> tuple[int, int]:
        return self._doubts, self._seq

    def _age(self) -> float:
        """Seconds since the reading of the list began, by the clock that says more: one may be set, one may sleep."""
        current = self._current
        read_at, read_tick = (current.read_at, current.read_tick) if current else self._started_at
        return max((self._rt.clock() - read_at).total_seconds(), time.monotonic() - read_tick)

    async def _run(self) -> None:
        structlog.contextvars.clear_contextvars()
        while True:
            self._bell.clear()
            try:
                self._succeeded(await self._renewed())
            except Exception as failure:
                self._failed(failure)
            finally:
                attempted, self._attempted = self._attempted, asyncio.Event()
                attempted.set()
            await self._pause()

    async def _pause(self) -> None:
        """Until there is something to do; failures are retried at a pace of their own, the first one at once."""
        if self._failures:
            await asyncio.sleep(RETRY_SECS if self._is_failing() else 0)
            return
        while not self._bell.is_set() and self._age() < self._period * RENEW_AT:
            self._show_age()
            with suppress(TimeoutError):
                async with asyncio.timeout(min(COMPARE_EVERY_SECS, self._period * RENEW_AT)):
                    await self._bell.wait()
            if not self._bell.is_set() and await self._table_changed():
                self.changed()

    async def _table_changed(self) -> bool:
        """Whether the table has changed since it was read; False when the database does not say."""
        assert self._current is not None
        try:
            return await self._within(PATIENCE_SECS, self._table_version()) != self._current.table
        except (DatabaseUnavailable, TimeoutError):
            return False

    async def _table_version(self) -> int:
        async with self._rt.db.connection() as conn:
            return await store.version(conn)

    async def _renewed(self) -> Published:
        self._has_read = False
        version, read_at, read_tick = self._version(), self._rt.clock(), time.monotonic()
        await self._await_answer()
        stored = await self._within(READ_SECS, self._read())
        self._has_read = True
        return Published(await self._sign(stored.chunks), stored.version, version, read_at, read_tick)

    async def _await_answer(self) -> None:
        """Asked first, so that a silent database is noticed sooner than the longest list takes to read."""
        try:
            answers = await self._within(PATIENCE_SECS, self._rt.db.ping(READ_SECS))
        except TimeoutError:
            # The other end of the connections may be gone: none of them is to cost the next attempt its time.
            await self._rt.db.renew()
            raise
        if not answers:
            raise DatabaseUnavailable

    async def _read(self) -> Stored:
        with urgent():
            async with self._rt.db.connection() as conn:
                return await store.read_all(conn)

    async def _sign(self, chunks: Sequence[bytes]) -> Signed:
        if self._signing is not None and len(chunks) > 1:
            try:
                return await self._within(SIGN_SECS, asyncio.to_thread(self._signing.sign, chunks, self._ttl))
            except (OSError, EOFError):
                # A list that holds the process up is better than none.
                self._signing.kill()
                log.warning("the signing process failed: signing here")
        return await asyncio.to_thread(signing.sign, self._rt.signer, chunks, self._ttl)

    async def _within(self, secs: float, work: Coroutine[Any, Any, T]) -> T:
        """The result of `work`; raises `TimeoutError`, and then does not wait for it to clean up after itself."""
        task = asyncio.create_task(work)
        try:
            done, _ = await asyncio.wait({task}, timeout=secs)
        finally:
            if not task.done():
                task.cancel()
                self._abandoned.add(task)
                task.add_done_callback(self._forget)
        if not done:
            raise TimeoutError
        return task.result()

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._abandoned.discard(task)
        if not task.cancelled():
            task.exception()  # taken, or it would be reported as lost

    def _succeeded(self, published: Published) -> None:
        if self._failures:
            log.info("the revocation list is current again")
        self._current = published
        self._make_ready()
        self._failures = 0
        self._rt.metrics.revocation_unsigned_entries.set(published.signed.unsigned)
        self._show_age()

    def _make_ready(self) -> None:
        assert self._current is not None
        signed, self._ready_cached = self._current.signed, self.cached
        self._ready = Ready(signed.body, {"Cache-Control": self._ready_cached, "ETag": signed.etag})

    def _failed(self, failure: Exception) -> None:
        self._failures += 1
        self._show_age()
        if self._failures > 1:
            return
        if isinstance(failure, (*RETRIABLE, TimeoutError)):
            log.warning("the revocation list cannot be renewed: the database does not answer")
        else:
            log.exception("the revocation list cannot be renewed", exc_info=failure)

    def _show_age(self) -> None:
        self._rt.metrics.revocation_list_age.set(max(0.0, self._age()))
