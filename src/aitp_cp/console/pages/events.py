"""The log, live and back in time."""

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from aitp_cp.console.export import Source, export
from aitp_cp.console.page import here, is_fragment, onward, render, screen
from aitp_cp.console.parts.text import strings
from aitp_cp.db import Connection
from aitp_cp.errors import NotFound
from aitp_cp.events import history as lists
from aitp_cp.events import service as log
from aitp_cp.events.model import HISTORY_ORDER, Event, HistoryFilter, HistoryPage
from aitp_cp.events.newer import Skipped, newer
from aitp_cp.events.tail import Tail
from aitp_cp.protocol.scopes import Scope
from aitp_cp.protocol.vocabulary import VOCABULARY
from aitp_cp.registry.store import names_of
from aitp_cp.runtime import Runtime
from aitp_cp.web.path import path_uuid
from aitp_cp.web.query import read_query

PAGE_ROWS = 100
TYPES = tuple(sorted(VOCABULARY))


class EventFilter(HistoryFilter, frozen=True, kw_only=True, rename="camel"):
    """That of the history, in pages that a person reads."""

    limit: Annotated[int, Meta(ge=1, le=500, description="rows")] = PAGE_ROWS


class Gap(msgspec.Struct, frozen=True):
    """Events that came faster than one page a second; `url` shows them in the order of the log."""

    skipped: Skipped
    after: int
    url: str


class EventsView(msgspec.Struct, frozen=True):
    """`older_url` leads to the next page, `newer_url` is what the script asks for what came since.

    Only the newest page changes by itself. In the order of the log (`asc`), the next page holds newer events.
    """

    rows: list[Event]
    names: Mapping[str, str]
    filter: EventFilter
    older_url: str | None
    newer_url: str | None
    gap: Gap | None = None
    types: Sequence[str] = TYPES


class EventView(msgspec.Struct, frozen=True):
    row: Event
    names: Mapping[str, str]


async def list_events(rt: Runtime, request: Request) -> Response:
    query = read_query(request, EventFilter)
    after = query.position
    if query.order == "asc":
        view = await _in_order(rt, request, query, after or 0)
    elif after is not None and is_fragment(request):
        view = await _since(rt, request, query, after)
    else:
        view = await _newest(rt, request, query)
    return await render(rt, request, "events.html", view, title="Events")


async def _newest(rt: Runtime, request: Request, query: EventFilter) -> EventsView:
    window, live = query.window(HISTORY_ORDER), query.before is None and query.until is None
    position = rt.get(Tail).last  # before the rows are read: what comes meanwhile is asked for again, known by its id

    async def read(conn: Connection) -> tuple[HistoryPage, Mapping[str, str]]:
        page = (await lists.newest(conn, query, window)).read()
        return page, await _names(conn, page.events)

    if live:  # a standby may not hold everything before that position
        async with rt.db.connection() as conn:
            page, names = await read(conn)
    else:
        page, names = await rt.db.read(read)
    newer = here(request, after=position) if live else None
    return EventsView(page.events, names, query, onward(request, page.next_before), newer)


async def _in_order(rt: Runtime, request: Request, query: EventFilter, after: int) -> EventsView:
    async def read(conn: Connection) -> tuple[HistoryPage, Mapping[str, str]]:
        page = (await lists.after(conn, query, after, query.limit)).read()
        return page, await _names(conn, page.events)

    page, names = await rt.db.read(read)
    more = page.next_after is not None and after < page.next_after < rt.get(Tail).last
    return EventsView(page.events, names, query, here(request, after=page.next_after) if more else None, None)


async def _since(rt: Runtime, request: Request, query: EventFilter, after: int) -> EventsView:
    position = max(rt.get(Tail).last, after)
    async with rt.db.connection() as conn:
        page = await newer(conn, query, after, position, query.limit)
        names = await _names(conn, page.events)
    skipped = page.skipped
    gap = None if skipped is None else Gap(skipped, after, here(request, order="asc", after=after))
    return EventsView(page.events, names, query, None, here(request, after=position), gap)


async def export_events(rt: Runtime, request: Request) -> Response:
    query = read_query(request, EventFilter)
    source = Source("events", HISTORY_ORDER, COLUMNS, lambda conn, window: lists.newest(conn, query, window))
    return await export(rt, request, source, query)


async def get_event(rt: Runtime, request: Request) -> Response:
    id = path_uuid(request)

    async def read(conn: Connection) -> EventView:
        event = await log.find(conn, id)
        if event is None:
            raise NotFound("no such event: it never was, or retention has swept it")
        return EventView(event, await _names(conn, [event]))

    view = await rt.db.read(read)
    return await render(rt, request, "event.html", view, title=f"Event {view.row.seq}")


async def _names(conn: Connection, events: list[Event]) -> Mapping[str, str]:
    return await names_of(conn, (aid for event in events for aid in (event.aid_a, event.aid_b, event.reported_by)))


COLUMNS: Mapping[str, Callable[[Event], object]] = {
    "time": lambda event: event.ts,
    "type": lambda event: event.type,
    "a": lambda event: event.aid_a,
    "b": lambda event: event.aid_b,
    "session": lambda event: event.session_id,
    "run": lambda event: event.run_id,
    "grants": lambda event: " ".join(strings(event.grants)),
    "source": lambda event: event.source,
    "seq": lambda event: event.seq,
    "reported by": lambda event: event.reported_by,
    "proof": lambda event: event.proof,
    "payload": lambda event: bytes(event.payload).decode(errors="replace"),
    "id": lambda event: str(event.id),
}

PAGES = (
    screen("/events", list_events, scope=Scope.EVENTS_READ, nav="Events", query=EventFilter),
    screen("/events/export", export_events, scope=Scope.EVENTS_READ, query=EventFilter),
    screen("/events/{id}", get_event, scope=Scope.EVENTS_READ),
)
