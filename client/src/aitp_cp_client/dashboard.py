"""The overview, the per-agent table, who trusts whom, and what needs attention."""

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Literal
from uuid import UUID

import msgspec

from aitp_cp_client.paging import Rows, rows
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


class TrustPeer(msgspec.Struct, frozen=True, rename="camel"):
    """A peer and the tokens between; `verified` ones their issuer signed, the others are claims."""

    aid: str
    display_name: str | None
    status: str | None
    tokens: int
    live: int
    verified: int
    until: datetime | None
    latest: datetime


class TrustSide(msgspec.Struct, frozen=True):
    """The peers with most tokens, and how many there are altogether."""

    agents: int
    tokens: int
    verified: int
    peers: list[TrustPeer]


class DelegationLevel(msgspec.Struct, frozen=True):
    level: int
    delegations: int
    agents: int


class DelegationHop(msgspec.Struct, frozen=True, rename="camel"):
    level: int
    delegator: str
    delegator_name: str | None
    delegatee: str
    delegatee_name: str | None
    delegatee_status: str | None
    delegations: int
    verified: int


class DelegatedTrust(msgspec.Struct, frozen=True):
    agents: int
    delegations: int
    levels: list[DelegationLevel]
    hops: list[DelegationHop]


class BlastRadius(msgspec.Struct, frozen=True, rename="camel"):
    peers: int
    tokens: int
    below: int
    second_hop: int


class AgentEdges(msgspec.Struct, frozen=True, rename="camel"):
    """`trusted_by` issued tokens to the agent; `trusts` hold tokens that it issued. `truncated`: the least numbers."""

    aid: str
    display_name: str | None
    status: str | None
    trusted_by: TrustSide
    trusts: TrustSide
    delegated: DelegatedTrust
    blast_radius: BlastRadius
    truncated: bool
    as_of: datetime


class MostTrustedAgent(msgspec.Struct, frozen=True, rename="camel"):
    aid: str
    display_name: str | None
    status: str | None
    agents: int
    tokens: int
    verified: int


class AttentionLine(msgspec.Struct, frozen=True):
    """One thing to look at; `target` is the page of the console that shows it."""

    severity: Literal["bad", "soon"]
    kind: str
    sentence: str
    target: str
    since: datetime | None = None
    count: int | None = None


class Attention(msgspec.Struct, frozen=True, rename="camel"):
    """Worst first; `unknown` names sources that could not be asked."""

    lines: list[AttentionLine]
    unknown: list[str]
    as_of: datetime


class Job(msgspec.Struct, frozen=True, rename="camel"):
    """The latest run of a job; `failed_at` and `error` are of its latest failure."""

    name: str
    ran_at: datetime
    ms: int
    replica: UUID
    failing: bool
    failed_at: datetime | None
    error: str | None


class Replica(msgspec.Struct, frozen=True, rename="camel"):
    id: UUID
    version: str
    started_at: datetime
    seen_at: datetime
    live: bool
    position: int
    behind: int
    lag_secs: float


class _MostTrusted(msgspec.Struct, rename="camel"):
    most_trusted: list[MostTrustedAgent]


class _Jobs(msgspec.Struct):
    jobs: list[Job]


class _Replicas(msgspec.Struct):
    replicas: list[Replica]


class Dashboard:
    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def overview(self, range: Range = "24h") -> Overview:
        return await self._transport.ask(Overview, "/api/dashboard/overview", {"range": range})

    async def agents(self, limit: int = 1000, offset: int = 0, before: str | None = None) -> Rows[AgentActivity]:
        """Return at most 1000 agents, in the order of registration."""
        params = {"limit": limit, "offset": offset, "before": before}
        return await self._transport.page(AgentActivity, "agents", "/api/dashboard/agents", params)

    def each_agent(self) -> AsyncIterator[AgentActivity]:
        """Iterate over all agents, page by page."""
        return rows(self.agents)

    async def edges(
        self, aid: str, *, live_only: bool = True, min_tokens: int = 1, grant: str | None = None
    ) -> AgentEdges:
        """Return who trusts an agent and whom it trusts, by tokens that are neither revoked nor expired."""
        params = {"aid": aid, "live_only": live_only, "min_tokens": min_tokens, "grant": grant}
        return await self._transport.ask(AgentEdges, "/api/trust/edges", params)

    async def most_trusted(self, *, min_tokens: int = 1, grant: str | None = None) -> list[MostTrustedAgent]:
        """Return the 50 agents that most others trust, by the newest tokens."""
        params = {"min_tokens": min_tokens, "grant": grant}
        return (await self._transport.ask(_MostTrusted, "/api/trust/edges", params)).most_trusted

    async def attention(self) -> Attention:
        """Return what needs an operator's attention now."""
        return await self._transport.ask(Attention, "/api/attention")

    async def jobs(self) -> list[Job]:
        """Return the latest run of each background job."""
        return (await self._transport.ask(_Jobs, "/api/jobs")).jobs

    async def replicas(self) -> list[Replica]:
        """Return the server's processes."""
        return (await self._transport.ask(_Replicas, "/api/replicas")).replicas
