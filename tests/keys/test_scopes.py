"""Every endpoint against every role and every single scope: the gate lets through what the table says, and no more."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import Response

from aitp_cp.app import ENDPOINTS
from aitp_cp.audit.model import Actor
from aitp_cp.keys import service
from aitp_cp.keys.cache import KeyCache
from aitp_cp.keys.model import Grantor, NewKey
from aitp_cp.protocol.scopes import ROLES, Role, Scope
from aitp_cp.runtime import Runtime
from aitp_cp.web.edge import Edge
from aitp_cp.web.endpoint import Endpoint, Gate
from aitp_cp.web.routing import Router
from tests.keys.support import holding
from tests.support.app import App
from tests.support.described import DOCUMENT
from tests.support.rows import value

pytestmark = pytest.mark.anyio

GATED = [endpoint for endpoint in ENDPOINTS if endpoint.gated]
# Contract, section 18, by the beginning of the path: what a GET needs, and what any other method needs.
SCOPES = {
    "/api/registry/agents/{aid}/export": ("events:read", None),
    "/api/registry/agents/{aid}/contain": (None, "agents:contain"),
    "/api/registry/agents/{aid}/release": (None, "agents:contain"),
    "/api/containments": ("agents:read", None),
    "/api/registry/notes": ("agents:read", None),
    "/api/registry/agents/{aid}": ("agents:read", "agents:write"),
    "/api/events": ("events:read", "events:write"),
    "/api/sessions": ("events:read", None),
    "/api/tcts": ("events:read", None),
    "/api/delegations": ("events:read", None),
    "/api/revocation/entries": ("revocation:read", "revocation:write"),
    "/api/webhooks": ("webhooks:read", "webhooks:write"),
    "/api/trust-anchors": ("trust:read", "trust:write"),
    "/api/pinned-keys": ("trust:read", "trust:write"),
    "/api/dashboard": ("dashboard:read", None),
    "/api/search": ("dashboard:read", None),
    "/api/audit": ("audit:read", None),
    "/api/keys": ("keys:admin", "keys:admin"),
    "/api/whoami": (None, None),
}
HOLDERS: dict[str, frozenset[Scope]] = {
    **{str(role): scopes for role, scopes in ROLES.items()},
    **{str(scope): frozenset({scope}) for scope in Scope},
}


def by_contract(endpoint: Endpoint) -> str | None:
    listed = next(scopes for start, scopes in SCOPES.items() if endpoint.path.startswith(start))
    return listed[endpoint.method != "GET"]


def test_the_table_is_the_contracts() -> None:
    known = [endpoint for endpoint in GATED if any(map(endpoint.path.startswith, SCOPES))]
    assert {endpoint.name: endpoint.scope for endpoint in known} == {e.name: by_contract(e) for e in known}
    assert len(known) > 40
    assert [endpoint.name for endpoint in GATED if endpoint.gate is Gate.CREDENTIAL] == ["GET /api/whoami"]


def test_the_document_shows_the_scope() -> None:
    for endpoint in ENDPOINTS:
        operation = DOCUMENT["paths"][endpoint.path][endpoint.method.lower()]
        assert operation.get("x-required-scope") == endpoint.scope, endpoint.name
        assert ("SCOPE_MISSING" in str(operation)) == (endpoint.scope is not None), endpoint.name


def test_the_document_shows_where_an_agents_token_counts() -> None:
    operations = {(path, method): of for path, item in DOCUMENT["paths"].items() for method, of in item.items()}
    shown = {name for name, operation in operations.items() if {"agentToken": []} in operation["security"]}
    assert shown == {("/api/events", "post"), ("/api/whoami", "get")}


def test_an_endpoint_cannot_forget_its_scope() -> None:
    for change in ({"scope": None}, {"gate": Gate.OPEN}):
        with pytest.raises(TypeError, match="scope"):
            replace(GATED[0], **change)


@dataclass
class Recorded:
    """The real gate before handlers that only note that they were reached."""

    http: httpx.AsyncClient
    keys: dict[str, str]
    reached: list[str]


@pytest.fixture
async def recorded(app: App) -> AsyncIterator[Recorded]:
    reached: list[str] = []

    def noting(endpoint: Endpoint) -> Endpoint:
        async def handler(rt: Runtime, request: Request) -> Response:
            reached.append(endpoint.name)
            return Response(status_code=204)

        return replace(endpoint, handler=handler)

    keys = {}
    async with app.rt.db.transaction() as conn:
        for name, scopes in HOLDERS.items():
            new = NewKey(name, role=Role(name)) if name in ROLES else NewKey(name, scopes=list(scopes))
            made = await service.create(conn, new, Grantor(actor=Actor("cli", None)), app.clock())
            keys[name] = made.key
    edge = Edge(app.rt, Router(app.rt, map(noting, ENDPOINTS), (app.rt.get(KeyCache),)))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(edge), base_url="http://cp.test") as http:
        yield Recorded(http, keys, reached)


@pytest.mark.parametrize("holder", HOLDERS, ids=str)
async def test_every_endpoint(app: App, recorded: Recorded, holder: str) -> None:
    """What is refused is 403 with the scope, before the path's ids or the body are looked at."""
    headers = {**holding(recorded.keys[holder]), "Idempotency-Key": "once", "Content-Type": "application/json"}
    for endpoint in GATED:
        recorded.reached.clear()
        path = endpoint.path.replace("{", "").replace("}", "")
        response = await recorded.http.request(endpoint.method, path, headers=headers, content=b"{")
        if endpoint.scope is None or endpoint.scope in HOLDERS[holder]:
            assert (response.status_code, recorded.reached) == (204, [endpoint.name])
        else:
            assert (response.status_code, recorded.reached) == (403, []), endpoint.name
            body: dict[str, Any] = response.json()
            assert (body["code"], body["required"]) == ("SCOPE_MISSING", endpoint.scope)
    assert await value(app, "SELECT count(*) FROM idempotency_keys") == 0
