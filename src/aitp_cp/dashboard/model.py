"""The overview and the per-agent table (contract, section 10)."""

from datetime import datetime, timedelta
from typing import Literal

import msgspec

from aitp_cp.sessions.model import SessionView

Unit = Literal["minute", "hour", "day"]


class Range(msgspec.Struct, frozen=True):
    """A span of time ending now, and the width of its chart's buckets."""

    name: str
    span: timedelta
    unit: Unit


RANGES = {
    "1h": Range("1h", timedelta(hours=1), "minute"),
    "24h": Range("24h", timedelta(hours=24), "hour"),
    "7d": Range("7d", timedelta(days=7), "day"),
    "30d": Range("30d", timedelta(days=30), "day"),
}
DEFAULT_RANGE = RANGES["24h"]


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


class CapabilityCount(msgspec.Struct, frozen=True):
    capability: str
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


class AgentActivities(msgspec.Struct, frozen=True):
    agents: list[AgentActivity]


class HandshakeCounts(msgspec.Struct, frozen=True):
    """One pass over the sessions of the range, counted three ways."""

    by_status: dict[str, int]
    by_boundary: dict[str | None, int]
    by_bucket: dict[datetime, int]


class Totals(msgspec.Struct, frozen=True):
    """What is so now, whatever the range."""

    agents: int
    handshakes: int
    under_way: int
    pending_deliveries: int


class Overview(msgspec.Struct, frozen=True, rename="camel"):
    range: str
    kpis: Kpis
    recent_sessions: list[SessionView]
    charts: Charts
