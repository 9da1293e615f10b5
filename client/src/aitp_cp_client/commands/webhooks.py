"""aitp-cp webhooks."""

from functools import partial

from aitp_cp_client import ControlPlane, Delivery, Webhook
from aitp_cp_client.commands.connection import run
from aitp_cp_client.commands.output import Columns, document, listing, some, table

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


def list_webhooks(limit: int, *, as_json: bool) -> None:
    async def work(control_plane: ControlPlane) -> None:
        listing("webhooks", await some(control_plane.webhooks.page, limit), WEBHOOKS, as_json=as_json)

    run(work)


def test(webhook: str, *, as_json: bool) -> None:
    async def work(control_plane: ControlPlane) -> None:
        _show(await control_plane.webhooks.test(webhook), as_json=as_json)

    run(work)


def deliveries(webhook: str, status: str | None, limit: int, *, as_json: bool) -> None:
    async def work(control_plane: ControlPlane) -> None:
        page = await some(partial(control_plane.webhooks.deliveries, webhook, status), limit)
        listing("deliveries", page, DELIVERIES, as_json=as_json)

    run(work)


def redeliver(webhook: str, delivery: str, *, as_json: bool) -> None:
    async def work(control_plane: ControlPlane) -> None:
        _show(await control_plane.webhooks.redeliver(webhook, delivery), as_json=as_json)

    run(work)


def _show(delivery: Delivery, *, as_json: bool) -> None:
    if as_json:
        document(delivery)
    else:
        table([delivery], DELIVERIES)
