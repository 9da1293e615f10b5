"""GET /api/search."""

from starlette.requests import Request
from starlette.responses import Response

from aitp_cp.protocol.scopes import Scope
from aitp_cp.runtime import Runtime
from aitp_cp.search import service
from aitp_cp.search.model import SearchQuery, SearchResult
from aitp_cp.web.context import context_of
from aitp_cp.web.endpoint import Endpoint
from aitp_cp.web.query import read_query
from aitp_cp.web.responses import json_response


async def search(rt: Runtime, request: Request) -> Response:
    query, scopes = read_query(request, SearchQuery), context_of(request).scopes
    async with rt.db.connection() as conn:
        return json_response(await service.search(conn, query.q, scopes, rt.clock()))


ENDPOINTS = (
    Endpoint(
        "GET /api/search",
        search,
        "Whatever has this id, and agents whose name begins so, as far as the caller may read it",
        tag="dashboard",
        scope=Scope.DASHBOARD_READ,
        query=SearchQuery,
        responses={200: SearchResult},
    ),
)
