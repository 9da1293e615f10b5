"""The overview and the per-agent table (contract, section 10)."""

from datetime import timedelta
from typing import Annotated

import msgspec
from msgspec import Meta

from aitp_cp.events.model import CapabilityCount
from aitp_cp.sessions.model import SessionView


class Range(msgspec.Struct, frozen=True):
    """A span of time ending now, and the width of its chart's buckets."""

    name: str
    span: timedelta
    bucket: timedelta


RANGES = {
    "1h": Range("1h", timedelta(hours=1), timedelta(minutes=1)),
    "24h": Range("24h", timedelta(hours=24), timedelta(hours=1)),
    "7d": Range("7d", timedelta(days=7), timedelta(days=1)),
    "30d": Range("30d", timedelta(days=30), timedelta(days=1)),
}
DEFAULT_RANGE = RANGES["24h"]


class OverviewQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Any other range means the default."""

    range: Annotated[str | None, Meta(description="`24h` by default", extra_json_schema={"enum": list(RANGES)})] = None
    window: Annotated[
        str | None, Meta(description="another name of `range`", extra_json_schema={"enum": list(RANGES)})
    ] = None


class Kpis(msgspec.Struct, frozen=True, rename="camel"):
    agents_registered: int
    handshakes_total: int
    handshakes_in_range: int
    handshakes_success_in_range: int
    capability_invocations_in_range: int
    active_sessions: int
    pending_webhook_deliveries: int


class BoundaryCount(msgspec.Struct, frozen=True):
    boundary: str
    count: int


class BucketCount(msgspec.Struct, frozen=True):
    bucket: str
    count: int


class Charts(msgspec.Struct, frozen=True, rename="camel"):
    handshakes_by_boundary: list[BoundaryCount]
    handshakes_over_time: list[BucketCount]
    top_capabilities: list[CapabilityCount]


class AgentActivity(msgspec.Struct, frozen=True, rename="camel"):
    aid: str
    display_name: str
    status: str
    registered_at: str
    last_seen_at: str | None
    handshakes_as_initiator: int
    handshakes_as_responder: int
    capability_invocations: int
    unsigned_reports: int
    last_unsigned_report_at: str | None


class AgentActivities(msgspec.Struct, frozen=True):
    agents: list[AgentActivity]


class Activity(msgspec.Struct, frozen=True):
    """What the agent `name` did, as counted."""

    name: str
    initiated: int = 0
    answered: int = 0
    invoked: int = 0


class Overview(msgspec.Struct, frozen=True, rename="camel"):
    range: str
    kpis: Kpis
    recent_sessions: list[SessionView]
    charts: Charts
