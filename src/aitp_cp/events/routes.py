"""GET /api/events/history and GET /api/events/stream."""

from starlette.requests import Request
from starlette.responses import Response

from aitp_cp.db.keyset import Window
from aitp_cp.errors import FilterInvalid, SseCapacity
from aitp_cp.events import cursor as cursors
from aitp_cp.events import service
from aitp_cp.events.model import HISTORY_ORDER, HistoryFilter, HistoryPage
from aitp_cp.events.stream import Streams
from aitp_cp.runtime import Runtime
from aitp_cp.web.context import context_of
from aitp_cp.web.endpoint import Endpoint, Link, links, paging, query
from aitp_cp.web.query import Query
from aitp_cp.web.responses import json_response
from aitp_cp.web.sse import EventStream

MAX_SEQ = 2**63 - 1


async def history(rt: Runtime, request: Request) -> Response:
    asked = Query.of(request)
    wanted = HistoryFilter(
        type=asked.text("type"),
        aid=asked.aid("aid"),
        session_id=asked.text("session_id"),
        run_id=asked.text("run_id"),
        since=asked.moment("since"),
        until=asked.moment("until"),
    )
    window = asked.window(HISTORY_ORDER, 100, 1000)
    after = _after(asked, window)
    async with rt.db.connection() as conn:
        if after is not None:
            return json_response(await service.after(conn, wanted, after, window.limit))
        return json_response(await service.newest(conn, wanted, window))


def _after(asked: Query, window: Window) -> int | None:
    """The place in the log to go on from; None where the newest are asked for."""
    text = asked.text("after")
    if text is None and asked.text("order") != "asc":
        return None
    if window.before is not None:
        raise FilterInvalid("before goes on with the newest first, after and order=asc in the order of the log")
    if text is None:
        return 0
    if not (text.isascii() and text.isdigit()) or len(text) > 19:
        raise FilterInvalid("after is not a sequence number")
    return min(int(text), MAX_SEQ)


async def stream(rt: Runtime, request: Request) -> Response:
    asked = Query.of(request)
    wanted = HistoryFilter(type=asked.text("type"), aid=asked.aid("aid"), run_id=asked.text("run_id"))
    # A browser that reconnects repeats the query of its first request; the header is what it has seen since.
    cursor = cursors.parse(request.headers.get("last-event-id") or asked.text("last_event_id"))
    streams, caller = rt.get(Streams), context_of(request).caller
    return EventStream(lambda: streams.opened(wanted, cursor, caller))


STREAM = Endpoint(
    method="GET",
    path="/api/events/stream",
    handler=stream,
    summary="Events as they happen, as server-sent events",
    tag="events",
    params=(
        query("type", "exact event type"),
        query("runId", "run"),
        query("aid", "either side"),
        query("lastEventId", "go on after this sequence number, like the header Last-Event-ID"),
    ),
    answers={200: "text/event-stream"},
    errors=(FilterInvalid, SseCapacity),
    streaming=True,
)

ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/api/events/history",
        handler=history,
        summary="Events, newest first, or in log order from a cursor",
        tag="events",
        bulk=True,
        params=(
            query("type", "exact event type"),
            query("aid", "either side"),
            query("sessionId", "session"),
            query("runId", "run"),
            query("since", "inclusive, ISO-8601"),
            query("until", "inclusive, ISO-8601"),
            query("order", "`asc` pages the log in sequence order"),
            query("after", "with `order=asc`: the sequence number to go on from"),
            *paging(100, 1000),
        ),
        answers={200: HistoryPage},
        errors=(FilterInvalid,),
        leads_to=(
            Link("GET /api/events/history", {"order": "asc", "after": "$response.body#/nextAfter"}),
            *links("GET /api/sessions/{id}", id="$response.body#/events/0/sessionId"),
            *links("GET /api/registry/agents/{aid}", aid="$response.body#/events/0/aidA"),
        ),
    ),
    STREAM,
)
