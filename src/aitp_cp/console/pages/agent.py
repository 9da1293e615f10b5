"""One agent: what it claims, what operators note, and its past; also of an AID that only events name."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType
from starlette.requests import Request
from starlette.responses import Response

from aitp_cp.accounts.service import require_fresh
from aitp_cp.audit import service as audits
from aitp_cp.audit import store as audit
from aitp_cp.audit.model import ORDER as AUDIT_ORDER
from aitp_cp.audit.model import AuditEntry, AuditFilter
from aitp_cp.audit.routes import actor_of
from aitp_cp.clock import iso
from aitp_cp.console.forms import Form
from aitp_cp.console.page import Region, action, onward, region, render, screen, see_other, wants
from aitp_cp.console.pages.agents import capabilities
from aitp_cp.console.pages.names import names_of
from aitp_cp.console.parts.link import link
from aitp_cp.dashboard import trust
from aitp_cp.dashboard.model import BlastRadius, EdgesQuery
from aitp_cp.db import Connection
from aitp_cp.db.keyset import Window
from aitp_cp.errors import BadRequest, NotFound
from aitp_cp.events import history as log
from aitp_cp.events.model import HISTORY_ORDER, Event, HistoryFilter
from aitp_cp.notes import service as notes
from aitp_cp.notes import store as stored_notes
from aitp_cp.notes.model import NewNotes
from aitp_cp.protocol.scopes import Scope
from aitp_cp.registry import export as exporting
from aitp_cp.registry import history, service, standing
from aitp_cp.registry.cache import RegistryCache
from aitp_cp.registry.lookalikes import mixes_scripts
from aitp_cp.registry.model import AgentView, KeptManifest, Namesake
from aitp_cp.runtime import Runtime
from aitp_cp.sessions import store as sessions
from aitp_cp.sessions.model import Peer
from aitp_cp.tcts import queries as tcts
from aitp_cp.tcts.model import DELEGATION_ORDER, TCT_ORDER
from aitp_cp.tcts.views import DelegationView, TctView
from aitp_cp.truststore import pinned_keys
from aitp_cp.truststore.model import NewPinnedKey
from aitp_cp.web.body import convert
from aitp_cp.web.context import context_of
from aitp_cp.web.path import path_aid
from aitp_cp_client.wire import aid as aids

ROWS = 50
NEWEST_SESSIONS = 1000  # of either side, among which peers are counted
MAX_PEERS = 100
TABS = {
    "timeline": Scope.EVENTS_READ,
    "peers": Scope.EVENTS_READ,
    "tokens": Scope.EVENTS_READ,
    "delegations": Scope.EVENTS_READ,
    "manifests": Scope.AGENTS_READ,
    "audit": Scope.AUDIT_READ,
}


class Tab(msgspec.Struct, frozen=True):
    name: str
    url: str
    current: bool


class NotesView(msgspec.Struct, frozen=True):
    owner: str | None
    note: str | None
    labels: list[str]
    updated_by: str
    updated_at: str


class PeerRow(msgspec.Struct, frozen=True):
    """A peer: how handshakes with it ended, and the live tokens between; `verified` ones their issuer signed."""

    aid: str
    met: Peer | None
    trusts: int
    trusted_by: int
    verified: int


class Peers(msgspec.Struct, frozen=True):
    rows: list[PeerRow]
    radius: BlastRadius
    truncated: bool


class TokenRow(msgspec.Struct, frozen=True):
    token: TctView
    peer: str
    held: bool
    expired: bool


class DelegationRow(msgspec.Struct, frozen=True):
    delegation: DelegationView
    peer: str
    given: bool


class ManifestRow(msgspec.Struct, frozen=True):
    """`pair` names the manifest before it, if that is kept, and its own: what their page compares."""

    kept: KeptManifest
    pair: str


class TabData(msgspec.Struct, frozen=True):
    """The rows of the tab that is open, the names of agents in them, and the cursor of the next page."""

    names: Mapping[str, str] = {}
    events: list[Event] = []
    peers: Peers | None = None
    tokens: list[TokenRow] = []
    delegations: list[DelegationRow] = []
    manifests: list[ManifestRow] = []
    entries: list[AuditEntry] = []
    next: str | UnsetType = UNSET


class AgentPage(msgspec.Struct, frozen=True):
    """`agent` is None for an AID that never registered here or that retention has swept.

    Only the newest page of a tab changes by itself.
    """

    aid: str
    agent: AgentView | None
    status: str | None
    offers: list[str]
    notes: NotesView | None
    namesakes: list[Namesake]
    mixed: bool
    public_key: str | None
    tab: str
    newest: bool
    tabs: list[Tab]
    data: Region[TabData]
    next_url: str | None


Reader = Callable[[Connection, Runtime, str, str | None], Awaitable[TabData]]


async def get_agent(rt: Runtime, request: Request) -> Response:
    aid, scopes = path_aid(request), context_of(request).scopes
    tabs = [name for name, scope in TABS.items() if scope in scopes]
    tab = request.query_params.get("tab") or tabs[0]
    if tab not in tabs:
        raise NotFound("this agent has no such tab")
    before = request.query_params.get("before")
    agent, noted, namesakes, contained, known = await rt.db.read(lambda conn: _about(conn, rt, aid))
    if not known:
        raise NotFound("no agent of this AID is registered, and no event, token or delegation names it")
    canonical, data = aids.recognise(aid), Region[TabData](None)
    if wants(request, "tab"):
        data = await region(rt.db.read(lambda conn: READERS[tab](conn, rt, aid, before)))
    view = AgentPage(
        aid=aid,
        agent=agent,
        status=agent.status if agent is not None else "contained" if contained else None,
        offers=[] if agent is None else capabilities(agent),
        notes=noted,
        namesakes=namesakes,
        mixed=agent is not None and mixes_scripts(agent.display_name),
        public_key=None if canonical is None else aids.public_key(canonical),
        tab=tab,
        newest=before is None,
        tabs=[Tab(name, link("/agents/{aid}", aid=aid, tab=name), name == tab) for name in tabs],
        data=data,
        next_url=None if data.value is None else onward(request, data.value.next),
    )
    return await render(rt, request, "agent.html", view, title="Agent")


async def _about(
    conn: Connection, rt: Runtime, aid: str
) -> tuple[AgentView | None, NotesView | None, list[Namesake], bool, bool]:
    """Return the record, the notes, agents with a similar name, and whether it is contained or known at all."""
    now = rt.clock()
    agent = next(iter(await service.find_all(conn, [aid], now)), None)
    found = await stored_notes.find(conn, aid)
    noted = None
    if found is not None:
        noted = NotesView(found.owner, found.note, notes.labels_of(found), found.updated_by, found.updated_at)
    if agent is not None:
        return agent, noted, await service.namesakes(conn, agent.display_name, aid, now), False, True
    contained = (await standing.marks(conn, [aid], now))[aid].status is not None
    known = contained or noted is not None or await log.mentions(conn, aid) or await _has_token(conn, aid)
    return None, noted, [], contained, known


async def _has_token(conn: Connection, aid: str) -> bool:
    """Return whether a token or delegation names the AID: lists of them, and the graph, lead to its page."""
    tokens, _ = await tcts.tcts_of_agent(conn, aid, None, 1)
    return bool(tokens) or bool((await tcts.delegations_of_agent(conn, aid, None, 1))[0])


async def _timeline(conn: Connection, rt: Runtime, aid: str, before: str | None) -> TabData:
    window = Window(ROWS, before=_place(HISTORY_ORDER, before))
    page = (await log.newest(conn, HistoryFilter(aid=aid), window)).read()
    names = await names_of(conn, (side for event in page.events for side in (event.aid_a, event.aid_b)))
    return TabData(names, page.events, next=page.next_before)


async def _peers(conn: Connection, rt: Runtime, aid: str, before: str | None) -> TabData:
    met = {peer.aid: peer for peer in await sessions.peers(conn, aid, NEWEST_SESSIONS, limit=MAX_PEERS)}
    edges = await trust.around(conn, aid, EdgesQuery(), rt.clock())
    trusts = {peer.aid: peer for peer in edges.trusts.peers}
    trusted = {peer.aid: peer for peer in edges.trusted_by.peers}
    everybody = list(dict.fromkeys([*met, *trusts, *trusted]))
    names = await names_of(conn, everybody)
    rows = [
        PeerRow(
            aid=peer,
            met=met.get(peer),
            trusts=trusts[peer].live if peer in trusts else 0,
            trusted_by=trusted[peer].live if peer in trusted else 0,
            verified=sum(side[peer].verified for side in (trusts, trusted) if peer in side),
        )
        for peer in everybody
    ]
    return TabData(names, peers=Peers(rows, edges.blast_radius, edges.truncated))


async def _tokens(conn: Connection, rt: Runtime, aid: str, before: str | None) -> TabData:
    raw, place = await tcts.tcts_of_agent(conn, aid, _place(TCT_ORDER, before), ROWS)
    tokens = [msgspec.json.decode(each, type=TctView) for each in raw]
    names = await names_of(conn, (side for token in tokens for side in (token.issuer, token.subject)))
    now = iso(rt.clock())
    rows = []
    for token in tokens:
        held = token.subject == aid
        peer = token.issuer if held else token.subject
        expired = token.expires_at is not None and token.expires_at < now
        rows.append(TokenRow(token, peer, held, expired))
    return TabData(names, tokens=rows, next=UNSET if place is None else TCT_ORDER.cursor(place))


async def _delegations(conn: Connection, rt: Runtime, aid: str, before: str | None) -> TabData:
    raw, place = await tcts.delegations_of_agent(conn, aid, _place(DELEGATION_ORDER, before), ROWS)
    found = [msgspec.json.decode(each, type=DelegationView) for each in raw]
    rows = [
        DelegationRow(each, each.delegatee if given else each.delegator, given)
        for each in found
        for given in [each.delegator == aid]
    ]
    names = await names_of(conn, (row.peer for row in rows))
    return TabData(names, delegations=rows, next=UNSET if place is None else DELEGATION_ORDER.cursor(place))


async def _manifests(conn: Connection, rt: Runtime, aid: str, before: str | None) -> TabData:
    try:
        kept = (await history.list_manifests(conn, aid)).manifests
    except NotFound:
        return TabData()
    before_each = [str(each.seq) for each in kept[1:]] + [""]
    rows = [ManifestRow(each, f"{seq}..{each.seq}") for each, seq in zip(kept, before_each, strict=True)]
    return TabData(manifests=rows)


async def _audit(conn: Connection, rt: Runtime, aid: str, before: str | None) -> TabData:
    page = await audit.page(conn, AuditFilter(target=aid), Window(ROWS, before=_place(AUDIT_ORDER, before)))
    return TabData(entries=page.entries, next=page.next_before)


READERS: Mapping[str, Reader] = {
    "timeline": _timeline,
    "peers": _peers,
    "tokens": _tokens,
    "delegations": _delegations,
    "manifests": _manifests,
    "audit": _audit,
}


async def put_notes(rt: Runtime, request: Request, form: Form) -> Response:
    """Replace what is noted; an empty form forgets it."""
    aid = path_aid(request)
    labels = list(dict.fromkeys(label.strip() for label in form.get("labels").split(",") if label.strip()))
    members: dict[str, Any] = {
        "owner": form.get("owner") or None,
        "note": form.get("note").replace("\r\n", "\n") or None,
        "labels": labels,
    }
    new = convert(members, NewNotes)
    async with rt.db.transaction() as conn:
        if any(members.values()):
            await notes.put(conn, aid, new, actor_of(rt, request), rt.clock())
        elif await stored_notes.find(conn, aid) is not None:
            await notes.delete(conn, aid, actor_of(rt, request), rt.clock())
    return see_other(link("/agents/{aid}", aid=aid))


async def pin(rt: Runtime, request: Request, form: Form) -> Response:
    aid = path_aid(request)
    require_fresh(rt, request, link("/agents/{aid}", aid=aid))
    known = aids.recognise(aid)
    if known is None:
        raise BadRequest("only the key of an AID can be pinned")
    members = {"aid": known, "pubkey": aids.public_key(known)}
    members |= {name: form.get(name) for name in ("namespace", "label") if form.get(name)}
    key = pinned_keys.read_key(convert(members, NewPinnedKey))
    async with rt.db.transaction() as conn:
        await pinned_keys.upsert(conn, key, actor_of(rt, request), rt.clock())
    return see_other(link("/agents/{aid}", aid=aid))


async def deregister(rt: Runtime, request: Request, form: Form) -> Response:
    aid = path_aid(request)
    if form.get("sure") != "on":
        raise BadRequest("tick the box to deregister the agent")
    try:
        async with rt.db.transaction() as conn:
            await service.deregister(conn, aid, actor_of(rt, request), rt.clock())
    finally:
        rt.get(RegistryCache).changed(aid)
    return see_other(link("/agents/{aid}", aid=aid))


async def export(rt: Runtime, request: Request) -> Response:
    """The export of the API, with a row in the audit."""
    aid = path_aid(request)
    response = await exporting.export(rt, request)
    async with rt.db.transaction() as conn:
        await audits.record(conn, "agent.export", actor_of(rt, request), aid, {}, rt.clock())
    return response


def _place(order: Any, before: str | None) -> Any:
    return None if before is None else order.read(before)


PAGES = (
    screen("/agents/{aid}", get_agent, scope=Scope.AGENTS_READ, bulk=True),
    screen("/agents/{aid}/export", export, scope=Scope.EVENTS_READ, bulk=True),
    action("/agents/{aid}/notes", put_notes, scope=Scope.AGENTS_WRITE),
    action("/agents/{aid}/pin", pin, scope=Scope.TRUST_WRITE),
    action("/agents/{aid}/deregister", deregister, scope=Scope.AGENTS_WRITE),
)
