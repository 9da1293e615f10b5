"""GET /api/events/history and GET /api/events/stream."""

from functools import partial

from starlette.requests import Request
from starlette.responses import Response

from aitp_cp.errors import FilterInvalid, SseCapacity
from aitp_cp.events import counts
from aitp_cp.events import cursor as cursors
from aitp_cp.events import history as lists
from aitp_cp.events.model import HISTORY_ORDER, EventTypes, HistoryFilter, HistoryPage, StreamQuery
from aitp_cp.events.stream import Streams
from aitp_cp.protocol.scopes import Scope
from aitp_cp.runtime import Runtime
from aitp_cp.web.context import context_of
from aitp_cp.web.endpoint import Endpoint, Link, links
from aitp_cp.web.memo import Memo
from aitp_cp.web.query import read_query
from aitp_cp.web.responses import encode, json_bytes
from aitp_cp.web.sse import EventStream

TYPES_SHARED_FOR_SECS = 10.0
TYPES_MAX_BYTES = 2**20


async def history(rt: Runtime, request: Request) -> Response:
    query = read_query(request, HistoryFilter)
    window, after = query.window(HISTORY_ORDER), _after(query)
    if after is not None:
        page = await rt.db.read(lambda conn: lists.after(conn, query, after, window.limit))
    else:
        page = await rt.db.read(lambda conn: lists.newest(conn, query, window))
    return json_bytes(page.text)


class KnownTypes(Memo[bytes]):
    """The encoded list of types, shared by those who ask within ten seconds."""

    def __init__(self) -> None:
        super().__init__(TYPES_SHARED_FOR_SECS, TYPES_MAX_BYTES)

    def size(self, value: bytes) -> int:
        return len(value)


async def types(rt: Runtime, request: Request) -> Response:
    return json_bytes(await rt.get(KnownTypes).get(None, lambda: _types(rt)))


async def _types(rt: Runtime) -> bytes:
    async with rt.db.connection() as conn:
        return encode(await counts.type_counts(conn))


def _after(query: HistoryFilter) -> int | None:
    """Return the position in the log to continue from; None for the newest first."""
    if query.after is None and query.order != "asc":
        return None
    if query.before is not None:
        raise FilterInvalid("before goes on with the newest first, after and order=asc in the order of the log")
    return query.position or 0


async def stream(rt: Runtime, request: Request) -> Response:
    query = read_query(request, StreamQuery)
    filter = HistoryFilter(
        type=query.type, aid=query.aid, run_id=query.run_id, reported_by=query.reported_by, proof=query.proof
    )
    # A browser that reconnects repeats the query of its first request; the header is what it has seen since.
    cursor = cursors.parse(request.headers.get("last-event-id") or query.last_event_id)
    streams, context = rt.get(Streams), context_of(request)
    return EventStream(lambda: streams.opened(filter, cursor, context.caller, context.credential_is_valid))


endpoint = partial(Endpoint, tag="events")

STREAM = endpoint(
    "GET /api/events/stream",
    stream,
    "Events as they happen, as server-sent events",
    scope=Scope.EVENTS_READ,
    query=StreamQuery,
    responses={200: "text/event-stream"},
    errors=(SseCapacity,),
    streaming=True,
)

ENDPOINTS = (
    endpoint(
        "GET /api/events/history",
        history,
        "Events, newest first, or in log order from a cursor",
        scope=Scope.EVENTS_READ,
        query=HistoryFilter,
        responses={200: HistoryPage},
        leads_to=(
            Link("GET /api/events/history", {"order": "asc", "after": "$response.body#/nextAfter"}),
            *links("GET /api/sessions/{id}", id="$response.body#/events/0/sessionId"),
            *links("GET /api/registry/agents/{aid}", aid="$response.body#/events/0/aidA"),
        ),
    ),
    STREAM,
    endpoint(
        "GET /api/events/types",
        types,
        "The types of events, with how many of the newest events have each",
        scope=Scope.EVENTS_READ,
        bulk=True,
        responses={200: EventTypes},
        leads_to=links("GET /api/events/history", type="$response.body#/types/0/type"),
    ),
)
