"""The overview and the per-agent table, from the projections (contract, section 10)."""

from datetime import datetime, timedelta

from aitp_cp.clock import EPOCH, iso
from aitp_cp.dashboard import store
from aitp_cp.dashboard.model import (
    DEFAULT_RANGE,
    RANGES,
    AgentActivities,
    BoundaryCount,
    BucketCount,
    Charts,
    HandshakeCounts,
    Kpis,
    Overview,
    Range,
    Totals,
)
from aitp_cp.db import Connection
from aitp_cp.db.keyset import Window
from aitp_cp.events import service as log
from aitp_cp.events.model import Invocations
from aitp_cp.sessions import service as sessions
from aitp_cp.sessions.model import SessionFilter, Status

RECENT_SESSIONS = 20
TOP_CAPABILITIES = 10
UNKNOWN_BOUNDARY = "unknown"


def chosen_range(name: str | None) -> Range:
    """The range of that name; anything else means 24 hours."""
    return RANGES.get(name or "", DEFAULT_RANGE)


async def overview(conn: Connection, span: Range, now: datetime) -> Overview:
    """Everything on the first screen, in a constant number of statements."""
    since = now - span.span
    totals = await store.totals(conn, now)
    counts = await store.handshakes(conn, since, span.bucket)
    invocations = await log.invocations(conn, since, TOP_CAPABILITIES)
    recent = await sessions.list_sessions(conn, SessionFilter(since=since), Window(RECENT_SESSIONS))
    return Overview(
        range=span.name,
        kpis=_kpis(totals, counts, invocations),
        recent_sessions=recent.sessions,
        charts=Charts(
            handshakes_by_boundary=_by_boundary(counts),
            handshakes_over_time=_over_time(counts, since, now, span.bucket),
            top_capabilities=invocations.top,
        ),
    )


async def agents(conn: Connection, now: datetime) -> AgentActivities:
    """Every agent with what it did, in the order of registration; at most a thousand."""
    return AgentActivities(await store.agents(conn, now))


def _kpis(totals: Totals, counts: HandshakeCounts, invocations: Invocations) -> Kpis:
    return Kpis(
        agents_registered=totals.agents,
        handshakes_total=totals.handshakes,
        handshakes_in_range=counts.by_status.total(),
        handshakes_success_in_range=counts.by_status[Status.COMPLETE],
        capability_invocations_in_range=invocations.total,
        active_sessions=totals.under_way,
        pending_webhook_deliveries=totals.pending_deliveries,
    )


def _by_boundary(counts: HandshakeCounts) -> list[BoundaryCount]:
    named = [BoundaryCount(boundary or UNKNOWN_BOUNDARY, count) for boundary, count in counts.by_boundary.items()]
    return sorted(named, key=lambda entry: (-entry.count, entry.boundary))


def _over_time(counts: HandshakeCounts, since: datetime, now: datetime, width: timedelta) -> list[BucketCount]:
    """One entry per bucket that the range touches, zero where nothing happened."""
    bucket = since - (since - EPOCH) % width
    filled = []
    while bucket <= now:
        filled.append(BucketCount(iso(bucket), counts.by_bucket[bucket]))
        bucket += width
    return filled
