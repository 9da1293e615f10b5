"""The log, live and back in time."""

from collections.abc import Mapping
from typing import Annotated
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta
from starlette.requests import Request
from starlette.responses import Response

from aitp_cp.console.page import render, screen
from aitp_cp.console.pages.names import names_of
from aitp_cp.console.parts.link import link
from aitp_cp.db import Connection
from aitp_cp.errors import IdInvalid, NotFound
from aitp_cp.events import history as lists
from aitp_cp.events import service as log
from aitp_cp.events.model import HISTORY_ORDER, Event, HistoryFilter, HistoryPage
from aitp_cp.protocol.scopes import Scope
from aitp_cp.protocol.vocabulary import VOCABULARY
from aitp_cp.runtime import Runtime
from aitp_cp.web.query import read_query

PAGE_ROWS = 100


class EventFilter(HistoryFilter, frozen=True, kw_only=True, rename="camel"):
    """That of the history, in pages that a person reads."""

    limit: Annotated[int, Meta(ge=1, le=500, description="rows")] = PAGE_ROWS


class EventRow(msgspec.Struct, frozen=True):
    id: UUID
    seq: int | None
    type: str
    ts: str
    aid_a: str | None
    name_a: str | None
    aid_b: str | None
    name_b: str | None
    session_id: str | None
    run_id: str | None
    grants: list[str]
    source: str | None
    reported_by: str | None
    proof: str | None


class EventsView(msgspec.Struct, frozen=True):
    """`next_url` leads to older events; only the newest page changes by itself."""

    rows: list[EventRow]
    filter: EventFilter
    types: list[str]
    since: str
    until: str
    next_url: str | None
    newest: bool


class EventView(msgspec.Struct, frozen=True):
    row: EventRow
    payload: str


async def list_events(rt: Runtime, request: Request) -> Response:
    query = read_query(request, EventFilter)
    window = query.window(HISTORY_ORDER)

    async def read(conn: Connection) -> tuple[HistoryPage, Mapping[str, str]]:
        page = (await lists.newest(conn, query, window)).read()
        return page, await names_of(conn, (aid for event in page.events for aid in (event.aid_a, event.aid_b)))

    page, names = await rt.db.read(read)
    asked = {
        "type": query.type,
        "aid": query.aid,
        "sessionId": query.session_id,
        "runId": query.run_id,
        "since": query.since,
        "until": query.until,
    }
    older = None if page.next_before is UNSET else link("/events", **asked, before=page.next_before)
    view = EventsView(
        rows=[row_of(event, names) for event in page.events],
        filter=query,
        types=sorted(VOCABULARY),
        since=request.query_params.get("since", ""),
        until=request.query_params.get("until", ""),
        next_url=older,
        newest=query.before is None and query.until is None,
    )
    return await render(rt, request, "events.html", view, title="Events", live="events")


async def get_event(rt: Runtime, request: Request) -> Response:
    try:
        event_id = UUID(request.path_params["id"])
    except ValueError:
        raise IdInvalid from None

    async def read(conn: Connection) -> EventView:
        event = await log.find(conn, event_id)
        if event is None:
            raise NotFound("no such event: it never was, or retention has swept it")
        names = await names_of(conn, (event.aid_a, event.aid_b))
        return EventView(row_of(event, names), _pretty(event.payload))

    view = await rt.db.read(read)
    return await render(rt, request, "event.html", view, title=f"Event {view.row.seq}")


def row_of(event: Event, names: Mapping[str, str]) -> EventRow:
    """Return what pages show of an event; the payload has a page of its own."""
    return EventRow(
        id=event.id,
        seq=event.seq,
        type=event.type,
        ts=event.ts,
        aid_a=event.aid_a,
        name_a=names.get(event.aid_a or ""),
        aid_b=event.aid_b,
        name_b=names.get(event.aid_b or ""),
        session_id=event.session_id,
        run_id=event.run_id,
        grants=_grants(event.grants),
        source=event.source,
        reported_by=event.reported_by,
        proof=event.proof,
    )


def _grants(raw: msgspec.Raw) -> list[str]:
    grants = msgspec.json.decode(raw)
    return [str(grant) for grant in grants] if isinstance(grants, list) else []


def _pretty(raw: msgspec.Raw) -> str:
    return msgspec.json.format(bytes(raw), indent=2).decode(errors="replace")


PAGES = (
    screen(path="/events", handler=list_events, scope=Scope.EVENTS_READ, nav="Events", bulk=True, query=EventFilter),
    screen(path="/events/{id}", handler=get_event, scope=Scope.EVENTS_READ),
)
