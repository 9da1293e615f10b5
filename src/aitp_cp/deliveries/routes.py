"""The delivery log over HTTP (contract, section 12)."""

from starlette.requests import Request
from starlette.responses import Response

from aitp_cp.audit.routes import actor_of
from aitp_cp.deliveries import outbox, service
from aitp_cp.deliveries.dispatcher import Dispatcher
from aitp_cp.deliveries.model import ORDER, DeliveryPage, DeliveryQuery, DeliveryView
from aitp_cp.errors import IdInvalid, NotFound
from aitp_cp.protocol.scopes import Scope
from aitp_cp.runtime import Runtime
from aitp_cp.web.endpoint import Endpoint, links, uuid_in_path
from aitp_cp.web.path import path_uuid
from aitp_cp.web.query import read_query
from aitp_cp.web.responses import json_response

CATCH_UP_SECS = 0.25  # how long a look into the log waits for the deliveries of acknowledged events
WEBHOOK_ID = uuid_in_path("id", "the webhook's id")
DELIVERY_ID = uuid_in_path("deliveryId", "the delivery's id")
REDELIVER = "POST /api/webhooks/{id}/deliveries/{deliveryId}/redeliver"


async def list_deliveries(rt: Runtime, request: Request) -> Response:
    query, id = read_query(request, DeliveryQuery), path_uuid(request)
    window = query.window(ORDER)
    await outbox.catch_up(rt.db, CATCH_UP_SECS)
    async with rt.db.connection() as conn:
        return json_response(await service.list_deliveries(conn, id, query.status, window))


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


ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/api/webhooks/{id}/deliveries",
        scope=Scope.WEBHOOKS_READ,
        handler=list_deliveries,
        summary="The delivery log, newest first",
        tag="webhooks",
        bulk=True,
        query=DeliveryQuery,
        params=(WEBHOOK_ID,),
        answers={200: DeliveryPage},
        errors=(IdInvalid, NotFound),
        leads_to=links(REDELIVER, id="$request.path.id", deliveryId="$response.body#/deliveries/0/id"),
    ),
    Endpoint(
        method="POST",
        path="/api/webhooks/{id}/deliveries/{deliveryId}/redeliver",
        scope=Scope.WEBHOOKS_WRITE,
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
        scope=Scope.WEBHOOKS_WRITE,
        handler=send_test,
        summary="Send a `webhook.test` delivery",
        tag="webhooks",
        params=(WEBHOOK_ID,),
        answers={202: DeliveryView},
        errors=(IdInvalid, NotFound),
        leads_to=(
            *links(REDELIVER, id="$request.path.id", deliveryId="$response.body#/id"),
            *links("GET /api/webhooks/{id}/deliveries", id="$request.path.id"),
        ),
    ),
)
