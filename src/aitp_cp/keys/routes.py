"""API keys over HTTP, and who a credential belongs to (contract, part II, section 18)."""

from functools import partial

from starlette.requests import Request
from starlette.responses import Response

from aitp_cp.audit.routes import actor_of
from aitp_cp.clock import iso_or_none
from aitp_cp.db import Connection
from aitp_cp.errors import GrantExceeded, KeyNotActive
from aitp_cp.idempotency.edge import reply_once
from aitp_cp.idempotency.model import ApiResponse
from aitp_cp.keys import service
from aitp_cp.keys.cache import KeyCache
from aitp_cp.keys.model import (
    ORDER,
    CreatedKey,
    Grantor,
    KeyList,
    KeyPatch,
    KeyQuery,
    KeyView,
    NewKey,
    RevokedKey,
    RevokeQuery,
    Rotation,
    WhoAmI,
    shown_once,
)
from aitp_cp.protocol.scopes import Scope, in_order
from aitp_cp.runtime import Runtime
from aitp_cp.settings import Settings
from aitp_cp.web.body import decode, read_body
from aitp_cp.web.context import context_of
from aitp_cp.web.endpoint import Endpoint, Gate, links, uuid_in_path
from aitp_cp.web.path import path_uuid
from aitp_cp.web.principal import ANYONE
from aitp_cp.web.query import read_query
from aitp_cp.web.responses import json_response

KEY_ID = uuid_in_path("id", "the key's id")

# The endpoints that a key's id leads to. A rotation is led to from active keys only, and makes another one.
KEY = ("GET /api/keys/{id}", "PATCH /api/keys/{id}", "DELETE /api/keys/{id}")
ACTIVE_KEY = (*KEY, "POST /api/keys/{id}/rotate")


def grantor_of(rt: Runtime, request: Request) -> Grantor:
    """Return the caller, and the most that he may give."""
    principal = context_of(request).principal or ANYONE
    default = default_rate(rt.settings)
    return Grantor(
        actor=actor_of(rt, request),
        scopes=principal.scopes,
        expires_at=principal.expires_at,
        rate_per_min=default if principal.rate_per_min is None else principal.rate_per_min,
        default_rate=default,
        key_id=principal.key_id,
    )


def default_rate(settings: Settings) -> int | None:
    """Return the requests a minute of a key without a rate of its own; None for no limit."""
    if not settings.rate_limit_enabled or settings.rate_limit_api_key_per_min == 0:
        return None
    return max(1, settings.rate_limit_api_key_per_min * 60_000 // settings.rate_limit_window_ms)


async def list_keys(rt: Runtime, request: Request) -> Response:
    query = read_query(request, KeyQuery)
    window = query.window(ORDER)
    async with rt.db.connection() as conn:
        return json_response(await service.list_keys(conn, query.state, window, rt.clock()))


async def create(rt: Runtime, request: Request) -> Response:
    body, grantor = await read_body(request), grantor_of(rt, request)
    made: list[CreatedKey] = []

    async def effect(conn: Connection) -> ApiResponse:
        made.append(await service.create(conn, decode(body, NewKey), grantor, rt.clock()))
        return shown_once(made[-1])

    response = await reply_once(rt, request, endpoint="keys.create", caller=grantor.actor.id, body=body, effect=effect)
    await rt.get(KeyCache).changed(*(key.id for key in made))
    return response


async def rotate(rt: Runtime, request: Request) -> Response:
    id, body, grantor = path_uuid(request), await read_body(request), grantor_of(rt, request)
    made: list[CreatedKey] = []

    async def effect(conn: Connection) -> ApiResponse:
        overlap_secs = decode(body or b"{}", Rotation).overlap_secs
        made.append(await service.rotate(conn, id, overlap_secs, grantor, rt.clock()))
        return shown_once(made[-1])

    # Another key is another request, whatever its body says.
    response = await reply_once(
        rt, request, endpoint="keys.rotate", caller=grantor.actor.id, body=id.bytes + body, effect=effect
    )
    await rt.get(KeyCache).changed(id, *(key.id for key in made))
    return response


async def get(rt: Runtime, request: Request) -> Response:
    async with rt.db.connection() as conn:
        return json_response(await service.get(conn, path_uuid(request), rt.clock()))


async def update(rt: Runtime, request: Request) -> Response:
    id, patch = path_uuid(request), decode(await read_body(request), KeyPatch)
    async with rt.db.transaction() as conn:
        key = await service.update(conn, id, patch, grantor_of(rt, request), rt.clock())
    await rt.get(KeyCache).changed(id)
    return json_response(key)


async def revoke(rt: Runtime, request: Request) -> Response:
    id, query = path_uuid(request), read_query(request, RevokeQuery)
    async with rt.db.transaction() as conn:
        revoked = await service.revoke(conn, id, query.reason, actor_of(rt, request), rt.clock(), family=query.family)
    rt.get(KeyCache).revoked(revoked.keys)
    return json_response(revoked)


async def who_am_i(rt: Runtime, request: Request) -> Response:
    principal = context_of(request).principal or ANYONE
    return json_response(
        WhoAmI(
            actor=principal.actor,
            actor_name=principal.name,
            kind=str(principal.kind),
            scopes=in_order(principal.scopes),
            expires_at=iso_or_none(principal.expires_at),
        )
    )


endpoint = partial(Endpoint, tag="keys", params=(KEY_ID,))

ENDPOINTS = (
    endpoint(
        "POST /api/keys",
        create,
        "Create an API key; it is shown this once",
        scope=Scope.KEYS_ADMIN,
        idempotent=True,
        body=NewKey,
        responses={201: (CreatedKey, KeyView)},
        errors=(GrantExceeded,),
        leads_to=links(*ACTIVE_KEY, id="$response.body#/id"),
    ),
    endpoint(
        "GET /api/keys",
        list_keys,
        "API keys, newest first, without their secrets",
        scope=Scope.KEYS_ADMIN,
        query=KeyQuery,
        responses={200: KeyList},
        leads_to=links(*ACTIVE_KEY, id="$response.body#/keys/0/id"),
    ),
    endpoint(
        "GET /api/keys/{id}",
        get,
        "One API key",
        scope=Scope.KEYS_ADMIN,
        responses={200: KeyView},
        leads_to=links(*KEY, id="$request.path.id"),
    ),
    endpoint(
        "PATCH /api/keys/{id}",
        update,
        "Change the name or the rate of an API key",
        scope=Scope.KEYS_ADMIN,
        body=KeyPatch,
        responses={200: KeyView},
        errors=(GrantExceeded,),
        leads_to=links(*KEY, id="$request.path.id"),
    ),
    endpoint(
        "POST /api/keys/{id}/rotate",
        rotate,
        "Replace an API key by a new one, shown this once; the old one ends after the overlap",
        scope=Scope.KEYS_ADMIN,
        idempotent=True,
        body=Rotation,
        responses={201: (CreatedKey, KeyView)},
        errors=(GrantExceeded, KeyNotActive),
        leads_to=links("GET /api/keys/{id}", "DELETE /api/keys/{id}", id="$response.body#/id"),
    ),
    endpoint(
        "DELETE /api/keys/{id}",
        revoke,
        "Revoke an API key, or its whole family; its row stays",
        scope=Scope.KEYS_ADMIN,
        query=RevokeQuery,
        responses={200: RevokedKey},
        leads_to=links("GET /api/keys/{id}", id="$request.path.id"),
    ),
    endpoint(
        "GET /api/whoami",
        who_am_i,
        "Who the credential belongs to, and what it may do",
        gate=Gate.CREDENTIAL,
        responses={200: WhoAmI},
    ),
)
