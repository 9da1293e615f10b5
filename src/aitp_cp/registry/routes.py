"""The registry over HTTP (contract, section 8)."""

import asyncio
from datetime import timedelta
from functools import lru_cache, partial

from starlette.requests import Request
from starlette.responses import Response

from aitp_cp.audit.routes import actor_of
from aitp_cp.db import Connection
from aitp_cp.errors import (
    AgentContained,
    AgentDeregistered,
    AgentTokenInvalid,
    BodyInvalid,
    ManifestExpired,
    ManifestInvalid,
    ManifestStale,
    NamespaceConflict,
    NamespaceFixed,
    ProofRequired,
    TokenInvalid,
    TokenReplayed,
)
from aitp_cp.idempotency.edge import reply_once
from aitp_cp.idempotency.model import ApiResponse
from aitp_cp.protocol import manifest as manifests
from aitp_cp.protocol.agent_token import AgentTokens
from aitp_cp.protocol.manifest import MIN_TIME_LEFT, Manifest
from aitp_cp.protocol.namespace import check_namespace
from aitp_cp.protocol.scopes import Scope
from aitp_cp.registry import contained, enrolment, history, service
from aitp_cp.registry.cache import RegistryCache
from aitp_cp.registry.model import (
    AgentList,
    AgentUpdate,
    AgentView,
    Deregistered,
    EnrollmentAnswer,
    ListFilter,
    ManifestList,
    NamespaceWish,
    Registered,
)
from aitp_cp.runtime import Runtime
from aitp_cp.web.body import decode, read_body
from aitp_cp.web.context import context_of
from aitp_cp.web.endpoint import Bucket, Endpoint, Gate, Link, Param, in_path, links
from aitp_cp.web.gate import bearer
from aitp_cp.web.path import path_aid
from aitp_cp.web.query import decode_query
from aitp_cp.web.responses import json_bytes, json_response

PROOF_HEADER = "X-Aitp-Agent-Token"
MAX_KEPT_QUERY_BYTES = 1024  # longer ones are no keys of the cache, which counts the bytes of responses
# The token lives five minutes and the manifest had more than that left when it was minted.
STILL_VALID = timedelta(0)
AID = in_path("aid", "the agent's AID, percent-encoded")
SHA256 = in_path("sha256", "SHA-256 of the canonical envelope")

# Where an agent's AID leads.
AGENT = (
    "GET /api/registry/agents/{aid}",
    "GET /api/registry/agents/{aid}/manifest",
    "GET /api/registry/agents/{aid}/manifests",
    "GET /api/registry/agents/{aid}/export",
    "DELETE /api/registry/agents/{aid}",
    "GET /api/sessions",
    "GET /api/events/history",
)
MOVE = Link(
    "PATCH /api/registry/agents/{aid}",
    {"aid": "$response.body#/aid"},
    body={"namespace": "$response.body#/namespace"},
)
NOTE = Link(
    "PUT /api/registry/agents/{aid}/notes",
    {"aid": "$response.body#/aid"},
    body={"labels": ["$response.body#/namespace"]},
)


async def enroll(rt: Runtime, request: Request) -> Response:
    body = await read_body(request)
    try:
        manifest = await verified(rt, body, time_left=MIN_TIME_LEFT)
    except (BodyInvalid, ManifestInvalid, ManifestExpired) as refused:
        rt.metrics.enroll_failures.labels(code=refused.extra.get("verifyCode", refused.code)).inc()
        raise
    async with rt.db.connection() as conn:
        await contained.check_free(conn, manifest.aid)
    return json_response(enrolment.enroll(secret_of(rt), manifest, rt.clock()))


async def register(rt: Runtime, request: Request) -> Response:
    body = await read_body(request)
    manifest = await verified(rt, body, time_left=STILL_VALID)
    claims = enrolment.check_token(secret_of(rt), bearer(request.headers), manifest, rt.clock())
    proven = enrolment.check_proof(rt.get(AgentTokens), request.headers.get(PROOF_HEADER), manifest, rt.clock())
    if rt.settings.enrolment == "proof" and not proven:
        raise ProofRequired
    context_of(request).actor = f"enrollment:{manifest.aid}"
    actor = actor_of(rt, request)
    header = request.headers.get("x-aitp-namespace")

    async def effect(conn: Connection) -> ApiResponse:
        wish = NamespaceWish(enrolment.requested_namespace(header, manifest), proven)
        return ApiResponse(201, await enrolment.register(conn, manifest, claims, wish, actor, rt.clock()))

    # JSON holds no NUL, so body and header cannot run into each other.
    body += b"" if header is None else b"\0" + header.encode("latin-1")
    body += b"\0proven" if proven else b""
    try:
        return await reply_once(rt, request, endpoint="agents.register", caller=manifest.aid, body=body, effect=effect)
    finally:  # after a failure, too: the commit may have happened although its confirmation was lost
        rt.get(RegistryCache).changed(manifest.aid, {None, *manifest.offered_caps})


async def list_agents(rt: Runtime, request: Request) -> Response:
    raw = request.scope["query_string"]
    cache = rt.get(RegistryCache)
    if len(raw) > MAX_KEPT_QUERY_BYTES:
        return await cache.read_page(decode_query(raw, ListFilter))
    return await cache.page(_short_filter(raw))


@lru_cache(maxsize=256)
def _short_filter(raw: bytes) -> ListFilter:
    return decode_query(raw, ListFilter)


async def get_agent(rt: Runtime, request: Request) -> Response:
    return await rt.get(RegistryCache).agent(path_aid(request))


async def get_manifest(rt: Runtime, request: Request) -> Response:
    return await rt.get(RegistryCache).manifest(path_aid(request))


async def list_manifests(rt: Runtime, request: Request) -> Response:
    async with rt.db.connection() as conn:
        return json_response(await history.list_manifests(conn, path_aid(request)))


async def get_kept_manifest(rt: Runtime, request: Request) -> Response:
    async with rt.db.connection() as conn:
        return json_bytes(await history.raw(conn, path_aid(request), request.path_params["sha256"]))


async def update(rt: Runtime, request: Request) -> Response:
    body = decode(await read_body(request), AgentUpdate)
    check_namespace(body.namespace)
    aid = path_aid(request)
    async with rt.get(RegistryCache).changing(aid, None) as conn:
        agent = await service.move(conn, aid, body.namespace, actor_of(rt, request), rt.clock())
    return json_response(agent)


async def deregister(rt: Runtime, request: Request) -> Response:
    aid = path_aid(request)
    async with rt.get(RegistryCache).changing(aid) as conn:
        response = await service.deregister(conn, aid, actor_of(rt, request), rt.clock())
    return json_response(response)


async def verified(rt: Runtime, body: bytes, time_left: timedelta) -> Manifest:
    """Return the manifest; raises `BodyInvalid`, `ManifestInvalid` or `ManifestExpired`."""
    check = partial(manifests.verify, body, rt.clock(), production=rt.settings.production, time_left=time_left)
    # Ed25519 verifies in a tenth of a millisecond; P-256 is slow enough to hold the event loop up.
    return await asyncio.to_thread(check) if manifests.needs_thread(body) else check()


def secret_of(rt: Runtime) -> bytes:
    """Return what enrollment tokens are signed with."""
    return rt.settings.enrollment_secret.get_secret_value().encode()


endpoint = partial(Endpoint, tag="registry", params=(AID, SHA256))

ENDPOINTS = (
    endpoint(
        "POST /api/registry/enroll",
        enroll,
        "Prove an identity with its signed manifest, get a one-time enrollment token",
        gate=Gate.OPEN,
        bucket=Bucket.ENROLL_IP,
        body=dict,
        responses={200: EnrollmentAnswer},
        errors=(ManifestInvalid, ManifestExpired, AgentContained),
        # The token goes into Authorization, which OpenAPI keeps out of its parameters.
        leads_to=(Link("POST /api/registry/agents", body="$request.body"),),
    ),
    endpoint(
        "POST /api/registry/agents",
        register,
        "Register the enrolled manifest",
        gate=Gate.ENROLLMENT_TOKEN,
        idempotent=True,
        params=(
            Param("X-Aitp-Namespace", "the agent's namespace", {"type": "string"}, place="header"),
            Param(PROOF_HEADER, "an agent token: proves that the agent itself registers", {"type": "string"}, "header"),
        ),
        body=dict,
        responses={201: Registered},
        errors=(
            ManifestInvalid,
            ManifestExpired,
            TokenInvalid,
            TokenReplayed,
            AgentTokenInvalid,
            ProofRequired,
            NamespaceConflict,
            NamespaceFixed,
            ManifestStale,
            AgentContained,
            AgentDeregistered,
        ),
        leads_to=links(*AGENT, aid="$response.body#/aid"),
    ),
    endpoint(
        "GET /api/registry/agents",
        list_agents,
        "Discover agents",
        gate=Gate.OPEN,
        query=ListFilter,
        responses={200: AgentList},
        leads_to=links(*AGENT, aid="$response.body#/agents/0/aid"),
    ),
    endpoint(
        "GET /api/registry/agents/{aid}",
        get_agent,
        "One agent",
        gate=Gate.OPEN,
        responses={200: AgentView},
        leads_to=(*links(*AGENT, aid="$response.body#/aid"), MOVE, NOTE),
    ),
    endpoint(
        "GET /api/registry/agents/{aid}/manifest",
        get_manifest,
        "The manifest exactly as the agent signed it",
        gate=Gate.OPEN,
        responses={200: dict},
    ),
    endpoint(
        "GET /api/registry/agents/{aid}/manifests",
        list_manifests,
        "The newest manifests that an agent registered, newest first",
        scope=Scope.AGENTS_READ,
        responses={200: ManifestList},
        leads_to=links(
            "GET /api/registry/agents/{aid}/manifests/{sha256}",
            aid="$request.path.aid",
            sha256="$response.body#/manifests/0/sha256",
        ),
    ),
    endpoint(
        "GET /api/registry/agents/{aid}/manifests/{sha256}",
        get_kept_manifest,
        "One of these manifests, exactly as the agent signed it",
        scope=Scope.AGENTS_READ,
        responses={200: dict},
    ),
    endpoint(
        "PATCH /api/registry/agents/{aid}",
        update,
        "Move an agent to another namespace",
        scope=Scope.AGENTS_WRITE,
        body=AgentUpdate,
        responses={200: AgentView},
        leads_to=links(*AGENT, aid="$response.body#/aid"),
    ),
    endpoint(
        "DELETE /api/registry/agents/{aid}",
        deregister,
        "Deregister an agent",
        scope=Scope.AGENTS_WRITE,
        responses={200: Deregistered},
        leads_to=links(*AGENT, aid="$response.body#/aid"),
    ),
)
