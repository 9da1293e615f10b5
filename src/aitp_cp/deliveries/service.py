"""The delivery log, as administrators see it (contract, section 12)."""

from datetime import datetime
from uuid import UUID, uuid4

import msgspec

from aitp_cp.audit import service as audit
from aitp_cp.audit.model import Actor
from aitp_cp.clock import iso
from aitp_cp.db import Connection
from aitp_cp.db.keyset import Window
from aitp_cp.deliveries import attempts, store
from aitp_cp.deliveries.model import AttemptPage, DeliveryFilter, DeliveryPage, DeliveryView, NewDelivery
from aitp_cp.deliveries.outbox import body_of
from aitp_cp.deliveries.resending import requeue
from aitp_cp.errors import existing
from aitp_cp.protocol.vocabulary import TEST_TYPE


async def list_deliveries(conn: Connection, webhook_id: UUID, filter: DeliveryFilter, window: Window) -> DeliveryPage:
    """List deliveries, newest first; `count` is the number of rows on the page. Raises `NotFound`."""
    await is_active(conn, webhook_id)
    return await store.list_deliveries(conn, webhook_id, filter, window)


async def list_attempts(conn: Connection, webhook_id: UUID, id: UUID, window: Window) -> AttemptPage:
    """List the attempts of a delivery, newest first. Raises `NotFound`."""
    await is_active(conn, webhook_id)
    existing(await store.find(conn, webhook_id, id), "no such delivery")
    return await attempts.page(conn, id, window)


async def redeliver(conn: Connection, webhook_id: UUID, id: UUID, actor: Actor, now: datetime) -> DeliveryView:
    """Send the same bytes again, with all attempts left. Raises `NotFound`.

    The delivery keeps its id, so a receiver that remembers ids sees a repetition.
    """
    await is_active(conn, webhook_id)
    existing(await store.find(conn, webhook_id, id), "no such delivery")
    await requeue(conn, [id])
    await audit.record(conn, "webhook.redeliver", actor, str(webhook_id), {"deliveryId": str(id)}, now)
    return existing(await store.find(conn, webhook_id, id), "no such delivery")


async def send_test(conn: Connection, webhook_id: UUID, actor: Actor, now: datetime) -> DeliveryView:
    """Enqueue a `webhook.test` delivery, whatever types the webhook subscribed to. Raises `NotFound`.

    An inactive webhook's fails at once: no attempt would ever bring the response that the caller waits for.
    """
    active, id = await is_active(conn, webhook_id), uuid4()
    payload = _test_event(webhook_id, now)
    body = body_of(id, TEST_TYPE, payload, now)
    await store.insert_deliveries(conn, [NewDelivery(id, webhook_id, TEST_TYPE, payload.decode(), body.decode())], now)
    if not active:
        await store.fail(conn, id, "not sent: the webhook is not active")
    await audit.record(conn, "webhook.test", actor, str(webhook_id), {"deliveryId": str(id)}, now)
    return existing(await store.find(conn, webhook_id, id), "no such delivery")


def _test_event(webhook_id: UUID, now: datetime) -> bytes:
    """Return JSON in the shape of an event; it is never in the log, so it has no `seq`."""
    event = dict.fromkeys(("aidA", "aidB", "sessionId", "runId"))
    return msgspec.json.encode(
        {"id": uuid4(), "type": TEST_TYPE, "ts": iso(now), **event, "grants": []}
        | {"payload": {"webhookId": webhook_id}, "source": "cp", "seq": None}
    )


async def is_active(conn: Connection, webhook_id: UUID) -> bool:
    """Tell whether a webhook is active; raises `NotFound`."""
    return existing(await store.webhook_is_active(conn, webhook_id), "no such webhook")
