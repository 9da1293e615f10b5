"""aitp-cp webhooks."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from aitp_cp_client.commands.connection import at_server
from aitp_cp_client.commands.exits import LEGEND
from aitp_cp_client.commands.output import Columns, document, line, listing, record, some, table
from aitp_cp_client.commands.parameters import Json, Limit, Moment, as_options, group

if TYPE_CHECKING:
    from aitp_cp_client import Attempt, ControlPlane, Delivery, Queued, Webhook, WebhookHealth
    from aitp_cp_client.webhooks import Outcomes, Selection

WEBHOOKS: "Columns[Webhook]" = {
    "id": lambda webhook: webhook.id,
    "url": lambda webhook: webhook.url,
    "events": lambda webhook: webhook.events or "all",
    "active": lambda webhook: "yes" if webhook.active else "no",
    "updated": lambda webhook: webhook.updated_at,
}
DELIVERIES: "Columns[Delivery]" = {
    "id": lambda delivery: delivery.id,
    "type": lambda delivery: delivery.event_type,
    "status": lambda delivery: delivery.status,
    "attempts": lambda delivery: delivery.attempts,
    "answer": lambda delivery: delivery.status_code,
    "error": lambda delivery: delivery.error,
    "created": lambda delivery: delivery.created_at,
    "delivered": lambda delivery: delivery.delivered_at,
    "next attempt": lambda delivery: delivery.next_retry_at,
}
ATTEMPTS: "Columns[Attempt]" = {
    "n": lambda attempt: attempt.n,
    "at": lambda attempt: attempt.at,
    "ms": lambda attempt: attempt.ms,
    "answer": lambda attempt: attempt.status,
    "error": lambda attempt: attempt.error,
    "response": lambda attempt: None if attempt.response_head is None else attempt.response_head[:200],
}
HEALTH: "Columns[WebhookHealth]" = {
    "active": lambda health: "yes" if health.active else health.deactivated_reason or "no",
    "breaker": lambda health: health.breaker,
    "next probe": lambda health: health.next_probe_at,
    "last hour": lambda health: _outcomes(health.last_hour),
    "last day": lambda health: _outcomes(health.last_day),
    "waiting": lambda health: health.waiting,
    "oldest waiting": lambda health: health.oldest_waiting_at,
    "p95": lambda health: None if health.p95_ms is None else f"{health.p95_ms} ms",
}

WebhookId = Annotated[str, typer.Argument(metavar="WEBHOOK", help="The webhook's id.")]
DeliveryId = Annotated[str, typer.Argument(metavar="DELIVERY", help="The delivery's id.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Count what would be queued, and queue nothing.")]

webhooks = group("Subscriptions and their deliveries.")


@webhooks.command("list", epilog=LEGEND)
@at_server
async def list_webhooks(control_plane: "ControlPlane", limit: Limit = 100, as_json: Json = False) -> None:
    """List webhooks, oldest first."""
    listing("webhooks", await some(control_plane.webhooks.page, limit), WEBHOOKS, as_json=as_json)


@webhooks.command("test", epilog=LEGEND)
@at_server
async def send_test(control_plane: "ControlPlane", webhook: WebhookId, as_json: Json = False) -> None:
    """Send a delivery of type webhook.test; `webhooks deliveries` shows the outcome."""
    _show(await control_plane.webhooks.test(webhook), as_json=as_json)


@dataclass(frozen=True, slots=True)
class DeliveryOptions:
    """Options of `webhooks deliveries`."""

    webhook: WebhookId
    status: Annotated[
        Literal["pending", "in_flight", "delivered", "failed"] | None,
        typer.Option(help="Only deliveries with this status."),
    ] = None
    type: Annotated[str | None, typer.Option(help="Only this event type.")] = None
    code: Annotated[
        str | None, typer.Option(help="Only this last status code: 503, 5xx, or none where nobody answered.")
    ] = None
    since: Annotated[datetime | None, Moment] = None
    until: Annotated[datetime | None, Moment] = None
    limit: Limit = 100
    as_json: Json = False


@webhooks.command("deliveries", epilog=LEGEND)
@at_server
@as_options(DeliveryOptions)
async def deliveries(control_plane: "ControlPlane", options: DeliveryOptions) -> None:
    """List the deliveries of a webhook, newest first."""
    fetch = partial(
        control_plane.webhooks.deliveries,
        options.webhook,
        options.status,
        type=options.type,
        code=options.code,
        since=options.since,
        until=options.until,
    )
    listing("deliveries", await some(fetch, options.limit), DELIVERIES, as_json=options.as_json)


@webhooks.command("redeliver", epilog=LEGEND)
@at_server
async def redeliver(
    control_plane: "ControlPlane", webhook: WebhookId, delivery: DeliveryId, as_json: Json = False
) -> None:
    """Send a delivery again, byte for byte."""
    _show(await control_plane.webhooks.redeliver(webhook, delivery), as_json=as_json)


@webhooks.command("attempts", epilog=LEGEND)
@at_server
async def attempts(
    control_plane: "ControlPlane",
    webhook: WebhookId,
    delivery: DeliveryId,
    limit: Limit = 100,
    as_json: Json = False,
) -> None:
    """List the attempts of a delivery, newest first; --json shows the whole responses."""
    page = await some(partial(control_plane.webhooks.attempts, webhook, delivery), limit)
    listing("attempts", page, ATTEMPTS, as_json=as_json)


@webhooks.command("health", epilog=LEGEND)
@at_server
async def health(control_plane: "ControlPlane", webhook: WebhookId, as_json: Json = False) -> None:
    """Show what became of a webhook's deliveries lately, and what waits."""
    record(await control_plane.webhooks.health(webhook), HEALTH, as_json=as_json)


@dataclass(frozen=True, slots=True)
class SpanOptions:
    """Options of `webhooks recover` and `webhooks replay-missing`."""

    webhook: WebhookId
    since: Annotated[datetime, Moment]
    until: Annotated[datetime | None, Moment] = None
    dry_run: DryRun = False
    as_json: Json = False


@webhooks.command("recover", epilog=LEGEND)
@at_server
@as_options(SpanOptions)
async def recover(control_plane: "ControlPlane", options: SpanOptions) -> None:
    """Send the failed deliveries of a span of time again."""
    await _queue_all(partial(control_plane.webhooks.recover, options.webhook, options.since, options.until), options)


@webhooks.command("replay-missing", epilog=LEGEND)
@at_server
@as_options(SpanOptions)
async def replay_missing(control_plane: "ControlPlane", options: SpanOptions) -> None:
    """Send the events of a span of time that have no delivery to the webhook."""
    call = partial(control_plane.webhooks.replay_missing, options.webhook, options.since, options.until)
    await _queue_all(call, options, in_parts=True)


@dataclass(frozen=True, slots=True)
class ResendOptions:
    """Options of `webhooks resend`."""

    webhook: WebhookId
    deliveries: Annotated[
        list[str] | None, typer.Argument(metavar="DELIVERY", help="These deliveries, and no other options.")
    ] = None
    status: Annotated[Literal["delivered", "failed"] | None, typer.Option(help="All deliveries with this status.")] = (
        None
    )
    type: Annotated[str | None, typer.Option(help="All of this event type.")] = None
    code: Annotated[
        str | None, typer.Option(help="All with this last status code: 503, 5xx, or none where nobody answered.")
    ] = None
    since: Annotated[datetime | None, Moment] = None
    until: Annotated[datetime | None, Moment] = None
    dry_run: DryRun = False
    as_json: Json = False


@webhooks.command("resend", epilog=LEGEND)
@at_server
@as_options(ResendOptions)
async def resend(control_plane: "ControlPlane", options: ResendOptions) -> None:
    """Send finished deliveries again, byte for byte: those named, or all that match."""
    selection: Selection = {
        "ids": options.deliveries or None,
        "status": options.status,
        "type": options.type,
        "code": options.code,
        "since": options.since,
        "until": options.until,
    }
    await _queue_all(partial(control_plane.webhooks.resend, options.webhook, selection), options)


async def _queue_all(
    call: "Callable[..., Awaitable[Queued]]", options: SpanOptions | ResendOptions, *, in_parts: bool = False
) -> None:
    """Call until nothing is left, and tell how many deliveries were queued in all.

    `in_parts`: each response counts what matches in its part alone, and not in all that is left.
    """
    from aitp_cp_client import Queued

    total = done = await call(dry_run=options.dry_run)
    while done.next_after is not None:
        done = await call(after=done.next_after, dry_run=options.dry_run)
        matched = total.matched + done.matched if in_parts else total.matched
        total = Queued(matched, total.queued + done.queued, more=done.more)
    if options.as_json:
        document(total)
    elif options.dry_run:
        line(f"{total.matched:,} would be queued")
    else:
        line(f"{total.queued:,} queued")


def _outcomes(outcomes: "Outcomes") -> str:
    return f"{outcomes.delivered:,} delivered, {outcomes.failed:,} failed, {outcomes.waiting:,} waiting"


def _show(delivery: "Delivery", *, as_json: bool) -> None:
    if as_json:
        document(delivery)
    else:
        table([delivery], DELIVERIES)
