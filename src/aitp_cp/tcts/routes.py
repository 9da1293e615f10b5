"""GET /api/tcts and GET /api/delegations (contract, section 10)."""

from functools import partial

from starlette.requests import Request
from starlette.responses import Response

from aitp_cp.errors import FilterInvalid
from aitp_cp.protocol.scopes import Scope
from aitp_cp.runtime import Runtime
from aitp_cp.tcts import queries
from aitp_cp.tcts.model import DELEGATION_ORDER
from aitp_cp.tcts.views import DelegationFilter, DelegationList, TctFilter, TctList
from aitp_cp.web.endpoint import Endpoint, Link, links
from aitp_cp.web.query import read_query
from aitp_cp.web.responses import json_bytes


async def list_tcts(rt: Runtime, request: Request) -> Response:
    query = read_query(request, TctFilter)
    window = query.window(query.order)
    return json_bytes((await rt.db.read(lambda conn: queries.list_tcts(conn, query, window, rt.clock()))).text)


async def list_delegations(rt: Runtime, request: Request) -> Response:
    query = read_query(request, DelegationFilter)
    window = query.window(DELEGATION_ORDER)
    root_jti = query.root_jti
    if root_jti is None:
        page = await rt.db.read(lambda conn: queries.list_delegations(conn, query, window, rt.clock()))
    elif window.before is None:
        active_at = rt.clock() if query.active else None
        page = await rt.db.read(lambda conn: queries.tree(conn, root_jti, active_at))
    else:
        raise FilterInvalid("a tree comes as a whole: before and rootJti exclude each other")
    return json_bytes(page.text)


endpoint = partial(Endpoint, tag="tcts")

ENDPOINTS = (
    endpoint(
        "GET /api/tcts",
        list_tcts,
        "Tokens that agents reported, newest issued first",
        scope=Scope.EVENTS_READ,
        query=TctFilter,
        responses={200: TctList},
        leads_to=(
            Link("POST /api/revocation/entries", body={"jti": "$response.body#/tcts/0/jti"}),
            *links("GET /api/delegations", rootJti="$response.body#/tcts/0/jti"),
            *links("GET /api/sessions/{id}", id="$response.body#/tcts/0/sessionId"),
            *links("GET /api/registry/agents/{aid}", aid="$response.body#/tcts/0/subject"),
        ),
    ),
    endpoint(
        "GET /api/delegations",
        list_delegations,
        "Delegations, newest issued first, or the tree under one token",
        scope=Scope.EVENTS_READ,
        query=DelegationFilter,
        responses={200: DelegationList},
        leads_to=(
            Link("POST /api/revocation/entries", body={"jti": "$response.body#/delegations/0/jti"}),
            *links("GET /api/delegations", rootJti="$response.body#/delegations/0/parentJti"),
            *links("GET /api/registry/agents/{aid}", aid="$response.body#/delegations/0/delegatee"),
        ),
    ),
)
