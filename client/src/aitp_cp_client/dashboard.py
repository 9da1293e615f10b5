"""The overview and the per-agent table."""

from datetime import datetime
from typing import Literal

import msgspec

from aitp_cp_client.sessions import Session
from aitp_cp_client.transport import Transport

Range = Literal["1h", "24h", "7d", "30d"]


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
    bucket: datetime
    count: int


class CapabilityCount(msgspec.Struct, frozen=True):
    capability: str
    count: int


class Charts(msgspec.Struct, frozen=True, rename="camel"):
    handshakes_by_boundary: list[BoundaryCount]
    handshakes_over_time: list[BucketCount]
    top_capabilities: list[CapabilityCount]


class Overview(msgspec.Struct, frozen=True, rename="camel"):
    range: str
    kpis: Kpis
    recent_sessions: list[Session]
    charts: Charts


class AgentActivity(msgspec.Struct, frozen=True, rename="camel"):
    aid: str
    display_name: str
    status: str
    registered_at: datetime
    last_seen_at: datetime | None
    handshakes_as_initiator: int
    handshakes_as_responder: int
    capability_invocations: int
    unsigned_reports: int = 0  # with a key that others hold as well, while the server counts them (`TELEMETRY=warn`)
    last_unsigned_report_at: datetime | None = None


class _Activities(msgspec.Struct):
    agents: list[AgentActivity]


class Dashboard:
    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def overview(self, range: Range = "24h") -> Overview:
        return await self._transport.ask(Overview, "/api/dashboard/overview", {"range": range})

    async def agents(self) -> list[AgentActivity]:
        return (await self._transport.ask(_Activities, "/api/dashboard/agents")).agents
