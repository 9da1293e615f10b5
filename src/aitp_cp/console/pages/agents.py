"""Who is there: the registry as an operator filters it, exported, and deregistered in bulk."""

import hashlib
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Annotated
from urllib.parse import urlencode

import msgspec
from msgspec import UNSET, Meta
from starlette.requests import Request
from starlette.responses import Response

from aitp_cp.audit import service as audit
from aitp_cp.audit.routes import actor_of
from aitp_cp.console.forms import Form
from aitp_cp.console.page import action, render, screen, see_other
from aitp_cp.console.parts.link import link, written
from aitp_cp.console.parts.text import strings
from aitp_cp.console.parts.times import moment_of
from aitp_cp.console.shell import namespace_of
from aitp_cp.db import Connection
from aitp_cp.db.keyset import Place, Window
from aitp_cp.errors import BadRequest
from aitp_cp.notes import store as notes
from aitp_cp.protocol.scopes import Scope
from aitp_cp.registry import service, standing
from aitp_cp.registry import store as registry
from aitp_cp.registry.cache import RegistryCache
from aitp_cp.registry.lookalikes import mixes_scripts
from aitp_cp.registry.model import ORDER, AgentList, AgentView, OperatorFilter, Status
from aitp_cp.runtime import Runtime
from aitp_cp.sessions import store as sessions
from aitp_cp.sessions.model import LastSession
from aitp_cp.web import csv
from aitp_cp.web.context import context_of
from aitp_cp.web.export import Format, Many, One, Page, pages, stream, stream_bytes
from aitp_cp.web.query import decode_query, read_query

PAGE_ROWS = 100
MAX_BULK = 500
MAX_EXPORT = 10_000
SOON = timedelta(hours=24)
EXPIRES = {"24h": timedelta(hours=24), "7d": timedelta(days=7), "30d": timedelta(days=30)}
COLUMNS = {
    "aid": lambda agent: agent.aid,
    "claimed name": lambda agent: agent.display_name,
    "status": lambda agent: agent.status,
    "namespace": lambda agent: agent.namespace,
    "capabilities": lambda agent: " ".join(strings(agent.offered_caps)),
    "handshake endpoint": lambda agent: agent.handshake_endpoint,
    "manifest expires": lambda agent: agent.manifest_expires_at,
    "registered": lambda agent: agent.registered_at,
    "last seen": lambda agent: agent.last_seen_at,
}


class AgentsFilter(OperatorFilter, frozen=True, kw_only=True, rename="camel"):
    """That of the list, in pages that a person reads; `expires` is a window from now."""

    limit: Annotated[int, Meta(ge=1, le=500, description="rows")] = PAGE_ROWS
    expires: Annotated[str | None, Meta(description="24h, 7d or 30d: the manifest ends within that time")] = None
    format: Annotated[str | None, Meta(description="csv or jsonl: as a file")] = None


# What chooses agents, and so has to be the same in the list, its further pages, its files and a bulk action.
FILTERS = tuple(
    name
    for name in AgentsFilter.__struct_fields__
    if name not in {"limit", "offset", "before", "format", "include_manifest"}
)


class AgentRow(msgspec.Struct, frozen=True):
    """`suspect`: the name looks like another one's."""

    agent: AgentView
    owner: str | None
    suspect: bool
    expiring: bool
    last: LastSession | None
    peer_name: str | None


class Choice(msgspec.Struct, frozen=True):
    """A word, and the list as it is by that choice."""

    text: str
    url: str


class AgentsView(msgspec.Struct, frozen=True):
    """`set_filters` lead to the list without each of them.

    Where no agent matches, `elsewhere` leads to other statuses that have some.
    """

    rows: list[AgentRow]
    filter: AgentsFilter
    set_filters: list[Choice]
    query: dict[str, str]
    elsewhere: list[Choice]
    next_url: str | None
    statuses: Sequence[str] = (*Status, "all")
    windows: Sequence[str] = tuple(EXPIRES)


class BulkView(msgspec.Struct, frozen=True):
    """What a bulk action would do; `digest` stands for exactly these agents."""

    agents: list[AgentView]
    query: dict[str, str]
    chosen: list[str]
    digest: str
    changed: bool
    cut: bool


async def list_agents(rt: Runtime, request: Request) -> Response:
    query = read_query(request, AgentsFilter)
    filters = _filters(query)
    query, set_filters = _dated(query, rt.clock()), _set_filters(filters)
    if query.namespace is None and (namespace := namespace_of(request)):
        query = msgspec.structs.replace(query, namespace=namespace)
        filters["namespace"] = namespace
    meets = Scope.EVENTS_READ in context_of(request).scopes

    async def read(conn: Connection) -> tuple[AgentList, list[AgentRow], list[str]]:
        page, _ = await registry.list_agents(conn, query, rt.clock(), query.window(ORDER))
        others = [] if page.agents or query.before else await _elsewhere(conn, query, rt.clock())
        return page, await _rows(conn, page.agents, rt.clock(), meets=meets), others

    page, rows, others = await rt.db.read(read)
    view = AgentsView(
        rows=rows,
        filter=query,
        set_filters=set_filters,
        query=filters,
        elsewhere=[Choice(status, link("/agents", **{**filters, "status": status})) for status in others],
        next_url=None if page.next_before is UNSET else link("/agents", **filters, before=page.next_before),
    )
    return await render(rt, request, "agents.html", view, title="Agents")


async def export(rt: Runtime, request: Request) -> Response:
    """Stream what matches, at most `MAX_EXPORT` agents; the file tells whether there are more."""
    now, query = rt.clock(), read_query(request, AgentsFilter)
    filters, query = _filters(query), _dated(query, now)
    if query.format not in ("csv", "jsonl"):
        raise BadRequest("format is csv or jsonl")

    async def page_at(conn: Connection, place: Place | None, limit: int) -> Page[Place]:
        page, _ = await registry.list_agents(conn, query, now, Window(limit, before=place))
        return page.agents, None if page.next_before is UNSET else ORDER.read(page.next_before)

    async with rt.db.transaction() as conn:
        beyond, _ = await registry.list_agents(conn, query, now, Window(1, MAX_EXPORT))
        truncated = bool(beyond.agents)
        details = {**filters, "format": query.format, "truncated": truncated}
        await audit.record(conn, "agents.export", actor_of(rt, request), "agents", details, now)
    agents = pages(rt, page_at, at_most=MAX_EXPORT)
    name = f"agents-{now:%Y%m%dT%H%M%SZ}"
    if query.format == "csv":
        return await stream_bytes(csv.rows(COLUMNS, agents), csv.MEDIA_TYPE, f"{name}.csv")
    facts = One("export", {"truncated": truncated}, "export")
    return await stream([facts, Many("agents", "agent", agents)], Format.JSONL, name)


async def deregister(rt: Runtime, request: Request, form: Form) -> Response:
    """Show which agents would go; with the digest of that plan, deregister them in one transaction."""
    now = rt.clock()
    filters = form.filled(*FILTERS)
    query = _dated(decode_query(urlencode(filters, errors="replace").encode(), AgentsFilter), now)
    chosen = None if form.get("all") else sorted(set(form.all("aid")))[:MAX_BULK]
    async with rt.db.transaction() as conn:
        agents, cut = await _selected(conn, query, chosen, now)
        digest = hashlib.sha256("\n".join(sorted(agent.aid for agent in agents)).encode()).hexdigest()
        confirmed = form.get("digest")
        if agents and confirmed == digest:
            await service.deregister_all(conn, [agent.aid for agent in agents], actor_of(rt, request), now)
    if agents and confirmed == digest:
        for agent in agents:
            rt.get(RegistryCache).changed(agent.aid)
        return see_other(link("/agents", status="deregistered"))
    view = BulkView(agents, filters, chosen or [], digest, bool(confirmed), cut)
    return await render(rt, request, "agents_deregister.html", view, title="Deregister agents")


async def _rows(conn: Connection, agents: Sequence[AgentView], now: datetime, *, meets: bool) -> list[AgentRow]:
    """Return what a page shows of agents, in a constant number of statements."""
    aids = [agent.aid for agent in agents]
    owners, alike = await notes.owners(conn, aids), await standing.have_namesakes(conn, aids)
    last = await sessions.newest_of(conn, aids) if meets and aids else {}
    peers = await registry.names_of(conn, (session.peer for session in last.values()))
    return [
        AgentRow(
            agent=agent,
            owner=owners.get(agent.aid),
            suspect=agent.aid in alike or mixes_scripts(agent.display_name),
            expiring=_expiring(agent, now),
            last=last.get(agent.aid),
            peer_name=peers.get(last[agent.aid].peer or "") if agent.aid in last else None,
        )
        for agent in agents
    ]


async def _elsewhere(conn: Connection, query: AgentsFilter, now: datetime) -> list[str]:
    """Return the other statuses that have agents which match."""
    statuses = []
    for status in Status:
        if status != query.status:
            other = msgspec.structs.replace(query, status=status)
            page, _ = await registry.list_agents(conn, other, now, Window(1))
            statuses += [str(status)] if page.agents else []
    return statuses


async def _selected(
    conn: Connection, query: AgentsFilter, chosen: list[str] | None, now: datetime
) -> tuple[list[AgentView], bool]:
    """Return the agents to deregister, None for all that match, and whether more of them match."""
    if chosen is not None:
        agents = await registry.find_all(conn, chosen, now)
        return [agent for agent in agents if agent.status != Status.DEREGISTERED], False
    if query.status in ("all", Status.DEREGISTERED):
        raise BadRequest("choose agents, or a status of agents that have not left")
    page, _ = await registry.list_agents(conn, query, now, Window(MAX_BULK))
    return page.agents, page.next_before is not UNSET


def _dated(query: AgentsFilter, now: datetime) -> AgentsFilter:
    if query.expires not in EXPIRES:
        return query
    return msgspec.structs.replace(query, expires_before=now + EXPIRES[query.expires])


def _filters(query: AgentsFilter) -> dict[str, str]:
    """Return the filters that are set, as the address of the page has them."""
    values = written({name: getattr(query, name) for name in FILTERS})
    return {name: value for name, value in values.items() if (name, value) != ("status", Status.ACTIVE)}


def _set_filters(filters: dict[str, str]) -> list[Choice]:
    return [
        Choice(
            name.replace("_", " ") if value == "true" else f"{name.replace('_', ' ')}: {value}",
            link("/agents", **{other: kept for other, kept in filters.items() if other != name}),
        )
        for name, value in filters.items()
    ]


def _expiring(agent: AgentView, now: datetime) -> bool:
    ends = moment_of(agent.manifest_expires_at)
    return agent.status == Status.ACTIVE and ends is not None and ends - now < SOON


listed = partial(screen, scope=Scope.AGENTS_READ, query=AgentsFilter)
PAGES = (
    listed("/agents", list_agents, nav="Agents"),
    listed("/agents/export", export),
    action("/agents/deregister", deregister, scope=Scope.AGENTS_WRITE, body_limit=256 * 1024),
)
