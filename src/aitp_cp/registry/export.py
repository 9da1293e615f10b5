"""Everything about one agent as a file (contract, section 8)."""

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from aitp_cp.clock import iso
from aitp_cp.events import service as log
from aitp_cp.events.model import Event
from aitp_cp.protocol.scopes import Scope
from aitp_cp.registry import service
from aitp_cp.registry.model import AgentView
from aitp_cp.runtime import Runtime
from aitp_cp.sessions import store as sessions
from aitp_cp.sessions.model import SessionView
from aitp_cp.tcts import queries as tcts
from aitp_cp.tcts.views import TctView
from aitp_cp.web.endpoint import Endpoint, in_path
from aitp_cp.web.export import ExportQuery, Format, Many, One, Part, pages, stream
from aitp_cp.web.path import path_aid
from aitp_cp.web.query import EventLimit, read_query


class AgentExport(msgspec.Struct, frozen=True, rename="camel"):
    agent: AgentView
    sessions: list[SessionView]
    tcts: list[TctView]
    events: list[Event]
    exported_at: str


class AgentExportQuery(ExportQuery, frozen=True, kw_only=True, rename="camel"):
    event_limit: EventLimit = 1000


async def export(rt: Runtime, request: Request) -> Response:
    query, aid = read_query(request, AgentExportQuery), path_aid(request)
    agent = await rt.db.read(lambda conn: service.get_agent(conn, aid, rt.clock()))
    met = pages(rt, lambda conn, place, limit: sessions.of_agent(conn, aid, place, limit))
    held = pages(rt, lambda conn, place, limit: tcts.tcts_of_agent(conn, aid, place, limit))
    events = pages(rt, lambda conn, place, limit: log.of_aid(conn, aid, place, limit), query.event_limit)
    parts: list[Part] = [
        One("agent", agent, "agent"),
        Many("sessions", "session", met),
        Many("tcts", "tct", held),
        Many("events", "event", events),
        One("exportedAt", iso(rt.clock())),
    ]
    return await stream(parts, query.format, f"agent-{aid}")


EXPORT = Endpoint(
    "GET /api/registry/agents/{aid}/export",
    export,
    "An agent with its sessions, tokens and newest events, as a file",
    tag="registry",
    params=(in_path("aid", "the agent's AID, percent-encoded"),),
    scope=Scope.EVENTS_READ,
    bulk=True,
    query=AgentExportQuery,
    responses={200: (AgentExport, Format.JSONL.media_type)},
)
