"""Who trusts whom right now, around one agent or where trust gathers (contract, section 22)."""

from collections.abc import Iterable, Mapping
from datetime import datetime

from aitp_cp.clock import iso
from aitp_cp.dashboard.model import (
    AgentEdges,
    BlastRadius,
    DelegatedTrust,
    DelegationHop,
    EdgesQuery,
    MostTrusted,
    MostTrustedAgent,
    TrustPeer,
    TrustSide,
)
from aitp_cp.db import Connection
from aitp_cp.registry import standing
from aitp_cp.registry.standing import UNKNOWN, Mark
from aitp_cp.tcts import edges
from aitp_cp.tcts.edges import Ego, Hop, PeerEdge, SideTotal

Marks = Mapping[str, Mark]


async def around(conn: Connection, aid: str, query: EdgesQuery, now: datetime) -> AgentEdges:
    """Return the edges of one agent, which need not be registered; at most 60 nodes are named."""
    ego = await edges.ego(conn, aid, now, live_only=query.live_only, grant=query.grant, min_tokens=query.min_tokens)
    marks = await standing.marks(conn, [aid, *_named(ego)], now)
    own = marks.get(aid, UNKNOWN)
    return AgentEdges(
        aid=aid,
        display_name=own.display_name,
        status=own.status,
        trusted_by=_side(ego, "trusted", marks),
        trusts=_side(ego, "trusts", marks),
        delegated=DelegatedTrust(ego.below, ego.delegations, ego.levels, [_hop(hop, marks) for hop in ego.hops]),
        blast_radius=BlastRadius(ego.live_peers, ego.live_tokens, ego.below, ego.second_hop),
        truncated=ego.most >= edges.MAX_TOKENS or ego.delegations >= edges.MAX_BELOW,
        as_of=iso(now),
    )


async def most_trusted(conn: Connection, query: EdgesQuery, now: datetime) -> MostTrusted:
    """Return the agents that most others trust."""
    ranked = await edges.most_trusted(conn, now, query.grant, query.min_tokens)
    marks = await standing.marks(conn, [row.aid for row in ranked], now)
    rows = [
        MostTrustedAgent(row.aid, mark.display_name, mark.status, row.agents, row.tokens, row.verified)
        for row in ranked
        for mark in (marks.get(row.aid, UNKNOWN),)
    ]
    return MostTrusted(rows, edges.RANKED_TOKENS, iso(now))


def _named(ego: Ego) -> Iterable[str]:
    yield from (peer.aid for peer in ego.peers)
    for hop in ego.hops:
        yield from (hop.delegator, hop.delegatee)


def _side(ego: Ego, side: str, marks: Marks) -> TrustSide:
    total = ego.sides.get(side, SideTotal())
    peers = [_peer(peer, marks.get(peer.aid, UNKNOWN)) for peer in ego.peers if peer.side == side]
    return TrustSide(total.agents, total.tokens, total.verified, peers)


def _peer(peer: PeerEdge, mark: Mark) -> TrustPeer:
    return TrustPeer(
        peer.aid, mark.display_name, mark.status, peer.tokens, peer.live, peer.verified, peer.until, peer.latest
    )


def _hop(hop: Hop, marks: Marks) -> DelegationHop:
    delegator, delegatee = marks.get(hop.delegator, UNKNOWN), marks.get(hop.delegatee, UNKNOWN)
    return DelegationHop(
        level=hop.level,
        delegator=hop.delegator,
        delegator_name=delegator.display_name,
        delegatee=hop.delegatee,
        delegatee_name=delegatee.display_name,
        delegatee_status=delegatee.status,
        delegations=hop.delegations,
        verified=hop.verified,
    )
