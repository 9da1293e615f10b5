"""aitp-cp webhooks."""

from collections.abc import Awaitable, Callable
from functools import partial

from aitp_cp_client import Attempt, ControlPlane, Delivery, Queued, Webhook
from aitp_cp_client.commands.connection import run
from aitp_cp_client.commands.output import Columns, document, fields, line, listing, some, table
from aitp_cp_client.commands.webhook_options import DeliveryOptions, ResendOptions, SpanOptions
from aitp_cp_client.webhooks import DeliveryFilter, Outcomes, Selection

WEBHOOKS: Columns[Webhook] = {
    "id": lambda webhook: webhook.id,
    "url": lambda webhook: webhook.url,
    "events": lambda webhook: webhook.events or "all",
    "active": lambda webhook: "yes" if webhook.active else "no",
    "updated": lambda webhook: webhook.updated_at,
}
DELIVERIES: Columns[Delivery] = {
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

ATTEMPTS: Columns[Attempt] = {
    "n": lambda attempt: attempt.n,
    "at": lambda attempt: attempt.at,
    "ms": lambda attempt: attempt.ms,
    "answer": lambda attempt: attempt.status,
    "error": lambda attempt: attempt.error,
    "response": lambda attempt: None if attempt.response_head is None else attempt.response_head[:200],
}


def list_webhooks(limit: int, *, as_json: bool) -> None:
    async def work(control_plane: ControlPlane) -> None:
        listing("webhooks", await some(control_plane.webhooks.page, limit), WEBHOOKS, as_json=as_json)

    run(work)


def test(webhook: str, *, as_json: bool) -> None:
    async def work(control_plane: ControlPlane) -> None:
        _show(await control_plane.webhooks.test(webhook), as_json=as_json)

    run(work)


def deliveries(options: DeliveryOptions) -> None:
    filters: DeliveryFilter = {
        "type": options.type,
        "code": options.code,
        "since": options.since,
        "until": options.until,
    }

    async def work(control_plane: ControlPlane) -> None:
        pages = partial(control_plane.webhooks.deliveries, options.webhook, options.status, **filters)
        listing("deliveries", await some(pages, options.limit), DELIVERIES, as_json=options.as_json)

    run(work)


def redeliver(webhook: str, delivery: str, *, as_json: bool) -> None:
    async def work(control_plane: ControlPlane) -> None:
        _show(await control_plane.webhooks.redeliver(webhook, delivery), as_json=as_json)

    run(work)


def attempts(webhook: str, delivery: str, limit: int, *, as_json: bool) -> None:
    async def work(control_plane: ControlPlane) -> None:
        page = await some(partial(control_plane.webhooks.attempts, webhook, delivery), limit)
        listing("attempts", page, ATTEMPTS, as_json=as_json)

    run(work)


def health(webhook: str, *, as_json: bool) -> None:
    async def work(control_plane: ControlPlane) -> None:
        health = await control_plane.webhooks.health(webhook)
        if as_json:
            document(health)
            return
        fields(
            {
                "active": "yes" if health.active else health.deactivated_reason or "no",
                "breaker": health.breaker,
                "next probe": health.next_probe_at,
                "last hour": _outcomes(health.last_hour),
                "last day": _outcomes(health.last_day),
                "waiting": health.waiting,
                "oldest waiting": health.oldest_waiting_at,
                "p95": None if health.p95_ms is None else f"{health.p95_ms} ms",
            }
        )

    run(work)


def recover(options: SpanOptions) -> None:
    def step(control_plane: ControlPlane, after: str | None) -> Awaitable[Queued]:
        call = partial(control_plane.webhooks.recover, options.webhook, options.since, options.until)
        return call(after=after, dry_run=options.dry_run)

    run(lambda control_plane: _all(partial(step, control_plane), options))


def replay_missing(options: SpanOptions) -> None:
    def step(control_plane: ControlPlane, after: str | None) -> Awaitable[Queued]:
        call = partial(control_plane.webhooks.replay_missing, options.webhook, options.since, options.until)
        return call(after=after, dry_run=options.dry_run)

    run(lambda control_plane: _all(partial(step, control_plane), options, in_parts=True))


def resend(options: ResendOptions) -> None:
    selection: Selection = {
        "ids": options.deliveries or None,
        "status": options.status,
        "type": options.type,
        "code": options.code,
        "since": options.since,
        "until": options.until,
    }

    def step(control_plane: ControlPlane, after: str | None) -> Awaitable[Queued]:
        return control_plane.webhooks.resend(options.webhook, selection, after=after, dry_run=options.dry_run)

    run(lambda control_plane: _all(partial(step, control_plane), options))


async def _all(
    step: Callable[[str | None], Awaitable[Queued]], options: SpanOptions | ResendOptions, *, in_parts: bool = False
) -> None:
    """Call until nothing is left, and tell how many deliveries were queued in all.

    `in_parts`: each response counts what matches in its part alone, and not in all that is left.
    """
    total = done = await step(None)
    while done.next_after is not None:
        done = await step(done.next_after)
        matched = total.matched + done.matched if in_parts else total.matched
        total = Queued(matched, total.queued + done.queued, more=done.more)
    if options.as_json:
        document(total)
    elif options.dry_run:
        line(f"{total.matched:,} would be queued")
    else:
        line(f"{total.queued:,} queued")


def _outcomes(outcomes: Outcomes) -> str:
    return f"{outcomes.delivered:,} delivered, {outcomes.failed:,} failed, {outcomes.waiting:,} waiting"


def _show(delivery: Delivery, *, as_json: bool) -> None:
    if as_json:
        document(delivery)
    else:
        table([delivery], DELIVERIES)
