"""The delivery log, and what is sent again, over HTTP (contract, section 12)."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

from starlette.requests import Request
from starlette.responses import Response

from aitp_cp.audit.routes import actor_of
from aitp_cp.db import Connection
from aitp_cp.deliveries import bulk, health, outbox, service
from aitp_cp.deliveries.bulk_model import BulkAct, BulkQuery, Queued, Range, Resend
from aitp_cp.deliveries.dispatcher import Dispatcher
from aitp_cp.deliveries.health import WebhookHealth
from aitp_cp.deliveries.model import ATTEMPT_ORDER, ORDER, AttemptPage, DeliveryPage, DeliveryQuery, DeliveryView
from aitp_cp.idempotency.edge import reply_once
from aitp_cp.idempotency.model import ApiResponse
from aitp_cp.protocol.scopes import Scope
from aitp_cp.runtime import Runtime
from aitp_cp.web.body import decode, read_body
from aitp_cp.web.endpoint import Endpoint, Handler, links, uuid_in_path
from aitp_cp.web.path import path_uuid
from aitp_cp.web.query import PageQuery, read_query
from aitp_cp.web.responses import json_response

CATCH_UP_SECS = 0.25  # how long a look into the log waits for the deliveries of acknowledged events
REPLAY_CATCH_UP_SECS = 2.0  # how long a replay waits for the deliveries of the newest events
WEBHOOK_ID = uuid_in_path("id", "the webhook's id")
DELIVERY_ID = uuid_in_path("deliveryId", "the delivery's id")
ATTEMPTS = "GET /api/webhooks/{id}/deliveries/{deliveryId}/attempts"
REDELIVER = "POST /api/webhooks/{id}/deliveries/{deliveryId}/redeliver"


Body = TypeVar("Body", Range, Resend)
Work = Callable[[Connection, BulkAct, Body], Awaitable[Queued]]


async def list_deliveries(rt: Runtime, request: Request) -> Response:
    query, id = read_query(request, DeliveryQuery), path_uuid(request)
    window, filter = query.window(ORDER), query.filter
    await outbox.catch_up(rt.db, CATCH_UP_SECS)
    async with rt.db.connection() as conn:
        return json_response(await service.list_deliveries(conn, id, filter, window))


async def list_attempts(rt: Runtime, request: Request) -> Response:
    id, delivery_id = path_uuid(request), path_uuid(request, "deliveryId")
    window = read_query(request, PageQuery).window(ATTEMPT_ORDER)
    async with rt.db.connection() as conn:
        return json_response(await service.list_attempts(conn, id, delivery_id, window))


async def get_health(rt: Runtime, request: Request) -> Response:
    async with rt.db.connection() as conn:
        return json_response(await health.of_webhook(conn, path_uuid(request)))


async def redeliver(rt: Runtime, request: Request) -> Response:
    id, delivery_id = path_uuid(request), path_uuid(request, "deliveryId")
    async with rt.db.transaction() as conn:
        delivery = await service.redeliver(conn, id, delivery_id, actor_of(rt, request), rt.clock())
    rt.get(Dispatcher).wake()
    return json_response(delivery, 202)


async def send_test(rt: Runtime, request: Request) -> Response:
    id = path_uuid(request)
    async with rt.db.transaction() as conn:
        delivery = await service.send_test(conn, id, actor_of(rt, request), rt.clock())
    rt.get(Dispatcher).wake()
    return json_response(delivery, 202)


async def resend(rt: Runtime, request: Request) -> Response:
    return await _run(rt, request, bulk.resend, Resend)


async def recover(rt: Runtime, request: Request) -> Response:
    return await _run(rt, request, bulk.recover, Range)


async def replay_missing(rt: Runtime, request: Request) -> Response:
    await outbox.catch_up(rt.db, REPLAY_CATCH_UP_SECS)
    return await _run(rt, request, bulk.replay_missing, Range)


async def _run(rt: Runtime, request: Request, work: Work[Body], shape: type[Body]) -> Response:
    id, body, actor = path_uuid(request), await read_body(request), actor_of(rt, request)
    kept_days = rt.settings.webhook_delivery_ttl_days
    if read_query(request, BulkQuery).dry_run:
        async with rt.db.connection() as conn:
            return json_response(await work(conn, BulkAct(id, None, rt.clock(), kept_days), decode(body, shape)))

    async def effect(conn: Connection) -> ApiResponse:
        return ApiResponse(202, await work(conn, BulkAct(id, actor, rt.clock(), kept_days), decode(body, shape)))

    # The webhook is part of what a key stands for.
    name, bound = f"webhooks.{work.__name__.replace('_', '-')}", id.bytes + body
    response = await reply_once(rt, request, endpoint=name, caller=actor.id, body=bound, effect=effect)
    rt.get(Dispatcher).wake()
    return response


endpoint = partial(Endpoint, tag="webhooks", params=(WEBHOOK_ID, DELIVERY_ID))


def _bulk(action: str, handler: Handler, shape: type, summary: str) -> Endpoint:
    return endpoint(
        f"POST /api/webhooks/{{id}}/{action}",
        handler,
        summary,
        scope=Scope.WEBHOOKS_WRITE,
        idempotent=True,
        query=BulkQuery,
        body=shape,
        responses={202: Queued, 200: Queued},
    )


ENDPOINTS = (
    endpoint(
        "GET /api/webhooks/{id}/deliveries",
        list_deliveries,
        "The delivery log, newest first",
        scope=Scope.WEBHOOKS_READ,
        query=DeliveryQuery,
        responses={200: DeliveryPage},
        leads_to=links(ATTEMPTS, REDELIVER, id="$request.path.id", deliveryId="$response.body#/deliveries/0/id"),
    ),
    endpoint(
        "GET /api/webhooks/{id}/deliveries/{deliveryId}/attempts",
        list_attempts,
        "The attempts of a delivery with what the receiver answered, newest first",
        scope=Scope.WEBHOOKS_READ,
        query=PageQuery,
        responses={200: AttemptPage},
    ),
    endpoint(
        "GET /api/webhooks/{id}/health",
        get_health,
        "What became of a webhook's deliveries lately, and what waits",
        scope=Scope.WEBHOOKS_READ,
        bulk=True,
        responses={200: WebhookHealth},
        leads_to=links("GET /api/webhooks/{id}/deliveries", id="$request.path.id"),
    ),
    endpoint(
        "POST /api/webhooks/{id}/deliveries/{deliveryId}/redeliver",
        redeliver,
        "Send a delivery again, byte for byte",
        scope=Scope.WEBHOOKS_WRITE,
        responses={202: DeliveryView},
        leads_to=links("GET /api/webhooks/{id}/deliveries", id="$request.path.id"),
    ),
    endpoint(
        "POST /api/webhooks/{id}/test",
        send_test,
        "Send a `webhook.test` delivery",
        scope=Scope.WEBHOOKS_WRITE,
        responses={202: DeliveryView},
        leads_to=(
            *links(REDELIVER, id="$request.path.id", deliveryId="$response.body#/id"),
            *links("GET /api/webhooks/{id}/deliveries", id="$request.path.id"),
        ),
    ),
    _bulk("recover", recover, Range, "Send the failed deliveries of a time again"),
    _bulk("replay-missing", replay_missing, Range, "Send the events of a time that have no delivery to the webhook"),
    _bulk("resend", resend, Resend, "Send finished deliveries again: by their ids, or all that match"),
)
