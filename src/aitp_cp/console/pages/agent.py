"""One agent: what it claims, what operators note, and its past; also of an AID that only events name."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType
from starlette.requests import Request
from starlette.responses import Response

from aitp_cp.audit import service as audits
from aitp_cp.audit import store as audit
from aitp_cp.audit.model import ORDER as AUDIT_ORDER
from aitp_cp.audit.model import AuditEntry, AuditFilter
from aitp_cp.audit.routes import actor_of
from aitp_cp.clock import iso
from aitp_cp.console.forms import Form
from aitp_cp.console.page import Region, action, onward, region, render, screen, see_other, wants
from aitp_cp.console.pages.trust import pin_key
from aitp_cp.console.parts.link import link
from aitp_cp.console.parts.text import strings
from aitp_cp.dashboard import trust
from aitp_cp.dashboard.model import BlastRadius, EdgesQuery
from aitp_cp.db import Connection
from aitp_cp.db.keyset import Window
from aitp_cp.errors import BadRequest, NotFound
from aitp_cp.events import history as log
from aitp_cp.events.model import HISTORY_ORDER, Event, HistoryFilter
from aitp_cp.notes import service as notes
from aitp_cp.notes import store as stored_notes
from aitp_cp.notes.model import NewNotes, Notes
from aitp_cp.protocol.scopes import Scope
from aitp_cp.registry import export as exporting
from aitp_cp.registry import history, service, standing
from aitp_cp.registry import store as registry
from aitp_cp.registry.cache import RegistryCache
from aitp_cp.registry.lookalikes import mixes_scripts
from aitp_cp.registry.model import AgentView, KeptManifest, Namesake
from aitp_cp.runtime import Runtime
from aitp_cp.sessions import store as sessions
from aitp_cp.sessions.model import Peer
from aitp_cp.tcts import queries as tcts
from aitp_cp.tcts.model import DELEGATION_ORDER, TCT_ORDER
from aitp_cp.tcts.views import DelegationView, TctView
from aitp_cp.web.body import convert
from aitp_cp.web.context import context_of
from aitp_cp.web.path import path_aid
from aitp_cp_client.wire import aid as aids

ROWS = 50
NEWEST_SESSIONS = 1000  # of either side, among which peers are counted
MAX_PEERS = 100


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
    expired: bool


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
    delegations: list[DelegationView] = []
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
    notes: Notes | None
    labels: list[str]
    namesakes: list[Namesake]
    mixed: bool
    public_key: str | None
    tab: str
    newest: bool
    tabs: list[str]
    data: Region[TabData]
    next_url: str | None


Reader = Callable[[Connection, Runtime, str, str | None], Awaitable[TabData]]


async def get_agent(rt: Runtime, request: Request) -> Response:
    aid, scopes = path_aid(request), context_of(request).scopes
    tabs = {name: read for name, (scope, read) in TABS.items() if scope in scopes}
    tab = request.query_params.get("tab") or next(iter(tabs))
    if tab not in tabs:
        raise NotFound("this agent has no such tab")
    before = request.query_params.get("before")
    agent, status, noted, namesakes = await rt.db.read(lambda conn: _about(conn, rt, aid))
    canonical, data = aids.recognise(aid), Region[TabData](None)
    if wants(request, "tab"):
        data = await region(rt.db.read(lambda conn: tabs[tab](conn, rt, aid, before)))
    view = AgentPage(
        aid=aid,
        agent=agent,
        status=status,
        notes=noted,
        labels=[] if noted is None else strings(noted.labels),
        namesakes=namesakes,
        mixed=agent is not None and mixes_scripts(agent.display_name),
        public_key=None if canonical is None else aids.public_key(canonical),
        tab=tab,
        newest=before is None,
        tabs=list(tabs),
        data=data,
        next_url=None if data.value is None else onward(request, data.value.next),
    )
    return await render(rt, request, "agent.html", view, title="Agent")


async def _about(
    conn: Connection, rt: Runtime, aid: str
) -> tuple[AgentView | None, str | None, Notes | None, list[Namesake]]:
    """Return record, status, notes and agents with a similar name; raises `NotFound` where nothing names the AID."""
    now = rt.clock()
    agent = next(iter(await registry.find_all(conn, [aid], now)), None)
    noted = await stored_notes.find(conn, aid)
    if agent is not None:
        return agent, agent.status, noted, await standing.namesakes(conn, agent.display_name, aid, now)
    status = (await standing.marks(conn, [aid], now))[aid].status  # it may be contained all the same
    if not (status or noted or await log.mentions(conn, aid) or await _has_token(conn, aid)):
        raise NotFound("no agent of this AID is registered, and no event, token or delegation names it")
    return None, status, noted, []


async def _has_token(conn: Connection, aid: str) -> bool:
    """Return whether a token or delegation names the AID: lists of them, and the graph, lead to its page."""
    tokens, _ = await tcts.tcts_of_agent(conn, aid, None, 1)
    return bool(tokens) or bool((await tcts.delegations_of_agent(conn, aid, None, 1))[0])


async def _timeline(conn: Connection, rt: Runtime, aid: str, before: str | None) -> TabData:
    window = Window(ROWS, before=_place(HISTORY_ORDER, before))
    page = (await log.newest(conn, HistoryFilter(aid=aid), window)).read()
    names = await registry.names_of(conn, (side for event in page.events for side in (event.aid_a, event.aid_b)))
    return TabData(names, page.events, next=page.next_before)


async def _peers(conn: Connection, rt: Runtime, aid: str, before: str | None) -> TabData:
    met = {peer.aid: peer for peer in await sessions.peers(conn, aid, NEWEST_SESSIONS, limit=MAX_PEERS)}
    edges = await trust.around(conn, aid, EdgesQuery(), rt.clock())
    trusts = {peer.aid: peer for peer in edges.trusts.peers}
    trusted = {peer.aid: peer for peer in edges.trusted_by.peers}
    everybody = list(dict.fromkeys([*met, *trusts, *trusted]))
    names = await registry.names_of(conn, everybody)
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
    names = await registry.names_of(conn, (side for token in tokens for side in (token.issuer, token.subject)))
    now = iso(rt.clock())
    rows = [TokenRow(token, token.expires_at is not None and token.expires_at < now) for token in tokens]
    return TabData(names, tokens=rows, next=UNSET if place is None else TCT_ORDER.cursor(place))


async def _delegations(conn: Connection, rt: Runtime, aid: str, before: str | None) -> TabData:
    raw, place = await tcts.delegations_of_agent(conn, aid, _place(DELEGATION_ORDER, before), ROWS)
    rows = [msgspec.json.decode(each, type=DelegationView) for each in raw]
    names = await registry.names_of(conn, (side for row in rows for side in (row.delegator, row.delegatee)))
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


# The tabs of an agent, each with the scope that shows it.
TABS: Mapping[str, tuple[Scope, Reader]] = {
    "timeline": (Scope.EVENTS_READ, _timeline),
    "peers": (Scope.EVENTS_READ, _peers),
    "tokens": (Scope.EVENTS_READ, _tokens),
    "delegations": (Scope.EVENTS_READ, _delegations),
    "manifests": (Scope.AGENTS_READ, _manifests),
    "audit": (Scope.AUDIT_READ, _audit),
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
    await pin_key(rt, request, form, aid)
    return see_other(link("/agents/{aid}", aid=aid))


async def deregister(rt: Runtime, request: Request, form: Form) -> Response:
    aid = path_aid(request)
    if form.get("sure") != "on":
        raise BadRequest("tick the box to deregister the agent")
    async with rt.get(RegistryCache).changing(aid) as conn:
        await service.deregister(conn, aid, actor_of(rt, request), rt.clock())
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
    action("/agents/{aid}/pin", pin, scope=Scope.TRUST_WRITE, fresh_on="/agents/{aid}"),
    action("/agents/{aid}/deregister", deregister, scope=Scope.AGENTS_WRITE),
)
