"""Webhooks over HTTP (contract, section 12)."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

from starlette.requests import Request
from starlette.responses import Response

from aitp_cp.audit.routes import actor_of
from aitp_cp.db import Connection
from aitp_cp.deliveries import outbox
from aitp_cp.deliveries.dispatcher import Dispatcher
from aitp_cp.errors import AppError, BodyInvalid, HostUnresolved, UrlNotAllowed, WebhooksLimit
from aitp_cp.idempotency.edge import reply_once
from aitp_cp.idempotency.model import ApiResponse
from aitp_cp.outbound import GuardedClient
from aitp_cp.protocol.scopes import Scope
from aitp_cp.runtime import Runtime
from aitp_cp.web.body import decode, read_body
from aitp_cp.web.endpoint import Endpoint, Link, links, uuid_in_path
from aitp_cp.web.path import path_uuid
from aitp_cp.web.query import WholeList, read_query
from aitp_cp.web.responses import json_response
from aitp_cp.webhooks import service
from aitp_cp.webhooks.model import (
    ORDER,
    BreakerView,
    CreatedWebhook,
    DeletedWebhook,
    NewWebhook,
    ReplayedWebhook,
    WebhookList,
    WebhookPatch,
    WebhookView,
)

CATCH_UP_SECS = 2.0  # how long a change waits for the deliveries of the events before it
WEBHOOK_ID = uuid_in_path("id", "the webhook's id")

# The endpoints that a webhook's id leads to.
WEBHOOK = (
    "GET /api/webhooks/{id}",
    "PATCH /api/webhooks/{id}",
    "PUT /api/webhooks/{id}",
    "DELETE /api/webhooks/{id}",
    "GET /api/webhooks/{id}/circuit-breaker",
    "POST /api/webhooks/{id}/circuit-breaker/reset",
    "GET /api/webhooks/{id}/health",
    "GET /api/webhooks/{id}/deliveries",
    "POST /api/webhooks/{id}/test",
)

# Everything since the webhook was created.
SINCE_CREATED = tuple(
    Link(f"POST /api/webhooks/{{id}}/{act}", {"id": "$request.path.id"}, body={"since": "$response.body#/createdAt"})
    for act in ("recover", "replay-missing", "resend")
)

Body = TypeVar("Body", NewWebhook, WebhookPatch)


async def list_webhooks(rt: Runtime, request: Request) -> Response:
    window = read_query(request, WholeList).window(ORDER)
    async with rt.db.connection() as conn:
        return json_response(await service.list_webhooks(conn, window))


async def create(rt: Runtime, request: Request) -> Response:
    body = await read_body(request)
    actor = actor_of(rt, request)
    # The host is resolved before the transaction. An error is raised inside it, to be stored for replays.
    new = await _checked(rt, body, NewWebhook)

    async def effect(conn: Connection) -> ApiResponse:
        if isinstance(new, AppError):
            raise new
        created, replayed = await service.create(conn, new, actor, rt.clock(), rt.settings.webhooks_max)
        return ApiResponse(201, created, replayed)

    return await reply_once(rt, request, endpoint="webhooks.create", caller=actor.id, body=body, effect=effect)


async def get(rt: Runtime, request: Request) -> Response:
    async with rt.db.connection() as conn:
        return json_response(await service.get(conn, path_uuid(request)))


async def update(rt: Runtime, request: Request) -> Response:
    id, body = path_uuid(request), await read_body(request)
    patch = await _checked(rt, body, WebhookPatch)
    if isinstance(patch, AppError):
        raise patch
    if patch.events is not None or patch.active is not None:
        # The change counts from the next event on, so the events before it get their deliveries first.
        await outbox.catch_up(rt.db, CATCH_UP_SECS)
    async with rt.db.transaction() as conn:
        webhook = await service.update(conn, id, patch, actor_of(rt, request), rt.clock())
    rt.get(Dispatcher).wake()
    return json_response(webhook)


async def delete(rt: Runtime, request: Request) -> Response:
    return await _change(rt, request, service.delete)


async def get_breaker(rt: Runtime, request: Request) -> Response:
    async with rt.db.connection() as conn:
        return json_response(await service.breaker(conn, path_uuid(request)))


async def reset_breaker(rt: Runtime, request: Request) -> Response:
    return await _change(rt, request, service.reset_breaker)


async def _change(rt: Runtime, request: Request, change: Callable[..., Awaitable[object]]) -> Response:
    id = path_uuid(request)
    async with rt.db.transaction() as conn:
        changed = await change(conn, id, actor_of(rt, request), rt.clock())
    rt.get(Dispatcher).wake()
    return json_response(changed)


async def _checked(rt: Runtime, body: bytes, shape: type[Body]) -> Body | AppError:
    """Return the decoded body if its URL and event types are allowed, else the error to raise."""
    try:
        decoded = decode(body, shape)
        service.check_events(decoded.events)
        if decoded.url is not None:
            await rt.get(GuardedClient).check_destination(decoded.url)
    except (BodyInvalid, UrlNotAllowed, HostUnresolved) as error:
        return error
    return decoded


endpoint = partial(Endpoint, tag="webhooks", params=(WEBHOOK_ID,))

ENDPOINTS = (
    endpoint(
        "GET /api/webhooks",
        list_webhooks,
        "Webhooks, oldest first, without their secrets",
        scope=Scope.WEBHOOKS_READ,
        query=WholeList,
        responses={200: WebhookList},
        leads_to=links(*WEBHOOK, id="$response.body#/webhooks/0/id"),
    ),
    endpoint(
        "POST /api/webhooks",
        create,
        "Subscribe a URL to events; the secret is shown this once",
        scope=Scope.WEBHOOKS_WRITE,
        idempotent=True,
        body=NewWebhook,
        responses={201: (CreatedWebhook, ReplayedWebhook)},
        errors=(UrlNotAllowed, HostUnresolved, WebhooksLimit),
        leads_to=links(*WEBHOOK, id="$response.body#/id"),
    ),
    endpoint(
        "GET /api/webhooks/{id}",
        get,
        "One webhook",
        scope=Scope.WEBHOOKS_READ,
        responses={200: WebhookView},
        leads_to=(*links(*WEBHOOK, id="$request.path.id"), *SINCE_CREATED),
    ),
    *(
        endpoint(
            f"{method} /api/webhooks/{{id}}",
            update,
            "Change what is given; a new host gets a new secret, which is shown this once",
            scope=Scope.WEBHOOKS_WRITE,
            body=WebhookPatch,
            responses={200: (WebhookView, CreatedWebhook)},
            errors=(UrlNotAllowed, HostUnresolved),
            leads_to=links(*WEBHOOK, id="$request.path.id"),
        )
        for method in ("PATCH", "PUT")
    ),
    endpoint(
        "DELETE /api/webhooks/{id}",
        delete,
        "Delete a webhook with all its deliveries",
        scope=Scope.WEBHOOKS_WRITE,
        responses={200: DeletedWebhook},
        leads_to=links("GET /api/webhooks"),
    ),
    endpoint(
        "GET /api/webhooks/{id}/circuit-breaker",
        get_breaker,
        "Whether deliveries are held back after failures",
        scope=Scope.WEBHOOKS_READ,
        responses={200: BreakerView},
        leads_to=links("POST /api/webhooks/{id}/circuit-breaker/reset", id="$request.path.id"),
    ),
    endpoint(
        "POST /api/webhooks/{id}/circuit-breaker/reset",
        reset_breaker,
        "Close the circuit breaker",
        scope=Scope.WEBHOOKS_WRITE,
        responses={200: BreakerView},
        leads_to=links("GET /api/webhooks/{id}/circuit-breaker", id="$request.path.id"),
    ),
)
