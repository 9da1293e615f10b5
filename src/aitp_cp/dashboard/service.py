"""The overview and the per-agent table, from the projections (contract, section 10)."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime

from aitp_cp.clock import iso, iso_or_none
from aitp_cp.dashboard import store
from aitp_cp.dashboard.model import (
    DEFAULT_RANGE,
    RANGES,
    Activity,
    AgentActivities,
    AgentActivity,
    BoundaryCount,
    BucketCount,
    Charts,
    Kpis,
    Overview,
    Range,
)
from aitp_cp.db import Connection
from aitp_cp.db.keyset import Window
from aitp_cp.deliveries import store as deliveries
from aitp_cp.events import service as log
from aitp_cp.registry import store as registry
from aitp_cp.registry.model import AgentSummary
from aitp_cp.sessions import store as sessions
from aitp_cp.sessions.model import SessionCount, SessionFilter, Status

RECENT_SESSIONS = 20
TOP_CAPABILITIES = 10
UNKNOWN_BOUNDARY = "unknown"


def chosen_range(name: str | None) -> Range:
    """Return the range of that name; anything else means 24 hours."""
    return RANGES.get(name or "", DEFAULT_RANGE)


async def overview(conn: Connection, span: Range, now: datetime) -> Overview:
    """Return everything on the first screen, in a constant number of statements."""
    since = now - span.span
    handshakes, under_way = await store.sessions(conn)
    counts = await sessions.count_since(conn, since, span.bucket)
    invocations = await log.invocations(conn, since, TOP_CAPABILITIES)
    return Overview(
        range=span.name,
        kpis=Kpis(
            agents_registered=await registry.count_active(conn, now),
            handshakes_total=handshakes,
            handshakes_in_range=sum(row.count for row in counts),
            handshakes_success_in_range=sum(row.count for row in counts if row.status == Status.COMPLETE),
            capability_invocations_in_range=invocations.total,
            active_sessions=under_way,
            pending_webhook_deliveries=await deliveries.count_unfinished(conn),
        ),
        recent_sessions=(await sessions.list_sessions(conn, SessionFilter(since=since), Window(RECENT_SESSIONS)))
        .read()
        .sessions,
        charts=Charts(
            handshakes_by_boundary=_by_boundary(counts),
            handshakes_over_time=_over_time(counts, span.starts(now)),
            top_capabilities=invocations.top,
        ),
    )


async def agents(conn: Connection, window: Window, now: datetime) -> AgentActivities:
    """Return a page of all agents with what each did, in the order of registration."""
    page, next_before = await registry.summaries(conn, now, window)
    activities = await store.of_agents(conn, [agent.aid for agent in page])
    shown = [_activity(agent, activities.get(agent.aid) or Activity(agent.aid)) for agent in page]
    return AgentActivities(shown, next_before)


def _activity(agent: AgentSummary, activity: Activity) -> AgentActivity:
    return AgentActivity(
        aid=agent.aid,
        display_name=agent.display_name,
        status=agent.status,
        registered_at=iso(agent.registered_at),
        last_seen_at=iso_or_none(agent.last_seen_at),
        handshakes_as_initiator=activity.initiated,
        handshakes_as_responder=activity.answered,
        capability_invocations=activity.invoked,
        unsigned_reports=agent.unsigned_reports,
        last_unsigned_report_at=iso_or_none(agent.last_unsigned_report_at),
    )


def _by_boundary(counts: Sequence[SessionCount]) -> list[BoundaryCount]:
    totals: Counter[str] = Counter()
    for row in counts:
        totals[row.boundary or UNKNOWN_BOUNDARY] += row.count
    return sorted((BoundaryCount(*entry) for entry in totals.items()), key=lambda entry: (-entry.count, entry.boundary))


def _over_time(counts: Sequence[SessionCount], starts: Sequence[datetime]) -> list[BucketCount]:
    """Return one entry per bucket, zero where nothing happened."""
    totals: Counter[datetime] = Counter()
    for row in counts:
        totals[row.bucket] += row.count
    return [BucketCount(iso(start), totals[start]) for start in starts]
