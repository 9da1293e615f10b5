"""aitp-cp attention and aitp-cp trust."""

from typing import TYPE_CHECKING, Annotated

import typer

from aitp_cp_client.commands.connection import at_server
from aitp_cp_client.commands.exits import LEGEND
from aitp_cp_client.commands.output import Columns, document, fields, line, listing, note, table
from aitp_cp_client.commands.parameters import Json, group

if TYPE_CHECKING:
    from aitp_cp_client import ControlPlane
    from aitp_cp_client.dashboard import AgentEdges, AttentionLine, DelegationHop, MostTrustedAgent, TrustPeer

LINES: "Columns[AttentionLine]" = {
    "severity": lambda row: row.severity,
    "what": lambda row: row.kind,
    "count": lambda row: row.count,
    "since": lambda row: row.since,
    "sentence": lambda row: row.sentence,
}
EDGES: "Columns[tuple[str, TrustPeer]]" = {
    "edge": lambda row: row[0],
    "aid": lambda row: row[1].aid,
    "name": lambda row: row[1].display_name,
    "status": lambda row: row[1].status,
    "tokens": lambda row: row[1].tokens,
    "verified": lambda row: row[1].verified,
    "until": lambda row: row[1].until,
}
HOPS: "Columns[DelegationHop]" = {
    "level": lambda hop: hop.level,
    "delegator": lambda hop: hop.delegator,
    "delegatee": lambda hop: hop.delegatee,
    "delegations": lambda hop: hop.delegations,
    "verified": lambda hop: hop.verified,
}
RANKED: "Columns[MostTrustedAgent]" = {
    "aid": lambda row: row.aid,
    "name": lambda row: row.display_name,
    "status": lambda row: row.status,
    "trusted by": lambda row: row.agents,
    "tokens": lambda row: row.tokens,
    "verified": lambda row: row.verified,
}

trust = group("Who trusts whom.")


@at_server
async def attention(control_plane: "ControlPlane", as_json: Json = False) -> None:
    """What needs an operator's attention now, worst first."""
    attention = await control_plane.dashboard.attention()
    if as_json:
        document(attention)
        return
    if attention.lines:
        table(attention.lines, LINES)
    else:
        line("nothing needs attention")
    if attention.unknown:
        note(f"could not be asked: {', '.join(attention.unknown)}")


@trust.command("edges", epilog=LEGEND)
@at_server
async def edges(
    control_plane: "ControlPlane",
    aid: Annotated[
        str | None, typer.Argument(metavar="AID", help="The agent; without it, the agents that most others trust.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Revoked and expired tokens as well.")] = False,
    min_tokens: Annotated[int, typer.Option(min=1, max=1000, help="Only edges of at least this many tokens.")] = 1,
    grant: Annotated[str | None, typer.Option(help="Only tokens that grant this capability.")] = None,
    as_json: Json = False,
) -> None:
    """Who trusts an agent and whom it trusts, by live tokens, and how far a leak of its key reaches."""
    if aid is None:
        ranked = await control_plane.dashboard.most_trusted(min_tokens=min_tokens, grant=grant)
        listing("mostTrusted", (ranked, False), RANKED, as_json=as_json)
        return
    edges = await control_plane.dashboard.edges(aid, live_only=not everything, min_tokens=min_tokens, grant=grant)
    if as_json:
        document(edges)
    else:
        _show(edges)


def _show(edges: "AgentEdges") -> None:
    peers = [("trusts it", peer) for peer in edges.trusted_by.peers]
    peers += [("it trusts", peer) for peer in edges.trusts.peers]
    if peers:
        table(peers, EDGES)
    if edges.delegated.hops:
        table(edges.delegated.hops, HOPS)
    radius = edges.blast_radius
    fields(
        {
            "agent": edges.display_name or edges.aid,
            "status": edges.status,
            "trusted by": edges.trusted_by.agents,
            "trusts": edges.trusts.agents,
            "blast radius": f"{radius.peers} peers, {radius.tokens} tokens, {radius.below} agents by delegation, "
            f"{radius.second_hop} more on the second hop",
        }
    )
    if edges.truncated:
        note("there is more than was read: the numbers are the least")
