"""Find anything: the palette of every page leads here, with or without script."""

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from aitp_cp.console.page import is_fragment, render, screen, see_other
from aitp_cp.console.parts.link import link
from aitp_cp.protocol.scopes import Scope
from aitp_cp.runtime import Runtime
from aitp_cp.search import service
from aitp_cp.search.model import Hit, Kind, SearchQuery
from aitp_cp.web.context import context_of
from aitp_cp.web.query import read_query

PLACES = {
    Kind.AGENT: "/agents/{id}",
    Kind.SESSION: "/sessions/{id}",
    Kind.EVENT: "/events/{id}",
    Kind.TCT: "/tokens/{id}",
    Kind.DELEGATION: "/delegations/{id}",
    Kind.CONTAINMENT: "/containments/{id}",
    Kind.WEBHOOK: "/webhooks/{id}",
    Kind.KEY: "/keys",
    Kind.TRUST_ANCHOR: "/trust",
}


class Found(msgspec.Struct, frozen=True):
    hit: Hit
    url: str


class SearchView(msgspec.Struct, frozen=True):
    q: str
    rows: list[Found]


async def search(rt: Runtime, request: Request) -> Response:
    """Lead to the one thing that was found, or list what there is: so does the palette while one types."""
    query, scopes = read_query(request, SearchQuery), context_of(request).scopes
    result = await rt.db.read(lambda conn: service.search(conn, query.q, scopes, rt.clock()))
    rows = [Found(hit, _page_of(hit)) for hit in result.hits]
    # A token and its revocation are found by one id.
    if rows and len({row.hit.id for row in rows}) == 1 and not is_fragment(request):
        return see_other(rows[0].url)
    return await render(rt, request, "search.html", SearchView(result.q, rows), title="Search")


def _page_of(hit: Hit) -> str:
    if hit.kind is Kind.DELIVERY:
        return link("/webhooks/{webhook}/deliveries/{id}", webhook=hit.webhook_id, id=hit.id)
    if hit.kind is Kind.RUN:
        return link("/events", runId=hit.id)
    if hit.kind is Kind.REVOCATION:
        return link("/revocations", jti=hit.id)
    place = PLACES[hit.kind]
    return link(place, id=hit.id) if "{" in place else link(place)


PAGES = (screen("/search", search, scope=Scope.DASHBOARD_READ, query=SearchQuery),)
