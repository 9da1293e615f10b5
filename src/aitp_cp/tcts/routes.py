"""GET /api/tcts and GET /api/delegations (contract, section 10)."""

from datetime import datetime

from starlette.requests import Request
from starlette.responses import Response

from aitp_cp.errors import BadRequest, FilterInvalid
from aitp_cp.runtime import Runtime
from aitp_cp.tcts import service
from aitp_cp.tcts.model import DELEGATION_ORDER, TCT_ORDER, DelegationFilter, DelegationList, TctFilter, TctList
from aitp_cp.web.endpoint import Endpoint, Link, links, paging, query
from aitp_cp.web.query import Query
from aitp_cp.web.responses import json_response


async def list_tcts(rt: Runtime, request: Request) -> Response:
    asked = Query.of(request)
    wanted = TctFilter(
        issuer=asked.aid("issuer"),
        subject=asked.aid("subject"),
        audience=asked.aid("audience"),
        capability=asked.text("capability"),
        session_id=asked.text("session_id"),
        active_at=_active_at(rt, asked),
    )
    window = asked.window(TCT_ORDER, 100, 1000)
    async with rt.db.connection() as conn:
        page = await service.list_tcts(conn, wanted, window)
    return json_response(page)


async def list_delegations(rt: Runtime, request: Request) -> Response:
    asked = Query.of(request)
    root = asked.uuid("root_jti", BadRequest)
    wanted = DelegationFilter(
        parent_jti=asked.uuid("parent_jti", BadRequest),
        delegator=asked.aid("delegator"),
        delegatee=asked.aid("delegatee"),
        active_at=_active_at(rt, asked),
    )
    window = asked.window(DELEGATION_ORDER, 100, 1000)
    if root is not None and window.before is not None:
        raise FilterInvalid("a tree comes as a whole: before and rootJti exclude each other")
    async with rt.db.connection() as conn:
        if root is not None:
            return json_response(await service.delegation_tree(conn, root, wanted.active_at))
        return json_response(await service.list_delegations(conn, wanted, window))


def _active_at(rt: Runtime, asked: Query) -> datetime | None:
    return rt.clock() if asked.flag("active") else None


ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/api/tcts",
        handler=list_tcts,
        summary="Tokens that agents reported, newest issued first",
        tag="tcts",
        bulk=True,
        params=(
            query("issuer", "AID of the issuer"),
            query("subject", "AID of the holder"),
            query("audience", "AID of the audience"),
            query("capability", "tokens that grant it"),
            query("sessionId", "tokens of one handshake"),
            query("active", "`true` leaves out revoked and expired tokens"),
            *paging(100, 1000),
        ),
        answers={200: TctList},
        leads_to=(
            Link("POST /api/revocation/entries", body={"jti": "$response.body#/tcts/0/jti"}),
            *links("GET /api/delegations", rootJti="$response.body#/tcts/0/jti"),
            *links("GET /api/sessions/{id}", id="$response.body#/tcts/0/sessionId"),
            *links("GET /api/registry/agents/{aid}", aid="$response.body#/tcts/0/subject"),
        ),
    ),
    Endpoint(
        method="GET",
        path="/api/delegations",
        handler=list_delegations,
        summary="Delegations, newest issued first, or the tree under one token",
        tag="tcts",
        bulk=True,
        params=(
            query("parentJti", "delegated directly from this token or delegation"),
            query("delegator", "AID of the delegator"),
            query("delegatee", "AID of the delegatee"),
            query("active", "`true` leaves out revoked and expired delegations"),
            query(
                "rootJti",
                "a token or a delegation: everything delegated from it, the delegation itself included, oldest first, "
                "at most 1000 rows and 32 levels; of the other filters only `active` applies",
            ),
            *paging(100, 1000),
        ),
        answers={200: DelegationList},
        errors=(BadRequest,),
        leads_to=(
            Link("POST /api/revocation/entries", body={"jti": "$response.body#/delegations/0/jti"}),
            *links("GET /api/delegations", rootJti="$response.body#/delegations/0/parentJti"),
            *links("GET /api/registry/agents/{aid}", aid="$response.body#/delegations/0/delegatee"),
        ),
    ),
)
