"""One webhook with its deliveries, one delivery with its attempts, and sending them again."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta
from starlette.requests import Request
from starlette.responses import Response

from aitp_cp.audit.routes import actor_of
from aitp_cp.console.forms import Form
from aitp_cp.console.page import Region, action, onward, region, render, screen, see_other, wants
from aitp_cp.console.pages.webhooks import status_of
from aitp_cp.console.parts.link import link
from aitp_cp.db import Connection
from aitp_cp.db.keyset import Window
from aitp_cp.deliveries import bulk, outbox, store
from aitp_cp.deliveries import health as healths
from aitp_cp.deliveries import service as deliveries
from aitp_cp.deliveries.bulk_model import MAX_ROWS, BulkAct, Queued, Range, Resend
from aitp_cp.deliveries.dispatcher import Dispatcher
from aitp_cp.deliveries.health import WebhookHealth
from aitp_cp.deliveries.model import ORDER, AttemptView, DeliveryQuery, DeliveryStatus, DeliveryView, RequestView
from aitp_cp.deliveries.model import DeliveryPage as DeliveryList
from aitp_cp.errors import BadRequest, NotFound
from aitp_cp.protocol.scopes import Scope
from aitp_cp.protocol.uuids import read_uuid
from aitp_cp.protocol.vocabulary import DELIVERABLE, TEST_TYPE
from aitp_cp.runtime import Runtime
from aitp_cp.web.body import convert
from aitp_cp.web.context import context_of
from aitp_cp.web.path import path_uuid
from aitp_cp.web.query import read_query
from aitp_cp.webhooks import service
from aitp_cp.webhooks.model import WebhookView

MAX_ATTEMPTS = 100
MAX_STEPS = 10  # transactions for one press of a button: a few seconds
STEP_ROWS = MAX_ROWS  # of one transaction
CATCH_UP_SECS = 0.25
EVER = "1970-01-01T00:00:00Z"
MATCHING = ("status", "type", "code", "since", "until")


class DeliveriesFilter(DeliveryQuery, frozen=True, kw_only=True, rename="camel"):
    """That of the list, in pages that a person reads; the last three say what an action has just done."""

    queued: Annotated[int, Meta(ge=-1, description="what the last action queued")] = -1
    more: Annotated[bool, Meta(description="whether it left some")] = False
    rest: Annotated[str | None, Meta(description="where it goes on")] = None


class DeliveriesView(msgspec.Struct, frozen=True):
    """`plan` counts the finished deliveries that match the filter; None where the reader may not send them again."""

    webhook: WebhookView
    health: Region[WebhookHealth]
    status: str
    rows: list[DeliveryView]
    filter: DeliveriesFilter
    plan: int | None
    next_url: str | None
    statuses: Sequence[str] = tuple(DeliveryStatus)
    types: Sequence[str] = tuple(sorted({*DELIVERABLE, TEST_TYPE}))
    all_types: Sequence[str] = tuple(sorted(DELIVERABLE))


class DeliveryDetail(msgspec.Struct, frozen=True):
    webhook_id: UUID
    delivery: DeliveryView
    request: RequestView
    attempts: list[AttemptView]


async def get_webhook(rt: Runtime, request: Request) -> Response:
    id, query = path_uuid(request), read_query(request, DeliveriesFilter)
    window, filter = query.window(ORDER), query.filter
    await outbox.catch_up(rt.db, CATCH_UP_SECS)
    async with rt.db.connection() as conn:
        webhook = await service.get(conn, id)
        page, plan = DeliveryList([], 0), None
        if wants(request, "list"):
            page = await deliveries.list_deliveries(conn, id, filter, window)
            may_write = Scope.WEBHOOKS_WRITE in context_of(request).scopes
            plan = await _plan(rt, conn, id, query) if may_write else None
        health = await region(healths.of_webhook(conn, id))
    view = DeliveriesView(
        webhook=webhook,
        health=health,
        status="unknown" if health.value is None else status_of(health.value),
        rows=page.deliveries,
        filter=query,
        plan=plan,
        next_url=onward(request, page.next_before, queued=None, more=None, rest=None),
    )
    return await render(rt, request, "webhook.html", view, title="Webhook")


async def _plan(rt: Runtime, conn: Connection, id: UUID, query: DeliveriesFilter) -> int:
    """Count what a resend of all that match would queue."""
    if query.status not in (None, DeliveryStatus.DELIVERED, DeliveryStatus.FAILED):
        return 0
    members = {name: value for name in MATCHING if (value := getattr(query, name)) is not None}
    body = convert(msgspec.to_builtins({"since": EVER, **members}), Resend)
    return (await bulk.resend(conn, BulkAct(id, None, rt.clock(), 0), body)).matched


async def get_delivery(rt: Runtime, request: Request) -> Response:
    id, delivery_id = path_uuid(request), path_uuid(request, "delivery")
    async with rt.db.connection() as conn:
        page = await deliveries.list_attempts(conn, id, delivery_id, Window(MAX_ATTEMPTS))
        delivery = await store.find(conn, id, delivery_id)
        sent = await store.find_request(conn, id, delivery_id)
    if delivery is None or sent is None:
        raise NotFound("no such delivery")
    view = DeliveryDetail(id, delivery, sent, page.attempts)
    return await render(rt, request, "delivery.html", view, title=f"Delivery of {delivery.event_type}")


async def redeliver(rt: Runtime, request: Request, form: Form) -> Response:
    id, delivery_id = path_uuid(request), path_uuid(request, "delivery")
    async with rt.db.transaction() as conn:
        await deliveries.redeliver(conn, id, delivery_id, actor_of(rt, request), rt.clock())
    rt.get(Dispatcher).wake()
    return see_other(link("/webhooks/{id}/deliveries/{delivery}", id=id, delivery=delivery_id))


async def resend(rt: Runtime, request: Request, form: Form) -> Response:
    """Send the ticked deliveries again, or all that match the page's filter."""
    matching = form.filled(*MATCHING)
    body: dict[str, object] = {**(matching or {"since": EVER})}
    if form.get("what") == "selected":
        ids = [each for each in map(read_uuid, form.all("ids")) if each is not None][:MAX_ROWS]
        if not ids:
            raise BadRequest("no delivery is ticked")
        body = {"ids": list(map(str, ids))}
    after = form.get("rest") or None if form.get("what") == "matching" else None

    async def step(conn: Connection, act: BulkAct, after: str | None) -> Queued:
        return await bulk.resend(conn, act, convert({**body, "after": after, "limit": STEP_ROWS}, Resend))

    return await _in_steps(rt, request, step, {**matching, "rest": after})


async def recover(rt: Runtime, request: Request, form: Form) -> Response:
    return await _in_range(rt, request, form, bulk.recover)


async def replay_missing(rt: Runtime, request: Request, form: Form) -> Response:
    await outbox.catch_up(rt.db, CATCH_UP_SECS)
    return await _in_range(rt, request, form, bulk.replay_missing)


Step = Callable[[Connection, BulkAct, str | None], Awaitable[Queued]]


async def _in_range(
    rt: Runtime, request: Request, form: Form, queue: Callable[[Connection, BulkAct, Range], Awaitable[Queued]]
) -> Response:
    """Queue what is wanted of a span of time."""
    span = {"since": form.get("since"), "until": form.get("until") or None, "limit": STEP_ROWS}

    async def step(conn: Connection, act: BulkAct, after: str | None) -> Queued:
        return await queue(conn, act, convert({**span, "after": after}, Range))

    return await _in_steps(rt, request, step, {"status": "pending"})


async def _in_steps(rt: Runtime, request: Request, step: Step, back: dict[str, object]) -> Response:
    """Queue what is wanted, a transaction for each step; what is left is for the next press of the button.

    `back` is the filter of the page to return to. With a member `rest`, the next press begins where this one ends;
    without, what is queued matches no more.
    """
    id, resumes = path_uuid(request), "rest" in back
    act = BulkAct(id, actor_of(rt, request), rt.clock(), rt.settings.webhook_delivery_ttl_days)
    after, queued = back.pop("rest", None), 0
    for _ in range(MAX_STEPS):
        async with rt.db.transaction() as conn:
            done = await step(conn, act, None if after is None else str(after))
        queued, after = queued + done.queued, None if done.next_after is UNSET else done.next_after
        if after is None:
            break
    rt.get(Dispatcher).wake()
    rest = after if resumes else None
    return see_other(link("/webhooks/{id}", id=id, **back, queued=str(queued), more=after is not None, rest=rest))


PAGES = (
    screen("/webhooks/{id}", get_webhook, scope=Scope.WEBHOOKS_READ, query=DeliveriesFilter),
    screen("/webhooks/{id}/deliveries/{delivery}", get_delivery, scope=Scope.WEBHOOKS_READ),
    action("/webhooks/{id}/deliveries/{delivery}/redeliver", redeliver, scope=Scope.WEBHOOKS_WRITE),
    action("/webhooks/{id}/resend", resend, scope=Scope.WEBHOOKS_WRITE),
    action("/webhooks/{id}/recover", recover, scope=Scope.WEBHOOKS_WRITE),
    action("/webhooks/{id}/replay-missing", replay_missing, scope=Scope.WEBHOOKS_WRITE),
)
