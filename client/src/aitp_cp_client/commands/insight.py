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
        found = await control_plane.dashboard.attention()
        if as_json:
            document(found)
            return
        if found.lines:
            table(found.lines, LINES)
        else:
            line("nothing needs attention")
        if found.unknown:
            note(f"could not be asked: {', '.join(found.unknown)}")

    run(work)


def edges(aid: str | None, *, live_only: bool, min_tokens: int, grant: str | None, as_json: bool) -> None:
    async def work(control_plane: ControlPlane) -> None:
        if aid is None:
            ranked = await control_plane.dashboard.most_trusted(min_tokens=min_tokens, grant=grant)
            listing("mostTrusted", (ranked, False), RANKED, as_json=as_json)
            return
        found = await control_plane.dashboard.edges(aid, live_only=live_only, min_tokens=min_tokens, grant=grant)
        if as_json:
            document(found)
        else:
            _show(found)

    run(work)


def _show(found: AgentEdges) -> None:
    peers = [("trusts it", peer) for peer in found.trusted_by.peers]
    peers += [("it trusts", peer) for peer in found.trusts.peers]
    if peers:
        table(peers, EDGES)
    if found.delegated.hops:
        table(found.delegated.hops, HOPS)
    radius = found.blast_radius
    fields(
        {
            "agent": found.display_name or found.aid,
            "status": found.status,
            "trusted by": found.trusted_by.agents,
            "trusts": found.trusts.agents,
            "blast radius": f"{radius.peers} peers, {radius.tokens} tokens, {radius.below} agents by delegation, "
            f"{radius.second_hop} more on the second hop",
        }
    )
    if found.truncated:
        note("there is more than was read: the numbers are the least")
