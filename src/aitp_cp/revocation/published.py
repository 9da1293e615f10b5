"""The signed list as this process publishes it: always the last good one, never older than it may be (section 11).

One task renews it. Events only make that quick: once a second the task compares the version of the table, so it finds
a change without an event, too.

               start
                 |
                 v      read, signed
    +------> RENEWING -----------------> CURRENT: served from memory while `Freshness` allows
    |          |   ^                        |
    |   failed |   |  changed, due at three quarters of the period, or a request finds the list not fresh
    |          v   +------------------------+
    +------ FAILING: the first failure is retried at once, further ones every `RETRY_SECS`. Requests get the last
    retry            good list up to its limit, then 503.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

import msgspec
import structlog

from aitp_cp.db import urgent
from aitp_cp.db.bounded import within
from aitp_cp.db.failures import reason
from aitp_cp.errors import RETRIABLE, DatabaseUnavailable, RevocationUnavailable
from aitp_cp.events.model import Event
from aitp_cp.protocol.vocabulary import OWN_SOURCE, TCT_REVOKED
from aitp_cp.revocation import signing, store
from aitp_cp.revocation.freshness import Change, Freshness, Moment, Reading
from aitp_cp.revocation.holders import NONE
from aitp_cp.revocation.model import Signed, Standing, Stored
from aitp_cp.revocation.signing_process import SigningProcess
from aitp_cp.revocation.tags import ListTags
from aitp_cp.runtime import Runtime
from aitp_cp.web.responses import Response, json_bytes, max_age

log = structlog.get_logger("aitp_cp.revocation")

CACHED_SECS = 60
RESPONSE_SECS = 2.0  # for the database to respond at all, and for a request to wait for a renewal
READ_SECS = 15.0
SIGN_SECS = 30.0
RETRY_SECS = 0.5
COMPARE_SECS = 1.0


class PublishedList:
    """One per process; `behind` returns the seconds since the tail last read the log to its end."""

    def __init__(self, rt: Runtime, behind: Callable[[], float]) -> None:
        self._rt = rt
        self._behind = behind
        self._ttl = rt.settings.revocation_list_ttl_secs
        self._rule = Freshness.of(self._ttl, rt.settings.revocation_max_staleness_secs)
        seed = rt.settings.cp_aid_seed_hex
        self._tags = ListTags(rt.settings.enrollment_secret.get_secret_value().encode())
        self._signing = SigningProcess(seed.get_secret_value()) if seed else None
        self._started = self._now()
        self._current: tuple[Reading, Signed] | None = None
        self._response: tuple[str, Response] | None = None  # by its Cache-Control
        self._change = Change()
        self._failures = 0
        self._has_read = False
        self._bell = asyncio.Event()
        self._attempted = asyncio.Event()
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
        """Take the tail's new events; reports by others never change the deny list."""
        for event in events:
            if event.type == TCT_REVOKED and event.source == OWN_SOURCE and event.seq is not None:
                self.changed(event.seq)

    def on_reset(self) -> None:
        """Forget positions: the tail found another log."""
        self._change = self._change._replace(seq=0)
        self.changed()

    def changed(self, seq: int | None = None) -> None:
        """Renew the list: the table changed with the log's event `seq`, or None when it may have changed."""
        if seq is None:
            self._change = self._change._replace(without_event=self._change.without_event + 1)
        elif seq > self._change.seq:
            self._change = self._change._replace(seq=seq)
        else:
            return
        self._bell.set()

    async def get(self) -> Signed:
        """Return the list to serve; raises `RevocationUnavailable` when there is none that may be served."""
        requested = time.monotonic()
        while not self._is_fresh(requested) and self._failures < 2:  # one failure may be a single broken connection
            self._bell.set()
            if not await self._attempt_ends():
                break
        if self._current is None or not (self._is_fresh(requested) or self._age() < self._rule.limit):
            raise RevocationUnavailable(headers={"Retry-After": "30"})
        return self._current[1]

    @property
    def response(self) -> Response:
        """The list that `get` has just returned, as it is published."""
        assert self._current is not None
        cached = self.cached
        if self._response is None or self._response[0] != cached:
            signed = self._current[1]
            self._response = cached, json_bytes(signed.body, headers={"Cache-Control": cached, "ETag": signed.etag})
        return self._response[1]

    def proven(self, if_none_match: Sequence[str]) -> int:
        """Return the version that a request proves to hold, or `NONE`."""
        version = self._tags.read(if_none_match) if if_none_match else None
        return NONE if version is None else version

    @property
    def cached(self) -> str:
        """Cache-Control: caches keep the list no longer than it may be served and its signature holds."""
        return max_age(CACHED_SECS, self._rule.limit - self._age())

    def standing(self) -> Standing:
        """Return how the list stands, without asking anything."""
        signed = None if self._current is None else self._current[1]
        return Standing(
            exists=signed is not None,
            age_secs=self._age(),
            limit_secs=self._rule.limit,
            failing=self._failures > 1,
            unsigned=0 if signed is None else signed.unsigned,
            version=None if signed is None else signed.version,
            etag=None if signed is None else signed.etag,
            bytes=0 if signed is None else len(signed.body),
        )

    async def _attempt_ends(self) -> bool:
        """Wait for the renewal that is under way; False when the database keeps it waiting for too long."""
        attempted = self._attempted
        with suppress(TimeoutError):
            async with asyncio.timeout(RESPONSE_SECS):
                await attempted.wait()
        if not attempted.is_set() and not self._has_read:
            return False
        await attempted.wait()  # only signing is left, and that ends
        return True

    def _is_fresh(self, requested: float) -> bool:
        if self._current is None:
            return False
        reading = self._current[0]
        read_since = reading.at.tick >= requested
        return read_since or self._rule.is_fresh(reading, self._change, self._now(), self._behind())

    def _now(self) -> Moment:
        return Moment(self._rt.clock(), time.monotonic())

    def _age(self) -> float:
        """Return the seconds since the list was read, or since the start."""
        read = self._current[0].at if self._current else self._started
        return read.secs_until(self._now())

    async def _run(self) -> None:
        structlog.contextvars.clear_contextvars()
        while True:
            self._bell.clear()
            try:
                self._publish(*await self._renew())
            except Exception as failure:
                self._record_failure(failure)
            finally:
                attempted, self._attempted = self._attempted, asyncio.Event()
                attempted.set()
            if self._failures:
                await asyncio.sleep(RETRY_SECS if self._failures > 1 else 0)
            else:
                await self._until_due()

    async def _until_due(self) -> None:
        while not self._bell.is_set() and self._age() < self._rule.due_secs:
            self._show_age()
            with suppress(TimeoutError):
                async with asyncio.timeout(min(COMPARE_SECS, self._rule.due_secs)):
                    await self._bell.wait()
            if not self._bell.is_set() and await self._table_changed():
                self.changed()

    async def _table_changed(self) -> bool:
        """Return whether the table has changed since it was read; False when the database does not respond."""
        assert self._current is not None
        try:
            return await within(RESPONSE_SECS, self._table_version()) != self._current[0].table
        except (DatabaseUnavailable, TimeoutError):
            return False

    async def _table_version(self) -> int:
        async with self._rt.db.connection() as conn:
            return await store.version(conn)

    async def _renew(self) -> tuple[Reading, Signed]:
        self._has_read = False
        change, at = self._change, self._now()
        await self._ping()
        stored = await within(READ_SECS, self._read())
        self._has_read = True
        signed = await self._sign(stored.chunks)
        tag = self._tags.mint(stored.version, signed.body_sha256)
        return Reading(at, change, stored.version), msgspec.structs.replace(signed, etag=tag, version=stored.version)

    async def _ping(self) -> None:
        """Notice a silent database sooner than the longest list takes to read."""
        try:
            responds = await within(RESPONSE_SECS, self._rt.db.ping(READ_SECS))
        except TimeoutError:
            # The other end of the connections may be gone: none of them is to cost the next attempt its time.
            await self._rt.db.renew()
            raise
        if not responds:
            raise DatabaseUnavailable

    async def _read(self) -> Stored:
        with urgent():
            async with self._rt.db.connection() as conn:
                return await store.read_all(conn)

    async def _sign(self, chunks: Sequence[bytes]) -> Signed:
        if self._signing is not None and len(chunks) > 1:
            try:
                return await within(SIGN_SECS, asyncio.to_thread(self._signing.sign, chunks, self._ttl))
            except (OSError, EOFError):
                # A list that holds the process up is better than none.
                self._signing.kill()
                log.warning("revocation_signing_process_failed")
        return await asyncio.to_thread(signing.sign, self._rt.signer, chunks, self._ttl)

    def _publish(self, reading: Reading, signed: Signed) -> None:
        if self._failures:
            log.info("revocation_list_current_again")
        self._current, self._response, self._failures = (reading, signed), None, 0
        self._rt.metrics.revocation_unsigned_entries.set(signed.unsigned)
        self._show_age()

    def _record_failure(self, failure: Exception) -> None:
        self._failures += 1
        self._show_age()
        if self._failures > 1:
            return
        if isinstance(failure, (*RETRIABLE, TimeoutError)):
            log.warning("revocation_list_renewal_failed", reason=reason(failure))
        else:
            log.exception("revocation_list_renewal_failed", exc_info=failure)

    def _show_age(self) -> None:
        self._rt.metrics.revocation_list_age.set(self._age())
