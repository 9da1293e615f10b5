"""Webhooks over HTTP (contract, section 12)."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from starlette.requests import Request
from starlette.responses import Response

from aitp_cp.audit.routes import actor_of
from aitp_cp.db import Connection
from aitp_cp.errors import AppError, BodyInvalid, HostUnresolved, IdInvalid, NotFound, UrlNotAllowed, WebhooksLimit
from aitp_cp.idempotency.edge import answer_once
from aitp_cp.idempotency.model import Answer
from aitp_cp.outbound import GuardedClient
from aitp_cp.runtime import Runtime
from aitp_cp.web.body import decode, read_body
from aitp_cp.web.endpoint import Endpoint, links, paging, query, uuid_in_path
from aitp_cp.web.path import path_uuid
from aitp_cp.web.query import Query
from aitp_cp.web.responses import json_response
from aitp_cp.webhooks import outbox, service
from aitp_cp.webhooks.dispatcher import Dispatcher
from aitp_cp.webhooks.model import (
    DELIVERY_ORDER,
    ORDER,
    BreakerView,
    CreatedWebhook,
    DeletedWebhook,
    DeliveryPage,
    DeliveryView,
    NewWebhook,
    ReplayedWebhook,
    WebhookList,
    WebhookPatch,
    WebhookView,
)

# This list had no limit once; this one is out of an administrator's reach.
LIST_LIMIT = 10_000
DEFAULT_LIMIT = 100
MAX_LIMIT = 1000
# How long a change, and a look into the delivery log, wait for the outbox.
CATCH_UP_SECS = 2.0
LOOK_SECS = 0.25
WEBHOOK_ID = uuid_in_path("id", "the webhook's id")
DELIVERY_ID = uuid_in_path("deliveryId", "the delivery's id")

# Where an id leads: that of a webhook, and that of a delivery together with its webhook's.
WEBHOOK = (
    "GET /api/webhooks/{id}",
    "PATCH /api/webhooks/{id}",
    "PUT /api/webhooks/{id}",
    "DELETE /api/webhooks/{id}",
    "GET /api/webhooks/{id}/circuit-breaker",
    "POST /api/webhooks/{id}/circuit-breaker/reset",
    "GET /api/webhooks/{id}/deliveries",
    "POST /api/webhooks/{id}/test",
)
DELIVERY = "POST /api/webhooks/{id}/deliveries/{deliveryId}/redeliver"

Asked = TypeVar("Asked", NewWebhook, WebhookPatch)


async def list_webhooks(rt: Runtime, request: Request) -> Response:
    window = Query.of(request).window(ORDER, LIST_LIMIT, LIST_LIMIT)
    async with rt.db.connection() as conn:
        return json_response(await service.list_webhooks(conn, window))


async def create(rt: Runtime, request: Request) -> Response:
    body = await read_body(request)
    actor = actor_of(rt, request)
    # Names are looked up before the transaction; what is wrong is raised inside it, to be kept for replays.
    asked = await _looked_at(rt, body, NewWebhook)

    async def effect(conn: Connection) -> Answer:
        if isinstance(asked, AppError):
            raise asked
        answer, kept = await service.create(conn, asked, actor, rt.clock(), rt.settings.webhooks_max)
        return Answer(201, answer, kept)

    return await answer_once(rt, request, endpoint="webhooks.create", caller=actor.id, body=body, effect=effect)


async def get(rt: Runtime, request: Request) -> Response:
    async with rt.db.connection() as conn:
        return json_response(await service.get(conn, path_uuid(request)))


async def update(rt: Runtime, request: Request) -> Response:
    id, body = path_uuid(request), await read_body(request)
    patch = await _looked_at(rt, body, WebhookPatch)
    if isinstance(patch, AppError):
        raise patch
    if patch.events is not None or patch.active is not None:
        # The change counts from the next event on, so those before it get their deliveries first.
        await outbox.catch_up(rt.db, CATCH_UP_SECS)
    async with rt.db.transaction() as conn:
        webhook = await service.update(conn, id, patch, actor_of(rt, request), rt.clock())
    rt.get(Dispatcher).wake()
    return json_response(webhook)


async def delete(rt: Runtime, request: Request) -> Response:
    return await _changed(rt, request, service.delete)


async def get_breaker(rt: Runtime, request: Request) -> Response:
    async with rt.db.connection() as conn:
        return json_response(await service.breaker(conn, path_uuid(request)))


async def reset_breaker(rt: Runtime, request: Request) -> Response:
    return await _changed(rt, request, service.reset_breaker)


async def list_deliveries(rt: Runtime, request: Request) -> Response:
    asked = Query.of(request)
    id, status = path_uuid(request), asked.text("status")
    window = asked.window(DELIVERY_ORDER, DEFAULT_LIMIT, MAX_LIMIT)
    await outbox.catch_up(rt.db, LOOK_SECS)  # an event that was acknowledged before shows
    async with rt.db.connection() as conn:
        return json_response(await service.deliveries(conn, id, status, window))


async def redeliver(rt: Runtime, request: Request) -> Response:
    id, delivery_id = path_uuid(request), path_uuid(request, "deliveryId")
    async with rt.db.transaction() as conn:
        delivery = await service.redeliver(conn, id, delivery_id, actor_of(rt, request), rt.clock())
    rt.get(Dispatcher).wake()
    return json_response(delivery, 202)


async def send_test(rt: Runtime, request: Request) -> Response:
    return await _changed(rt, request, service.send_test, 202)


async def _changed(
    rt: Runtime, request: Request, change: Callable[..., Awaitable[object]], status: int = 200
) -> Response:
    """Run one change of one webhook in a transaction, then look whether it made something due."""
    id = path_uuid(request)
    async with rt.db.transaction() as conn:
        answer = await change(conn, id, actor_of(rt, request), rt.clock())
    rt.get(Dispatcher).wake()
    return json_response(answer, status)


async def _looked_at(rt: Runtime, body: bytes, shape: type[Asked]) -> Asked | AppError:
    """The request if its URL and types are fine, else what is wrong with it."""
    try:
        asked = decode(body, shape)
        service.check_events(asked.events)
        if asked.url is not None:
            await rt.get(GuardedClient).check_destination(asked.url)
    except (BodyInvalid, UrlNotAllowed, HostUnresolved) as refused:
        return refused
    return asked


ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/api/webhooks",
        handler=list_webhooks,
        summary="Webhooks, oldest first, without their secrets",
        tag="webhooks",
        bulk=True,
        params=paging(LIST_LIMIT, LIST_LIMIT),
        answers={200: WebhookList},
        leads_to=links(*WEBHOOK, id="$response.body#/webhooks/0/id"),
    ),
    Endpoint(
        method="POST",
        path="/api/webhooks",
        handler=create,
        summary="Subscribe a URL to events; the secret is shown this once",
        tag="webhooks",
        idempotent=True,
        body=NewWebhook,
        answers={201: (CreatedWebhook, ReplayedWebhook)},
        errors=(BodyInvalid, UrlNotAllowed, HostUnresolved, WebhooksLimit),
        leads_to=links(*WEBHOOK, id="$response.body#/id"),
    ),
    Endpoint(
        method="GET",
        path="/api/webhooks/{id}",
        handler=get,
        summary="One webhook",
        tag="webhooks",
        params=(WEBHOOK_ID,),
        answers={200: WebhookView},
        errors=(IdInvalid, NotFound),
        leads_to=links(*WEBHOOK, id="$request.path.id"),
    ),
    *(
        Endpoint(
            method=method,
            path="/api/webhooks/{id}",
            handler=update,
            summary="Change what is given; a new host gets a new secret, which is shown this once",
            tag="webhooks",
            params=(WEBHOOK_ID,),
            body=WebhookPatch,
            answers={200: (WebhookView, CreatedWebhook)},
            errors=(IdInvalid, BodyInvalid, UrlNotAllowed, HostUnresolved, NotFound),
            leads_to=links(*WEBHOOK, id="$request.path.id"),
        )
        for method in ("PATCH", "PUT")
    ),
    Endpoint(
        method="DELETE",
        path="/api/webhooks/{id}",
        handler=delete,
        summary="Delete a webhook with all its deliveries",
        tag="webhooks",
        params=(WEBHOOK_ID,),
        answers={200: DeletedWebhook},
        errors=(IdInvalid, NotFound),
        leads_to=links("GET /api/webhooks"),
    ),
    Endpoint(
        method="GET",
        path="/api/webhooks/{id}/circuit-breaker",
        handler=get_breaker,
        summary="Whether deliveries are held back after failures",
        tag="webhooks",
        params=(WEBHOOK_ID,),
        answers={200: BreakerView},
        errors=(IdInvalid, NotFound),
        leads_to=links("POST /api/webhooks/{id}/circuit-breaker/reset", id="$request.path.id"),
    ),
    Endpoint(
        method="POST",
        path="/api/webhooks/{id}/circuit-breaker/reset",
        handler=reset_breaker,
        summary="Close the circuit breaker",
        tag="webhooks",
        params=(WEBHOOK_ID,),
        answers={200: BreakerView},
        errors=(IdInvalid, NotFound),
        leads_to=links("GET /api/webhooks/{id}/circuit-breaker", id="$request.path.id"),
    ),
    Endpoint(
        method="GET",
        path="/api/webhooks/{id}/deliveries",
        handler=list_deliveries,
        summary="The delivery log, newest first",
        tag="webhooks",
        bulk=True,
        params=(
            WEBHOOK_ID,
            query("status", "`pending`, `in_flight`, `delivered` or `failed`"),
            *paging(DEFAULT_LIMIT, MAX_LIMIT),
        ),
        answers={200: DeliveryPage},
        errors=(IdInvalid, NotFound),
        leads_to=links(DELIVERY, id="$request.path.id", deliveryId="$response.body#/deliveries/0/id"),
    ),
    Endpoint(
        method="POST",
        path="/api/webhooks/{id}/deliveries/{deliveryId}/redeliver",
        handler=redeliver,
        summary="Send a delivery again, byte for byte",
        tag="webhooks",
        params=(WEBHOOK_ID, DELIVERY_ID),
        answers={202: DeliveryView},
        errors=(IdInvalid, NotFound),
        leads_to=links("GET /api/webhooks/{id}/deliveries", id="$request.path.id"),
    ),
    Endpoint(
        method="POST",
        path="/api/webhooks/{id}/test",
        handler=send_test,
        summary="Send a `webhook.test` delivery",
        tag="webhooks",
        params=(WEBHOOK_ID,),
        answers={202: DeliveryView},
        errors=(IdInvalid, NotFound),
        leads_to=(
            *links(DELIVERY, id="$request.path.id", deliveryId="$response.body#/id"),
            *links("GET /api/webhooks/{id}/deliveries", id="$request.path.id"),
        ),
    ),
)
