"""The gate before the console: which hosts, which pages, and who has signed in (contract, section 22)."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import Response

from aitp_cp.protocol.scopes import Scope
from aitp_cp.runtime import Runtime
from aitp_cp.settings import SettingsError, load
from aitp_cp.web.context import context_of
from aitp_cp.web.edge import Edge
from aitp_cp.web.endpoint import Endpoint, Gate
from aitp_cp.web.routing import Router
from tests.support.app import AUTH, ENVIRONMENT, running_app

pytestmark = pytest.mark.anyio

OWN_PAGE = {"Sec-Fetch-Site": "same-origin"}


async def _who(rt: Runtime, request: Request) -> Response:
    return Response(context_of(request).actor)


def page(method: str, path: str, gate: Gate = Gate.SESSION) -> Endpoint:
    scope = Scope.EVENTS_READ if gate in (Gate.SESSION, Gate.API_KEY) else None
    return Endpoint(f"{method} {path}", _who, "", gate=gate, scope=scope, tag="", responses={})


TABLE = (
    page("GET", "/console/events"),
    page("POST", "/console/events"),
    page("POST", "/console/login", Gate.OPEN),
    page("GET", "/api/events", Gate.API_KEY),
)


@asynccontextmanager
async def gate(database_url: str, **environment: str) -> AsyncIterator[httpx.AsyncClient]:
    async with running_app(database_url, **environment) as app:
        transport = httpx.ASGITransport(Edge(app.rt, Router(app.rt, TABLE)))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost:4000") as http:
            yield http


async def status(http: httpx.AsyncClient, method: str, path: str, **headers: str) -> int:
    return (await http.request(method, path, headers=headers)).status_code


async def test_without_a_session_a_page_leads_to_the_login(database_url: str) -> None:
    async with gate(database_url) as http:
        for headers in ({}, AUTH):  # a key of the API opens nothing here
            response = await http.get("/console/events?type=a%26b", headers=headers)
            assert (response.status_code, response.headers["location"]) == (
                303,
                "/console/login?to=%2Fconsole%2Fevents%3Ftype%3Da%2526b",
            )
        assert await status(http, "HEAD", "/console/events") == 303
        assert await status(http, "GET", "/console/events", **{"X-Fragment": "list"}) == 401
        response = await http.post("/console/events", headers=OWN_PAGE)
        assert (response.status_code, response.json()["code"]) == (401, "SIGN_IN_REQUIRED")


@pytest.mark.parametrize(
    ("headers", "taken"),
    [
        ({"Sec-Fetch-Site": "same-origin"}, True),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "null"}, True),
        ({"Sec-Fetch-Site": "same-site", "Origin": "http://localhost:4000"}, False),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Sec-Fetch-Site": "none"}, False),
        ({"Sec-Fetch-Site": "same-origin, none"}, False),
        ({"Sec-Fetch-Site": ""}, False),
        ({"Origin": "http://localhost:4000"}, True),
        ({"Origin": "https://cp.example"}, True),
        ({"Origin": "http://cp.example"}, False),
        ({"Origin": "http://localhost:4001"}, False),
        ({"Origin": "https://evil.example"}, False),
        ({"Origin": "null"}, False),
        ({}, False),
    ],
)
async def test_unsafe_methods_are_for_our_own_pages(database_url: str, headers: dict[str, str], taken: bool) -> None:
    async with gate(database_url, CP_BASE_URL="https://cp.example/cp") as http:
        response = await http.post("/console/login", headers=headers)
        assert response.status_code == (200 if taken else 403), response.text
        assert taken or response.json()["code"] == "CROSS_SITE_REFUSED"


async def test_the_console_answers_for_known_hosts_only(database_url: str) -> None:
    async with gate(database_url, CP_BASE_URL="https://cp.example") as http:
        for host, expected in {
            "cp.example": 303,
            "localhost:4000": 303,
            "127.0.0.1": 303,
            "rebound.example": 421,
            "cp.example.evil.example": 421,
            "": 421,
        }.items():
            assert await status(http, "GET", "/console/events", Host=host) == expected, host
        assert await status(http, "GET", "/api/events", Host="rebound.example", **AUTH) == 200


async def test_an_origin_of_its_own(database_url: str) -> None:
    own = {"CP_BASE_URL": "https://cp.example", "CONSOLE_ORIGIN": "https://console.example"}
    async with gate(database_url, **own) as http:
        assert await status(http, "GET", "/console/events", Host="console.example") == 303
        assert await status(http, "GET", "/console/events", Host="cp.example") == 421
        assert await status(http, "GET", "/api/events", Host="console.example", **AUTH) == 421
        assert await status(http, "GET", "/api/events", Host="cp.example", **AUTH) == 200
        there = {"Host": "console.example"}
        assert await status(http, "POST", "/console/login", **there, Origin="https://console.example") == 200
        assert await status(http, "POST", "/console/login", **there, Origin="https://cp.example") == 403
    with pytest.raises(SettingsError, match="CONSOLE_ORIGIN: needs a host name other"):
        load({**ENVIRONMENT, **own, "CP_BASE_URL": "http://console.example:81"}, command="dev")


async def test_the_open_gate_of_development_is_open_here_too(database_url: str) -> None:
    async with gate(database_url, API_KEYS="") as http:
        assert (await http.get("/console/events")).text == "anonymous"
        assert (await http.post("/console/events", headers=OWN_PAGE)).text == "anonymous"
        assert await status(http, "POST", "/console/events") == 403
        assert await status(http, "GET", "/console/events", Host="rebound.example") == 421
