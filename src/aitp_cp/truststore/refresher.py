"""Keeps the anchors' key sets fresh (contract, section 13); the set fetched last is kept through failures."""

from collections.abc import Sequence
from datetime import timedelta

import structlog

from aitp_cp.db import Connection
from aitp_cp.jobs import Done, LeasedLoop
from aitp_cp.outbound import GuardedClient, Refused, Unreachable
from aitp_cp.runtime import Runtime
from aitp_cp.truststore import jwks, store
from aitp_cp.truststore.model import Due

log = structlog.get_logger("aitp_cp.truststore")

RETRY = timedelta(seconds=60)  # after a failure, unless key sets are refreshed more often
LEASE_MARGIN = timedelta(seconds=30)  # beyond the two requests that a fetch may take: a slow database

Fetched = str | Exception  # the key set, or why there is none


class JwksRefresher(LeasedLoop[Due, Fetched]):
    """One per process; idle when JWKS_REFRESH_ENABLED is false."""

    def __init__(self, rt: Runtime, client: GuardedClient) -> None:
        super().__init__(rt, "truststore.jwks")
        self._client = client
        self._fetch_timeout = timedelta(milliseconds=rt.settings.jwks_fetch_timeout_ms)
        self._interval = timedelta(milliseconds=rt.settings.jwks_refresh_interval_ms)

    def start(self) -> None:
        if self.rt.settings.jwks_refresh_enabled:
            super().start()

    async def claim(self, conn: Connection, room: int) -> Sequence[Due]:
        return await store.claim_due(conn, 2 * self._fetch_timeout + LEASE_MARGIN, room)

    async def work(self, due: Due) -> Fetched:
        try:
            with self.rt.tracer.span(f"job {self.name}"):
                return await jwks.fetch(self._client, due.source, self._fetch_timeout.total_seconds())
        except (jwks.KeysUnusable, Refused, Unreachable) as failure:
            log.warning("key_set_not_fetched", anchor=str(due.id), reason=str(failure))
            return failure

    async def record(self, conn: Connection, done: Sequence[Done[Due, Fetched]]) -> None:
        for due, fetched in done:
            if isinstance(fetched, str):
                await store.keep_keys(conn, due, fetched, self._interval)
            else:
                await store.keep_failure(conn, due, str(fetched), min(self._interval, RETRY))
