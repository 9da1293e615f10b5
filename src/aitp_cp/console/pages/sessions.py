"""Handshakes, and the sequence of what was reported about one."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta
from starlette.requests import Request
from starlette.responses import Response

from aitp_cp.console.export import FORMATS, Source, export
from aitp_cp.console.page import read, render, screen
from aitp_cp.console.pages.events import EventRow, row_of, strings
from aitp_cp.console.pages.names import names_of
from aitp_cp.console.parts.link import link
from aitp_cp.db import Connection
from aitp_cp.db.keyset import Window
from aitp_cp.events import service as log
from aitp_cp.events.model import HistoryFilter
from aitp_cp.events.store import VIEW
from aitp_cp.protocol.scopes import Scope
from aitp_cp.runtime import Runtime
from aitp_cp.sessions import service
from aitp_cp.sessions.model import ORDER, SessionFilter, SessionList, SessionView, Status
from aitp_cp.web.query import read_query

PAGE_ROWS = 100
MAX_REPORTS = 500


class SessionsFilter(SessionFilter, frozen=True, kw_only=True, rename="camel"):
    """That of the list, in pages that a person reads."""

    limit: Annotated[int, Meta(ge=1, le=500, description="rows")] = PAGE_ROWS


class SessionRow(msgspec.Struct, frozen=True):
    session: SessionView
    name_a: str | None
    name_b: str | None
    grants: list[str]


class SessionsView(msgspec.Struct, frozen=True):
    rows: list[SessionRow]
    filter: SessionsFilter
    since: str
    until: str
    statuses: list[str]
    next_url: str | None
    exports: dict[str, str]


class Report(msgspec.Struct, frozen=True):
    """One report of a handshake: by which side, as far as it proved to be one."""

    event: EventRow
    side: str


class SessionPage(msgspec.Struct, frozen=True):
    """`silent` are the sides that reported nothing themselves; `cut`: there are more reports than a page shows."""

    row: SessionRow
    reports: list[Report]
    silent: list[str]
    cut: bool


async def list_sessions(rt: Runtime, request: Request) -> Response:
    query = read_query(request, SessionsFilter)
    window = query.window(ORDER)

    async def listed(conn: Connection) -> tuple[SessionList, Mapping[str, str]]:
        page = (await service.list_sessions(conn, query, window)).read()
        return page, await names_of(conn, (aid for each in page.sessions for aid in (each.aid_a, each.aid_b)))

    page, names = await read(rt, request, listed)
    asked = _asked(query)
    older = None if page.next_before is UNSET else link("/sessions", **asked, before=page.next_before)
    rows = [_row(session, names) for session in page.sessions]
    view = SessionsView(
        rows=rows,
        filter=query,
        since=asked["since"] or "",
        until=asked["until"] or "",
        statuses=[str(status) for status in Status],
        next_url=older,
        exports={format: link("/sessions/export", **asked, format=format) for format in FORMATS},
    )
    return await render(rt, request, "sessions.html", view, title="Sessions", live="sessions")


async def export_sessions(rt: Runtime, request: Request) -> Response:
    query = read_query(request, SessionsFilter)

    async def rows(conn: Connection, window: Window) -> tuple[list[SessionView], str | None]:
        page = (await service.list_sessions(conn, query, window)).read()
        return page.sessions, None if page.next_before is UNSET else page.next_before

    return await export(rt, request, Source("sessions", ORDER, COLUMNS, rows), _asked(query))


def _asked(query: SessionsFilter) -> dict[str, Any]:
    """Return the filter as parameters of an address."""
    return {
        "status": query.status,
        "aid": query.aid,
        "runId": query.run_id,
        "boundary": query.boundary,
        "error": query.error,
        "since": None if query.since is None else query.since.isoformat(),
        "until": None if query.until is None else query.until.isoformat(),
    }


async def get_session(rt: Runtime, request: Request) -> Response:
    async def query(conn: Connection) -> SessionPage:
        session = await service.get_session(conn, request.path_params["id"])
        wanted = HistoryFilter(session_id=session.session_id)
        rows, place = await log.of_session(conn, wanted, None, MAX_REPORTS)
        events = VIEW.decode(rows)
        names = await names_of(conn, (session.aid_a, session.aid_b, *(event.reported_by for event in events)))
        reports = [Report(row_of(event, names), _side(session, event.reported_by)) for event in events]
        heard = {report.side for report in reports}
        silent = [side for side in ("A", "B") if side not in heard]
        return SessionPage(_row(session, names), reports, silent, place is not None)

    view = await read(rt, request, query)
    return await render(rt, request, "session.html", view, title="Session", live="sessions")


def _row(session: SessionView, names: Mapping[str, str]) -> SessionRow:
    return SessionRow(session, names.get(session.aid_a or ""), names.get(session.aid_b or ""), strings(session.grants))


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
    screen(
        path="/sessions",
        handler=list_sessions,
        scope=Scope.EVENTS_READ,
        nav="Sessions",
        bulk=True,
        query=SessionsFilter,
    ),
    screen(path="/sessions/export", handler=export_sessions, scope=Scope.EVENTS_READ, bulk=True, query=SessionsFilter),
    screen(path="/sessions/{id}", handler=get_session, scope=Scope.EVENTS_READ),
)
