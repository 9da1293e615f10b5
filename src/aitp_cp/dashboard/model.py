"""The overview and the per-agent table (contract, section 10)."""

from datetime import datetime, timedelta
from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from aitp_cp.clock import EPOCH
from aitp_cp.events.model import CapabilityCount
from aitp_cp.sessions.model import SessionView
from aitp_cp.tcts.edges import Level
from aitp_cp.web.query import AidFilter, PageQuery


class Range(msgspec.Struct, frozen=True):
    """A span of time ending now, and the width of its chart's buckets."""

    name: str
    span: timedelta
    bucket: timedelta

    def starts(self, now: datetime) -> list[datetime]:
        """Return when each bucket begins that a range ending `now` touches."""
        since, starts = now - self.span, []
        start = since - (since - EPOCH) % self.bucket
        while start <= now:
            starts.append(start)
            start += self.bucket
        return starts


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


class AgentActivities(msgspec.Struct, frozen=True, rename="camel"):
    agents: list[AgentActivity]
    next_before: str | UnsetType = UNSET


class ActivityQuery(PageQuery, frozen=True, kw_only=True, rename="camel"):
    """A list that once had no limit but this one."""

    limit: Annotated[int, Meta(ge=1, le=1000, description="number of rows, clamped")] = 1000


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


class EdgesQuery(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    aid: Annotated[
        AidFilter | None, Meta(description="the agent in the middle; without it, the most trusted agents")
    ] = None
    live_only: Annotated[bool, Meta(description="`false` adds revoked and expired tokens")] = True
    min_tokens: Annotated[int, Meta(ge=1, le=1000, description="leaves out edges of fewer tokens, clamped")] = 1
    grant: Annotated[str | None, Meta(description="tokens that grant this capability")] = None


class TrustPeer(msgspec.Struct, frozen=True, rename="camel"):
    """A peer and the tokens between: `verified` ones their issuer signed, the others are claims."""

    aid: str
    display_name: str | None
    status: str | None  # of an agent that is or was registered, or is contained
    tokens: int
    live: int
    verified: int
    until: str | None  # when the last of them expires; null without an end
    latest: str  # when the newest was issued


class TrustSide(msgspec.Struct, frozen=True):
    """The peers with most tokens by name, and how many there are altogether."""

    agents: int
    tokens: int
    verified: int
    peers: list[TrustPeer]


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
    """Live delegations below the agent's tokens, or from or to it; `hops` are the first of them between two agents."""

    agents: int
    delegations: int
    levels: list[Level]
    hops: list[DelegationHop]


class BlastRadius(msgspec.Struct, frozen=True, rename="camel"):
    """What a leak of the agent's key can reach: live tokens of it or for it, and what hangs on them."""

    peers: int
    tokens: int
    below: int
    second_hop: int


class AgentEdges(msgspec.Struct, frozen=True, rename="camel"):
    """`trusted_by` issued tokens to the agent and would accept it; `trusts` hold tokens that it issued."""

    aid: str
    display_name: str | None
    status: str | None
    trusted_by: TrustSide
    trusts: TrustSide
    delegated: DelegatedTrust
    blast_radius: BlastRadius
    truncated: bool  # there is more than was read: the numbers are the least
    as_of: str


class MostTrustedAgent(msgspec.Struct, frozen=True, rename="camel"):
    aid: str
    display_name: str | None
    status: str | None
    agents: int
    tokens: int
    verified: int


class MostTrusted(msgspec.Struct, frozen=True, rename="camel"):
    """The agents that most others trust, by the live ones among the newest `of_tokens` tokens."""

    most_trusted: list[MostTrustedAgent]
    of_tokens: int
    as_of: str
