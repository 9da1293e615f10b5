"""Containing agents over HTTP (contract, section 21)."""

from functools import partial

from starlette.requests import Request
from starlette.responses import Response

from aitp_cp.audit.routes import actor_of
from aitp_cp.containment import acting, service, store
from aitp_cp.containment import reach as reached
from aitp_cp.containment.model import (
    ORDER,
    Containment,
    ContainmentPage,
    ContainmentQuery,
    ContainQuery,
    NewContainment,
    NewRelease,
)
from aitp_cp.containment.reach import Reach
from aitp_cp.errors import BadRequest, NotContained, PlanChanged
from aitp_cp.protocol.scopes import Scope
from aitp_cp.runtime import Runtime
from aitp_cp.web.body import decode, read_body
from aitp_cp.web.endpoint import Endpoint, Link, in_path, links, uuid_in_path
from aitp_cp.web.path import path_aid, path_uuid
from aitp_cp.web.query import read_query
from aitp_cp.web.responses import json_response
from aitp_cp_client.wire import aid as aids

AID = in_path("aid", "the agent's AID, percent-encoded; it need not be registered")
ID = uuid_in_path("id", "the containment")
LEADS_TO = (
    *links("GET /api/containments/{id}", id="$response.body#/containment/id"),
    *links("GET /.well-known/aitp-revocation-list"),
    Link(
        "POST /api/registry/agents/{aid}/release",
        {"aid": "$response.body#/containment/aid"},
        body={"reason": "$response.body#/containment/reason"},
    ),
)


async def contain(rt: Runtime, request: Request) -> Response:
    aid, body = _known_spelling(request), decode(await read_body(request), NewContainment)
    dry_run = read_query(request, ContainQuery).dry_run
    done = None if dry_run else await acting.contain(rt, aid, body, actor_of(rt, request))
    if done is not None:
        return json_response(service.shown(done), 201)
    async with rt.db.connection() as conn:
        return json_response(await service.plan(conn, aid, body, rt.clock()))


async def release(rt: Runtime, request: Request) -> Response:
    aid, body = _known_spelling(request), decode(await read_body(request), NewRelease)
    released = await acting.release(rt, aid, body.reason, actor_of(rt, request))
    return json_response(service.shown(released))


async def list_containments(rt: Runtime, request: Request) -> Response:
    query = read_query(request, ContainmentQuery)
    async with rt.db.connection() as conn:
        return json_response(await store.page(conn, query, query.window(ORDER)))


async def get_containment(rt: Runtime, request: Request) -> Response:
    async with rt.db.connection() as conn:
        return json_response(service.shown(await service.get(conn, path_uuid(request))))


async def get_reach(rt: Runtime, request: Request) -> Response:
    async with rt.db.connection() as conn:
        return json_response(await reached.reach(conn, path_uuid(request)))


def _known_spelling(request: Request) -> str:
    """Return the agent in the path; raises `BadRequest` for what is no AID, which would contain nobody."""
    aid = aids.recognise(path_aid(request))
    if aid is None:
        raise BadRequest("the path does not name an AID")
    return aid


endpoint = partial(Endpoint, tag="containment", params=(AID, ID))

ENDPOINTS = (
    endpoint(
        "POST /api/registry/agents/{aid}/contain",
        contain,
        "Cut an agent off: revoke every live token it issued or holds, and let it enrol no more",
        scope=Scope.AGENTS_CONTAIN,
        query=ContainQuery,
        body=NewContainment,
        responses={201: Containment, 200: Containment},
        errors=(PlanChanged,),
        leads_to=LEADS_TO,
    ),
    endpoint(
        "POST /api/registry/agents/{aid}/release",
        release,
        "End a containment; the agent's tokens stay revoked, and it may enrol with a new manifest",
        scope=Scope.AGENTS_CONTAIN,
        body=NewRelease,
        responses={200: Containment},
        errors=(NotContained,),
        leads_to=LEADS_TO[:1],
    ),
    endpoint(
        "GET /api/containments",
        list_containments,
        "Containments, newest first",
        scope=Scope.AGENTS_READ,
        query=ContainmentQuery,
        responses={200: ContainmentPage},
        leads_to=links("GET /api/containments/{id}", id="$response.body#/containments/0/id"),
    ),
    endpoint(
        "GET /api/containments/{id}",
        get_containment,
        "One containment, as it was planned",
        scope=Scope.AGENTS_READ,
        responses={200: Containment},
        leads_to=(*links("GET /api/containments/{id}/reach", id="$response.body#/containment/id"), *LEADS_TO[2:]),
    ),
    endpoint(
        "GET /api/containments/{id}/reach",
        get_reach,
        "Which clients have shown to hold the list with a containment's revocations",
        scope=Scope.AGENTS_READ,
        responses={200: Reach},
    ),
)
