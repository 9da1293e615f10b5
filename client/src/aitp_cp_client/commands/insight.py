"""aitp-cp attention and aitp-cp trust edges."""

from aitp_cp_client import ControlPlane
from aitp_cp_client.commands.connection import run
from aitp_cp_client.commands.output import Columns, document, fields, line, listing, note, table
from aitp_cp_client.dashboard import AgentEdges, AttentionLine, DelegationHop, MostTrustedAgent, TrustPeer

LINES: Columns[AttentionLine] = {
    "severity": lambda row: row.severity,
    "what": lambda row: row.kind,
    "count": lambda row: row.count,
    "since": lambda row: row.since,
    "sentence": lambda row: row.sentence,
}
EDGES: Columns[tuple[str, TrustPeer]] = {
    "edge": lambda row: row[0],
    "aid": lambda row: row[1].aid,
    "name": lambda row: row[1].display_name,
    "status": lambda row: row[1].status,
    "tokens": lambda row: row[1].tokens,
    "verified": lambda row: row[1].verified,
    "until": lambda row: row[1].until,
}
HOPS: Columns[DelegationHop] = {
    "level": lambda hop: hop.level,
    "delegator": lambda hop: hop.delegator,
    "delegatee": lambda hop: hop.delegatee,
    "delegations": lambda hop: hop.delegations,
    "verified": lambda hop: hop.verified,
}
RANKED: Columns[MostTrustedAgent] = {
    "aid": lambda row: row.aid,
    "name": lambda row: row.display_name,
    "status": lambda row: row.status,
    "trusted by": lambda row: row.agents,
    "tokens": lambda row: row.tokens,
    "verified": lambda row: row.verified,
}


def attention(*, as_json: bool) -> None:
    async def work(control_plane: ControlPlane) -> None:
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

    run(work)


def edges(aid: str | None, *, live_only: bool, min_tokens: int, grant: str | None, as_json: bool) -> None:
    async def work(control_plane: ControlPlane) -> None:
        if aid is None:
            ranked = await control_plane.dashboard.most_trusted(min_tokens=min_tokens, grant=grant)
            listing("mostTrusted", (ranked, False), RANKED, as_json=as_json)
            return
        edges = await control_plane.dashboard.edges(aid, live_only=live_only, min_tokens=min_tokens, grant=grant)
        if as_json:
            document(edges)
        else:
            _show(edges)

    run(work)


def _show(edges: AgentEdges) -> None:
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
