"""Handshakes, and the sequence of what was reported about one."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from aitp_cp.console.export import Source, export
from aitp_cp.console.page import onward, read, render, screen
from aitp_cp.console.parts.text import strings
from aitp_cp.db import Connection
from aitp_cp.events import service as log
from aitp_cp.events.model import Event, HistoryFilter
from aitp_cp.events.store import VIEW
from aitp_cp.protocol.scopes import Scope
from aitp_cp.registry.store import names_of
from aitp_cp.runtime import Runtime
from aitp_cp.sessions import service, store
from aitp_cp.sessions.model import ORDER, SessionFilter, SessionList, SessionView, Status
from aitp_cp.web.query import Limit, read_query

MAX_REPORTS = 500


class SessionsFilter(SessionFilter, frozen=True, kw_only=True, rename="camel"):
    """That of the list, in pages that a person reads."""

    limit: Limit = 100


class SessionsView(msgspec.Struct, frozen=True):
    rows: list[SessionView]
    names: Mapping[str, str]
    filter: SessionsFilter
    next_url: str | None
    statuses: Sequence[str] = tuple(Status)


class Report(msgspec.Struct, frozen=True):
    """One report of a handshake: by which side, as far as it proved to be one."""

    event: Event
    side: str
    received_at: datetime | None


class SessionPage(msgspec.Struct, frozen=True):
    """`silent` are the sides that reported nothing themselves; `cut`: there are more reports than a page shows."""

    session: SessionView
    names: Mapping[str, str]
    reports: list[Report]
    silent: list[str]
    cut: bool


async def list_sessions(rt: Runtime, request: Request) -> Response:
    query = read_query(request, SessionsFilter)
    window = query.window(ORDER)

    async def listed(conn: Connection) -> tuple[SessionList, Mapping[str, str]]:
        page = (await store.list_sessions(conn, query, window)).read()
        return page, await names_of(conn, (aid for each in page.sessions for aid in (each.aid_a, each.aid_b)))

    page, names = await read(rt, request, listed)
    view = SessionsView(page.sessions, names, query, onward(request, page.next_before))
    return await render(rt, request, "sessions.html", view, title="Sessions")


async def export_sessions(rt: Runtime, request: Request) -> Response:
    query = read_query(request, SessionsFilter)
    source = Source("sessions", ORDER, COLUMNS, lambda conn, window: store.list_sessions(conn, query, window))
    return await export(rt, request, source, query)


async def get_session(rt: Runtime, request: Request) -> Response:
    async def query(conn: Connection) -> SessionPage:
        session = await service.get_session(conn, request.path_params["id"])
        filter = HistoryFilter(session_id=session.session_id)
        rows, place = await log.of_session(conn, filter, None, MAX_REPORTS)
        events = VIEW.decode(rows)
        received = await log.received(conn, [event.id for event in events])
        names = await names_of(conn, (session.aid_a, session.aid_b, *(event.reported_by for event in events)))
        reports = [Report(event, _side(session, event.reported_by), received.get(event.id)) for event in events]
        heard = {report.side for report in reports}
        silent = [side for side in ("A", "B") if side not in heard]
        return SessionPage(session, names, reports, silent, place is not None)

    view = await read(rt, request, query)
    return await render(rt, request, "session.html", view, title="Session")


def _side(session: SessionView, reporter: str | None) -> str:
    """Return which side a report comes from; a caller with a shared key is neither."""
    if reporter is None:
        return "caller"
    return {session.aid_a: "A", session.aid_b: "B"}.get(reporter, "other")


COLUMNS: Mapping[str, Callable[[SessionView], object]] = {
    "session": lambda session: session.session_id,
    "status": lambda session: session.status,
    "a": lambda session: session.aid_a,
    "b": lambda session: session.aid_b,
    "grants": lambda session: " ".join(strings(session.grants)),
    "run": lambda session: session.run_id,
    "boundary": lambda session: session.boundary,
    "error": lambda session: session.error,
    "started": lambda session: session.started_at,
    "completed": lambda session: session.completed_at,
    "conflict": lambda session: session.conflict,
}

PAGES = (
    screen("/sessions", list_sessions, scope=Scope.EVENTS_READ, nav="Sessions", query=SessionsFilter),
    screen("/sessions/export", export_sessions, scope=Scope.EVENTS_READ, query=SessionsFilter),
    screen("/sessions/{id}", get_session, scope=Scope.EVENTS_READ),
)
