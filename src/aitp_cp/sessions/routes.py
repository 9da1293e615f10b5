"""Handshake sessions over HTTP (contract, section 10)."""

from functools import partial

from starlette.requests import Request
from starlette.responses import Response

from aitp_cp.clock import iso
from aitp_cp.events import service as log
from aitp_cp.events.model import HistoryFilter
from aitp_cp.protocol.scopes import Scope
from aitp_cp.runtime import Runtime
from aitp_cp.sessions import service, store
from aitp_cp.sessions.model import ORDER, Replay, ReplayQuery, SessionDetail, SessionExport, SessionFilter, SessionList
from aitp_cp.tcts import queries as tcts
from aitp_cp.web.endpoint import Endpoint, in_path, links
from aitp_cp.web.export import ExportQuery, Format, Many, One, Pages, Part, pages, stream
from aitp_cp.web.query import read_query
from aitp_cp.web.responses import json_bytes

ID = in_path("id", "the session's id")

# Where a session's id leads, as a part of the path and as a filter.
SESSION = ("GET /api/sessions/{id}", "GET /api/sessions/{id}/export", "GET /api/sessions/{id}/replay")
OF_SESSION = ("GET /api/events/history", "GET /api/tcts")


async def list_sessions(rt: Runtime, request: Request) -> Response:
    query = read_query(request, SessionFilter)
    window = query.window(ORDER)
    return json_bytes((await rt.db.read(lambda conn: store.list_sessions(conn, query, window))).text)


async def get_session(rt: Runtime, request: Request) -> Response:
    session = await rt.db.read(lambda conn: service.get_session(conn, request.path_params["id"]))
    return await stream([One("session", session), _events(rt, HistoryFilter(session_id=session.session_id))])


async def export(rt: Runtime, request: Request) -> Response:
    format = read_query(request, ExportQuery).format
    session = await rt.db.read(lambda conn: service.get_session(conn, request.path_params["id"]))
    parts: list[Part] = [
        One("session", session, "session"),
        Many("tcts", "tct", _tcts(rt, session.session_id)),
        _events(rt, HistoryFilter(session_id=session.session_id)),
        One("exportedAt", iso(rt.clock())),
    ]
    return await stream(parts, format, f"session-{session.session_id}")


async def replay(rt: Runtime, request: Request) -> Response:
    query, session_id = read_query(request, ReplayQuery), request.path_params["id"]
    filter = HistoryFilter(session_id=session_id, since=query.since, until=query.until)
    events = _events(rt, filter, at_most=query.limit, count_as="count")
    return await stream([One("sessionId", session_id), events])


def _events(rt: Runtime, filter: HistoryFilter, at_most: int | None = None, count_as: str | None = None) -> Many:
    read = pages(rt, lambda conn, place, limit: log.of_session(conn, filter, place, limit), at_most)
    return Many("events", "event", read, count_as)


def _tcts(rt: Runtime, session_id: str) -> Pages:
    return pages(rt, lambda conn, place, limit: tcts.tcts_of_session(conn, session_id, place, limit))


endpoint = partial(Endpoint, tag="sessions", params=(ID,))

ENDPOINTS = (
    endpoint(
        "GET /api/sessions",
        list_sessions,
        "Handshake sessions, newest first",
        scope=Scope.EVENTS_READ,
        query=SessionFilter,
        responses={200: SessionList},
        leads_to=(
            *links(*SESSION, id="$response.body#/sessions/0/sessionId"),
            *links(*OF_SESSION, sessionId="$response.body#/sessions/0/sessionId"),
            *links("GET /api/registry/agents/{aid}", aid="$response.body#/sessions/0/aidA"),
        ),
    ),
    endpoint(
        "GET /api/sessions/{id}",
        get_session,
        "One session with its events, oldest first",
        scope=Scope.EVENTS_READ,
        bulk=True,
        responses={200: SessionDetail},
        leads_to=(
            *links(*SESSION, id="$request.path.id"),
            *links(*OF_SESSION, sessionId="$request.path.id"),
            *links("GET /api/registry/agents/{aid}", aid="$response.body#/session/aidA"),
        ),
    ),
    endpoint(
        "GET /api/sessions/{id}/export",
        export,
        "One session with its tokens and events, as a file",
        scope=Scope.EVENTS_READ,
        bulk=True,
        query=ExportQuery,
        responses={200: (SessionExport, Format.JSONL.media_type)},
    ),
    endpoint(
        "GET /api/sessions/{id}/replay",
        replay,
        "The events of a session, oldest first; none for an unknown session",
        scope=Scope.EVENTS_READ,
        bulk=True,
        query=ReplayQuery,
        responses={200: Replay},
    ),
)
