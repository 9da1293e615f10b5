"""The trust store over HTTP (contract, section 13)."""

from functools import partial

from starlette.requests import Request
from starlette.responses import Response

from aitp_cp.audit.routes import actor_of
from aitp_cp.clock import iso
from aitp_cp.db import Connection
from aitp_cp.errors import AlreadyExists, BadRequest, JwksNotCached, NotFound
from aitp_cp.idempotency.edge import reply_once
from aitp_cp.idempotency.model import ApiResponse
from aitp_cp.protocol.scopes import Scope
from aitp_cp.runtime import Runtime
from aitp_cp.truststore import pinned_keys, service, store
from aitp_cp.truststore.model import (
    ANCHOR_ORDER,
    PINNED_ORDER,
    AnchorList,
    AnchorPatch,
    AnchorQuery,
    AnchorView,
    NewAnchor,
    NewPinnedKey,
    PinnedKeyList,
    PinnedKeyName,
    PinnedKeyQuery,
    PinnedKeyView,
)
from aitp_cp.truststore.refresher import JwksRefresher
from aitp_cp.web.body import decode, read_body
from aitp_cp.web.endpoint import Endpoint, links, uuid_in_path
from aitp_cp.web.path import path_uuid
from aitp_cp.web.query import read_query
from aitp_cp.web.responses import json_bytes, json_response, no_content

ANCHOR_ID = uuid_in_path("id", "the anchor's id")

# Where an anchor's id leads, and an agent's AID with its namespace.
ANCHOR = (
    "GET /api/trust-anchors/{id}",
    "PATCH /api/trust-anchors/{id}",
    "DELETE /api/trust-anchors/{id}",
    "GET /api/trust-anchors/{id}/jwks",
)
PINNED_KEY = ("GET /api/pinned-keys", "DELETE /api/pinned-keys")


async def list_anchors(rt: Runtime, request: Request) -> Response:
    query = read_query(request, AnchorQuery)
    window = query.window(ANCHOR_ORDER)
    async with rt.db.connection() as conn:
        page = await store.list_anchors(conn, query.namespace, window)
    return json_response(page)


async def create_anchor(rt: Runtime, request: Request) -> Response:
    body = await read_body(request)
    actor = actor_of(rt, request)

    async def effect(conn: Connection) -> ApiResponse:
        return ApiResponse(201, await service.create(conn, decode(body, NewAnchor), actor, rt.clock()))

    response = await reply_once(rt, request, endpoint="trust-anchors.create", caller=actor.id, body=body, effect=effect)
    rt.get(JwksRefresher).wake()
    return response


async def get_anchor(rt: Runtime, request: Request) -> Response:
    async with rt.db.connection() as conn:
        return json_response(await service.get(conn, path_uuid(request)))


async def update_anchor(rt: Runtime, request: Request) -> Response:
    id, patch = path_uuid(request), decode(await read_body(request), AnchorPatch)
    async with rt.db.transaction() as conn:
        anchor = await service.update(conn, id, patch, actor_of(rt, request), rt.clock())
    rt.get(JwksRefresher).wake()
    return json_response(anchor)


async def delete_anchor(rt: Runtime, request: Request) -> Response:
    async with rt.db.transaction() as conn:
        await service.delete(conn, path_uuid(request), actor_of(rt, request), rt.clock())
    return no_content()


async def get_jwks(rt: Runtime, request: Request) -> Response:
    async with rt.db.connection() as conn:
        keys = await service.keys(conn, path_uuid(request))
    return json_bytes(keys.text, headers={"X-JWKS-Cached-At": iso(keys.cached_at)})


async def get_pinned_keys(rt: Runtime, request: Request) -> Response:
    query = read_query(request, PinnedKeyQuery)
    window = query.window(PINNED_ORDER)
    async with rt.db.connection() as conn:
        if query.aid is not None:
            return json_response(await pinned_keys.get(conn, query.namespace, query.aid))
        return json_response(await store.list_pinned(conn, query.namespace, window))


async def upsert_pinned_key(rt: Runtime, request: Request) -> Response:
    body = await read_body(request)
    actor = actor_of(rt, request)

    async def effect(conn: Connection) -> ApiResponse:
        key = pinned_keys.read_key(decode(body, NewPinnedKey))
        return ApiResponse(201, await pinned_keys.upsert(conn, key, actor, rt.clock()))

    return await reply_once(rt, request, endpoint="pinned-keys.upsert", caller=actor.id, body=body, effect=effect)


async def delete_pinned_key(rt: Runtime, request: Request) -> Response:
    query = read_query(request, PinnedKeyName)
    if query.aid is None:
        raise BadRequest("aid is missing")
    async with rt.db.transaction() as conn:
        await pinned_keys.delete(conn, query.namespace, query.aid, actor_of(rt, request), rt.clock())
    return no_content()


endpoint = partial(Endpoint, tag="trust store", params=(ANCHOR_ID,))

ENDPOINTS = (
    endpoint(
        "GET /api/trust-anchors",
        list_anchors,
        "Trust anchors, oldest first",
        scope=Scope.TRUST_READ,
        query=AnchorQuery,
        responses={200: AnchorList},
        leads_to=links(*ANCHOR, id="$response.body#/trustAnchors/0/id"),
    ),
    endpoint(
        "POST /api/trust-anchors",
        create_anchor,
        "Trust an identity provider in a namespace",
        scope=Scope.TRUST_WRITE,
        idempotent=True,
        body=NewAnchor,
        responses={201: AnchorView},
        errors=(AlreadyExists,),
        leads_to=(
            *links(*ANCHOR, id="$response.body#/id"),
            *links("GET /api/trust-anchors", namespace="$response.body#/namespace"),
        ),
    ),
    endpoint(
        "GET /api/trust-anchors/{id}",
        get_anchor,
        "One trust anchor",
        scope=Scope.TRUST_READ,
        responses={200: AnchorView},
        leads_to=links(*ANCHOR, id="$request.path.id"),
    ),
    endpoint(
        "PATCH /api/trust-anchors/{id}",
        update_anchor,
        "Change a trust anchor; keys of another source are dropped",
        scope=Scope.TRUST_WRITE,
        body=AnchorPatch,
        responses={200: AnchorView},
        errors=(AlreadyExists,),
        leads_to=links(*ANCHOR, id="$request.path.id"),
    ),
    endpoint(
        "DELETE /api/trust-anchors/{id}",
        delete_anchor,
        "Trust an identity provider no longer",
        scope=Scope.TRUST_WRITE,
        responses={204: None},
    ),
    endpoint(
        "GET /api/trust-anchors/{id}/jwks",
        get_jwks,
        "The key set last fetched from an identity provider",
        scope=Scope.TRUST_READ,
        responses={200: dict},
        errors=(JwksNotCached,),
    ),
    endpoint(
        "GET /api/pinned-keys",
        get_pinned_keys,
        "Pinned keys, or with aid the one of that agent",
        scope=Scope.TRUST_READ,
        query=PinnedKeyQuery,
        responses={200: (PinnedKeyList, PinnedKeyView)},
        errors=(NotFound,),
        leads_to=links(
            *PINNED_KEY, aid="$response.body#/pinnedKeys/0/aid", namespace="$response.body#/pinnedKeys/0/namespace"
        ),
    ),
    endpoint(
        "POST /api/pinned-keys",
        upsert_pinned_key,
        "Pin an agent's key, or replace label and expiry",
        scope=Scope.TRUST_WRITE,
        idempotent=True,
        body=NewPinnedKey,
        responses={201: PinnedKeyView},
        leads_to=links(*PINNED_KEY, aid="$response.body#/aid", namespace="$response.body#/namespace"),
    ),
    endpoint(
        "DELETE /api/pinned-keys",
        delete_pinned_key,
        "Unpin an agent's key",
        scope=Scope.TRUST_WRITE,
        query=PinnedKeyName,
        responses={204: None},
        errors=(NotFound,),
    ),
)
