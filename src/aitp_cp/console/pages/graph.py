"""Who trusts whom right now: around one agent, or where trust gathers."""

from typing import Annotated

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from aitp_cp.console.page import Region, region, render, screen
from aitp_cp.console.parts.graph import Line, Node
from aitp_cp.console.parts.link import link
from aitp_cp.dashboard import trust
from aitp_cp.dashboard.model import AgentEdges, EdgesQuery, MostTrusted, TrustPeer
from aitp_cp.protocol.scopes import Scope
from aitp_cp.runtime import Runtime
from aitp_cp.web.query import AidFilter, read_query


class GraphQuery(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What a form can say: a box that is not ticked says nothing."""

    aid: Annotated[AidFilter | None, Meta(description="the agent in the middle")] = None
    everything: Annotated[bool, Meta(description="revoked and expired tokens as well")] = False
    delegations: Annotated[bool, Meta(description="what is delegated below")] = False
    min_tokens: Annotated[int, Meta(ge=1, le=1000, description="the fewest tokens of an edge")] = 1
    grant: Annotated[str | None, Meta(description="tokens that grant this capability")] = None

    @property
    def edges(self) -> EdgesQuery:
        return EdgesQuery(
            aid=self.aid, live_only=not self.everything, min_tokens=self.min_tokens, grant=self.grant or None
        )


class GraphView(msgspec.Struct, frozen=True):
    """`columns` and `lines` are the picture of `around`; `ranked` is there without an agent."""

    query: GraphQuery
    around: Region[AgentEdges]
    ranked: Region[MostTrusted]
    columns: list[list[Node]]
    lines: list[Line]


async def graph(rt: Runtime, request: Request) -> Response:
    query = read_query(request, GraphQuery)
    around: Region[AgentEdges] = Region(None)
    ranked: Region[MostTrusted] = Region(None)
    aid = query.aid
    if aid is None:
        ranked = await region(rt.db.read(lambda conn: trust.most_trusted(conn, query.edges, rt.clock())))
    else:
        around = await region(rt.db.read(lambda conn: trust.around(conn, aid, query.edges, rt.clock())))
    columns, lines = _picture(around.value, query) if around.value is not None else ([], [])
    view = GraphView(query, around, ranked, columns, lines)
    return await render(rt, request, "graph.html", view, title="Trust graph")


def _picture(around: AgentEdges, query: GraphQuery) -> tuple[list[list[Node]], list[Line]]:
    """Return columns from left to right, who trusts it, it, whom it trusts, below by delegation, and the lines."""
    middle = Node(around.aid, around.display_name, around.status, _here(around.aid, query), middle=True)
    columns = [
        [_node(peer, query) for peer in around.trusted_by.peers],
        [middle],
        [_node(peer, query) for peer in around.trusts.peers],
    ]
    lines = [Line(peer.aid, around.aid, peer.tokens, peer.verified) for peer in around.trusted_by.peers]
    lines += [Line(around.aid, peer.aid, peer.tokens, peer.verified) for peer in around.trusts.peers]
    if query.delegations:
        hops = around.delegated.hops
        columns.append(
            [
                Node(hop.delegatee, hop.delegatee_name, hop.delegatee_status, _here(hop.delegatee, query))
                for hop in {hop.delegatee: hop for hop in hops}.values()
            ]
        )
        lines += [Line(hop.delegator, hop.delegatee, hop.delegations, hop.verified, delegated=True) for hop in hops]
    return columns, lines


def _node(peer: TrustPeer, query: GraphQuery) -> Node:
    return Node(peer.aid, peer.display_name, peer.status, _here(peer.aid, query))


def _here(aid: str, query: GraphQuery) -> str:
    """Return the address of the same picture around another agent."""
    return link(
        "/graph",
        aid=aid,
        everything=query.everything,
        delegations=query.delegations,
        minTokens=query.min_tokens if query.min_tokens > 1 else None,
        grant=query.grant,
    )


PAGES = (screen("/graph", graph, scope=Scope.EVENTS_READ, nav="Trust graph", bulk=True, query=GraphQuery),)
