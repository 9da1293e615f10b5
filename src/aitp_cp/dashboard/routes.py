"""The dashboard over HTTP; a response is kept for at most a second, or until something is written."""

from collections.abc import Awaitable, Callable, Hashable, Sequence
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from aitp_cp.dashboard import service, trust
from aitp_cp.dashboard.model import (
    ActivityQuery,
    AgentActivities,
    AgentEdges,
    EdgesQuery,
    MostTrusted,
    Overview,
    OverviewQuery,
)
from aitp_cp.db import Connection
from aitp_cp.events.model import Event
from aitp_cp.protocol.scopes import Scope
from aitp_cp.registry.model import ORDER
from aitp_cp.runtime import Runtime
from aitp_cp.web.endpoint import Endpoint, links
from aitp_cp.web.memo import Memo
from aitp_cp.web.query import read_query
from aitp_cp.web.responses import encode, json_bytes

SHARED_FOR_SECS = 1.0
MAX_BYTES = 16 * 2**20


class Screens(Memo[bytes]):
    """Encoded responses, by question."""

    def __init__(self, rt: Runtime) -> None:
        gauge = rt.metrics.answer_cache_bytes.labels(cache="dashboard")
        super().__init__(SHARED_FOR_SECS, MAX_BYTES, version=lambda: rt.db.commits, gauge=gauge)

    def size(self, value: bytes) -> int:
        return len(value)

    def on_events(self, events: Sequence[Event]) -> None:
        """Called by the tail: another replica may have written them."""
        self.clear()

    def on_reset(self) -> None:
        """Called by the tail: the log was replaced."""
        self.clear()


async def overview(rt: Runtime, request: Request) -> Response:
    query = read_query(request, OverviewQuery)
    span = service.chosen_range(query.range or query.window)
    return await _shared(rt, span, lambda conn: service.overview(conn, span, rt.clock()))


async def agents(rt: Runtime, request: Request) -> Response:
    query = read_query(request, ActivityQuery)
    window = query.window(ORDER)
    return await _shared(rt, query, lambda conn: service.agents(conn, window, rt.clock()))


async def edges(rt: Runtime, request: Request) -> Response:
    query = read_query(request, EdgesQuery)
    aid = query.aid
    if aid is None:
        return await _shared(rt, query, lambda conn: trust.most_trusted(conn, query, rt.clock()))
    return await _shared(rt, query, lambda conn: trust.around(conn, aid, query, rt.clock()))


async def _shared(rt: Runtime, question: Hashable, read: Callable[[Connection], Awaitable[Any]]) -> Response:
    """Return the response to a question, which callers who ask the same at the same time share."""

    async def build() -> bytes:
        return encode(await rt.db.read(read))

    return json_bytes(await rt.get(Screens).get((question, rt.db.reads_primary()), build))


endpoint = partial(Endpoint, tag="dashboard")

ENDPOINTS = (
    endpoint(
        "GET /api/dashboard/overview",
        overview,
        "Key figures, recent sessions and charts of a range of time",
        scope=Scope.DASHBOARD_READ,
        bulk=True,
        query=OverviewQuery,
        responses={200: Overview},
        leads_to=links("GET /api/sessions/{id}", id="$response.body#/recentSessions/0/sessionId"),
    ),
    endpoint(
        "GET /api/dashboard/agents",
        agents,
        "What each agent did",
        scope=Scope.DASHBOARD_READ,
        bulk=True,
        query=ActivityQuery,
        responses={200: AgentActivities},
        leads_to=(
            *links("GET /api/registry/agents/{aid}", aid="$response.body#/agents/0/aid"),
            *links("GET /api/sessions", "GET /api/trust/edges", aid="$response.body#/agents/0/aid"),
        ),
    ),
    endpoint(
        "GET /api/trust/edges",
        edges,
        "Who trusts whom: around one agent, or the agents that most others trust",
        scope=Scope.EVENTS_READ,
        bulk=True,
        query=EdgesQuery,
        responses={200: (AgentEdges, MostTrusted)},
    ),
)
