"""Every page and action of the console against every role: the gate lets through what the table says, and no more."""

import re
from collections.abc import AsyncIterator
from dataclasses import replace

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import Response

from aitp_cp.accounts.edge import BrowserSessions
from aitp_cp.console.routes import ENDPOINTS, ENTRIES
from aitp_cp.protocol.scopes import ROLES, Role
from aitp_cp.runtime import Runtime
from aitp_cp.web.edge import Edge
from aitp_cp.web.endpoint import Endpoint, Gate
from aitp_cp.web.routing import Router
from tests.console.test_events import handshake
from tests.dashboard.test_trust import token
from tests.support.app import App
from tests.support.console import ORIGIN, Browser, signed_in

pytestmark = pytest.mark.anyio

BEHIND = [endpoint for endpoint in ENDPOINTS if endpoint.gate is Gate.SESSION]
OPEN = {
    "GET /console/login",
    "POST /console/login",
    "POST /console/logout",
    "GET /console/login/oidc",
    "GET /console/login/oidc/callback",
    "POST /console/login/oidc/ended",
    "GET /console/static/{version}/{name}",
    "POST /console/csp",
}
# What a person may do with each session: see himself, choose how pages look, keep views, be rung. All else has a scope.
WITHOUT_SCOPE = {
    "GET /console/live",
    "GET /console/me",
    "POST /console/me/end",
    "POST /console/preferences",
    "GET /console/views",
    "POST /console/views",
    "POST /console/views/forget",
}
FROM_ELSEWHERE = {"POST /console/csp", "POST /console/login/oidc/ended"}


@pytest.fixture
async def reached(app: App) -> AsyncIterator[tuple[list[str], httpx.AsyncClient]]:
    """The real gate before handlers that only note that they were reached."""
    names: list[str] = []

    def noting(endpoint: Endpoint) -> Endpoint:
        async def handler(rt: Runtime, request: Request) -> Response:
            names.append(endpoint.name)
            return Response(status_code=204)

        return replace(endpoint, handler=handler)

    edge = Edge(app.rt, Router(app.rt, map(noting, ENDPOINTS), sessions=app.rt.get(BrowserSessions)))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(edge), base_url=ORIGIN) as http:
        yield names, http


def test_every_other_page_is_behind_the_gate_and_has_a_scope() -> None:
    assert {endpoint.name for endpoint in ENDPOINTS} - {endpoint.name for endpoint in BEHIND} <= OPEN
    assert {endpoint.name for endpoint in BEHIND if endpoint.scope is None} <= WITHOUT_SCOPE
    assert {endpoint.name for endpoint in ENDPOINTS if endpoint.cross_site} <= FROM_ELSEWHERE
    assert all(endpoint.path.startswith("/console/") and not endpoint.documented for endpoint in ENDPOINTS)


@pytest.mark.parametrize("role", [Role.ADMIN, Role.OPERATOR, Role.AUDITOR], ids=str)
async def test_what_is_hidden_is_also_refused(
    app: App, reached: tuple[list[str], httpx.AsyncClient], role: Role
) -> None:
    names, http = reached
    async with signed_in(app, role) as browser:
        page = (await browser.get("/console/me")).text
        shown = {entry.path for entry in ENTRIES if f'href="{entry.path}"' in page}
        assert shown == {entry.path for entry in ENTRIES if entry.scope is None or entry.scope in ROLES[role]}
        noting = Browser(http)
        noting.cookies = browser.cookies
        for endpoint in BEHIND:
            names.clear()
            path = endpoint.path.replace("{", "").replace("}", "")
            send = noting.get if endpoint.method == "GET" else noting.post
            response = await send(path)
            allowed = endpoint.scope is None or endpoint.scope in ROLES[role]
            assert (response.status_code, names) == ((204, [endpoint.name]) if allowed else (403, [])), endpoint.name


FORGED: tuple[dict[str, str], ...] = (
    {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"},
    {"Sec-Fetch-Site": "same-site", "Origin": "http://localhost:4001"},
    {"Sec-Fetch-Site": "none"},
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {},
)


async def test_a_forged_post_reaches_nothing(app: App, reached: tuple[list[str], httpx.AsyncClient]) -> None:
    names, http = reached
    async with signed_in(app) as browser:
        cookie = {"Cookie": f"acp-dev={browser.session}"}
        for endpoint in ENDPOINTS:
            if endpoint.method == "GET" or endpoint.cross_site:
                continue
            path = endpoint.path.replace("{", "").replace("}", "")
            for headers in FORGED:
                response = await http.request(endpoint.method, path, headers={**cookie, **headers}, data={"a": "b"})
                assert (response.status_code, response.json()["code"]) == (403, "CROSS_SITE_REFUSED"), endpoint.name
    assert names == []


MOST_PAGES = 40
OFFERED = re.compile(r'<form method="post" action="([^"?]+)|<a [^>]*href="(/console/[^"?#]*)')


def endpoint_of(method: str, path: str) -> Endpoint:
    """Return the endpoint of an address; one without braces goes first."""
    matching = [
        endpoint
        for endpoint in sorted(ENDPOINTS, key=lambda endpoint: endpoint.path.count("{"))
        if endpoint.method == method and re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", endpoint.path), path)
    ]
    assert matching, f"{method} {path} leads nowhere"
    return matching[0]


@pytest.mark.parametrize("role", [Role.ADMIN, Role.OPERATOR, Role.AUDITOR], ids=str)
async def test_pages_offer_nothing_that_is_refused(app: App, role: Role) -> None:
    await app.post("/api/events", [handshake(), token(app, 1, "planner", "centre")])
    async with signed_in(app, role) as browser:
        seen, found = set[str](), ["/console/"]
        while found and len(seen) < MOST_PAGES:
            path = found.pop(0)
            if path in seen:
                continue
            seen.add(path)
            response = await browser.get(path)
            assert response.status_code in (200, 303, 400), (path, response.text)  # 400 is a query left out
            for form, page in OFFERED.findall(response.text):
                scope = endpoint_of("POST" if form else "GET", form or page).scope
                assert scope is None or scope in ROLES[role], (path, form or page)
                found += [page] if page else []
        assert "/console/agents/planner" in seen
