"""Webhooks: whether subscribers are told, and what administrators change about them."""

from collections.abc import Sequence
from uuid import UUID, uuid4

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from aitp_cp.audit.routes import actor_of
from aitp_cp.console.forms import Form
from aitp_cp.console.once import make_once
from aitp_cp.console.page import action, onward, render, screen, see_other
from aitp_cp.console.parts.link import link
from aitp_cp.db import Connection
from aitp_cp.deliveries import health as healths
from aitp_cp.deliveries import outbox
from aitp_cp.deliveries import service as deliveries
from aitp_cp.deliveries.dispatcher import Dispatcher
from aitp_cp.deliveries.health import WebhookHealth
from aitp_cp.errors import BadRequest
from aitp_cp.idempotency.model import ApiResponse
from aitp_cp.outbound import GuardedClient
from aitp_cp.protocol.scopes import Scope
from aitp_cp.protocol.vocabulary import DELIVERABLE
from aitp_cp.runtime import Runtime
from aitp_cp.web.path import path_uuid
from aitp_cp.web.query import PageQuery, read_query
from aitp_cp.webhooks import service
from aitp_cp.webhooks.model import ORDER, CreatedWebhook, NewWebhook, WebhookPatch, WebhookView
from aitp_cp.webhooks.routes import CATCH_UP_SECS

MAX_SECRET, MAX_URL = 255, 2048


class WebhookRow(msgspec.Struct, frozen=True):
    """`status` is one word: what an operator has to know first."""

    webhook: WebhookView
    health: WebhookHealth
    status: str


class WebhooksView(msgspec.Struct, frozen=True):
    """`once` makes the form good for one webhook."""

    rows: list[WebhookRow]
    once: str
    next_url: str | None
    types: Sequence[str] = tuple(sorted(DELIVERABLE))


class SecretView(msgspec.Struct, frozen=True):
    """A secret that is shown this once; None where the form was sent again."""

    id: UUID | None
    secret: str | None


async def list_webhooks(rt: Runtime, request: Request) -> Response:
    query = read_query(request, PageQuery)
    async with rt.db.connection() as conn:
        page = await service.list_webhooks(conn, query.window(ORDER))
        health = await healths.of_webhooks(conn, [webhook.id for webhook in page.webhooks])
    rows = [
        WebhookRow(each, health[each.id], status_of(health[each.id])) for each in page.webhooks if each.id in health
    ]
    view = WebhooksView(rows, str(uuid4()), onward(request, page.next_before))
    return await render(rt, request, "webhooks.html", view, title="Webhooks")


def status_of(health: WebhookHealth) -> str:
    """Return the state of a webhook in one word."""
    if not health.active:
        return "gone" if health.deactivated_reason == "gone" else "paused"
    return "ok" if health.breaker == "closed" else health.breaker


async def create(rt: Runtime, request: Request, form: Form) -> Response:
    actor = actor_of(rt, request)
    new = NewWebhook(await _url(rt, form), _types(form), _secret(form), active=form.get("active") == "on")

    async def effect(conn: Connection) -> ApiResponse:
        created, replayed = await service.create(conn, new, actor, rt.clock(), rt.settings.webhooks_max)
        return ApiResponse(201, created, replayed)

    made = await make_once(rt, request, form, "webhooks", effect)
    view = SecretView(made.id, made.secret) if isinstance(made, CreatedWebhook) else SecretView(None, None)
    return await _shown_once(rt, request, view)


async def edit(rt: Runtime, request: Request, form: Form) -> Response:
    """Change URL and types; a new host gets a new secret, which the answer shows."""
    return await _changed(rt, request, WebhookPatch(url=await _url(rt, form), events=_types(form)))


async def pause(rt: Runtime, request: Request, form: Form) -> Response:
    return await _changed(rt, request, WebhookPatch(active=form.get("active") == "on"))


async def rotate(rt: Runtime, request: Request, form: Form) -> Response:
    """Set a new secret, given or generated; the answer shows it."""
    id = path_uuid(request)
    secret = _secret(form) or service.new_secret()
    async with rt.db.transaction() as conn:
        webhook = await service.update(conn, id, WebhookPatch(secret=secret), actor_of(rt, request), rt.clock())
    rt.get(Dispatcher).wake()
    return await _shown_once(rt, request, SecretView(webhook.id, secret))


async def reset_breaker(rt: Runtime, request: Request, form: Form) -> Response:
    id = path_uuid(request)
    async with rt.db.transaction() as conn:
        await service.reset_breaker(conn, id, actor_of(rt, request), rt.clock())
    rt.get(Dispatcher).wake()
    return see_other(link("/webhooks/{id}", id=id))


async def send_test(rt: Runtime, request: Request, form: Form) -> Response:
    id = path_uuid(request)
    async with rt.db.transaction() as conn:
        delivery = await deliveries.send_test(conn, id, actor_of(rt, request), rt.clock())
    rt.get(Dispatcher).wake()
    return see_other(link("/webhooks/{id}/deliveries/{delivery}", id=id, delivery=delivery.id))


async def _changed(rt: Runtime, request: Request, patch: WebhookPatch) -> Response:
    id = path_uuid(request)
    # The change counts from the next event on, so the events before it get their deliveries first.
    await outbox.catch_up(rt.db, CATCH_UP_SECS)
    async with rt.db.transaction() as conn:
        webhook = await service.update(conn, id, patch, actor_of(rt, request), rt.clock())
    rt.get(Dispatcher).wake()
    if isinstance(webhook, CreatedWebhook):
        return await _shown_once(rt, request, SecretView(webhook.id, webhook.secret))
    return see_other(link("/webhooks/{id}", id=id))


async def _shown_once(rt: Runtime, request: Request, view: SecretView) -> Response:
    return await render(rt, request, "webhook_secret.html", view, title="The webhook's secret", secret=True)


async def _url(rt: Runtime, form: Form) -> str:
    """Return the form's URL; raises `BodyInvalid`, `UrlNotAllowed` or `HostUnresolved`."""
    url = form.get("url")
    if len(url) > MAX_URL:
        raise BadRequest(f"a URL has at most {MAX_URL} characters")
    await rt.get(GuardedClient).check_destination(url)
    return url


def _types(form: Form) -> list[str]:
    types = form.all("events")
    service.check_events(types)
    return types


def _secret(form: Form) -> str | None:
    secret = form.get("secret")
    if len(secret) > MAX_SECRET:
        raise BadRequest(f"a secret has at most {MAX_SECRET} characters")
    return secret or None


PAGES = (
    screen("/webhooks", list_webhooks, scope=Scope.WEBHOOKS_READ, nav="Webhooks", query=PageQuery),
    action("/webhooks", create, scope=Scope.WEBHOOKS_WRITE),
    action("/webhooks/{id}/edit", edit, scope=Scope.WEBHOOKS_WRITE),
    action("/webhooks/{id}/pause", pause, scope=Scope.WEBHOOKS_WRITE),
    action("/webhooks/{id}/rotate", rotate, scope=Scope.WEBHOOKS_WRITE),
    action("/webhooks/{id}/reset", reset_breaker, scope=Scope.WEBHOOKS_WRITE),
    action("/webhooks/{id}/test", send_test, scope=Scope.WEBHOOKS_WRITE),
)
