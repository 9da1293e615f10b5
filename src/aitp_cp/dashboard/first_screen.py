"""The figures of the console's first screen, with what they were over a range of time (contract, section 22)."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec

from aitp_cp.dashboard import store
from aitp_cp.dashboard.model import Range
from aitp_cp.db import Connection
from aitp_cp.deliveries import store as deliveries
from aitp_cp.registry import standing
from aitp_cp.registry import store as registry
from aitp_cp.revocation import store as revocation
from aitp_cp.runtime import Runtime
from aitp_cp.sessions import store as sessions
from aitp_cp.sessions.model import SessionCount, Status
from aitp_cp.tcts import edges
from aitp_cp.web.memo import Memo

SHARED_FOR_SECS = 2.0


class Bucket(msgspec.Struct, frozen=True):
    """Handshakes that took place from `since` to `until`."""

    since: datetime
    until: datetime
    complete: int
    failed: int
    open: int

    @property
    def total(self) -> int:
        return self.complete + self.failed + self.open


class FirstScreen(msgspec.Struct, frozen=True):
    """`agents_new` and `revoked` count per bucket of the range; `live_tokens` ends at `edges.MAX_LIVE`."""

    agents: int
    agents_new: list[int]
    handshakes: list[Bucket]
    handshakes_total: int
    open_sessions: int
    live_tokens: int
    revoked: list[int]
    waiting_deliveries: int

    @property
    def totals(self) -> list[int]:
        return [bucket.total for bucket in self.handshakes]

    @property
    def revoked_total(self) -> int:
        return sum(self.revoked)

    @property
    def in_range(self) -> int:
        return sum(self.totals)

    @property
    def success(self) -> float | None:
        """The share of the handshakes that ended which ended well; None while none did."""
        ended = sum(bucket.complete + bucket.failed for bucket in self.handshakes)
        return sum(bucket.complete for bucket in self.handshakes) / ended if ended else None


class FirstScreens(Memo[FirstScreen]):
    """The latest figures by range, shared by everyone who looks."""

    def __init__(self) -> None:
        super().__init__(SHARED_FOR_SECS, 2**20)


async def first_screen(rt: Runtime, span: Range) -> FirstScreen:
    """Return the figures of a range that ends now."""
    now = rt.clock()
    return await rt.get(FirstScreens).get(span.name, lambda: rt.db.read(lambda conn: _read(conn, span, now)))


async def _read(conn: Connection, span: Range, now: datetime) -> FirstScreen:
    since, width = now - span.span, span.bucket
    total, under_way = await store.sessions(conn)
    starts = span.starts(now)
    new = await standing.registered_since(conn, since, width)
    revoked = await revocation.revoked_since(conn, since, width)
    return FirstScreen(
        agents=await registry.count_active(conn, now),
        agents_new=[new.get(start, 0) for start in starts],
        handshakes=_buckets(await sessions.count_since(conn, since, width), starts, width),
        handshakes_total=total,
        open_sessions=under_way,
        live_tokens=await edges.count_live(conn, now),
        revoked=[revoked.get(start, 0) for start in starts],
        waiting_deliveries=await deliveries.count_unfinished(conn),
    )


def _buckets(counts: Sequence[SessionCount], starts: Sequence[datetime], width: timedelta) -> list[Bucket]:
    by_status: dict[str, Counter[datetime]] = {status: Counter() for status in Status}
    for row in counts:
        by_status.get(row.status, by_status[Status.STARTED])[row.bucket] += row.count
    return [
        Bucket(
            since=start,
            until=start + width,
            complete=by_status[Status.COMPLETE][start],
            failed=by_status[Status.FAILED][start],
            open=by_status[Status.STARTED][start],
        )
        for start in starts
    ]
