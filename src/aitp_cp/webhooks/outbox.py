"""Deliveries are rows, written in the transaction of their event (contract, section 12)."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol
from uuid import UUID, uuid4

import msgspec

from aitp_cp.clock import iso
from aitp_cp.db import Connection
from aitp_cp.webhooks import store
from aitp_cp.webhooks.model import DELIVERABLE, NewDelivery, Subscriber


class Deliverable(Protocol):
    """What the outbox needs to know of an event; the rest is encoded as it is."""

    @property
    def type(self) -> str: ...


async def subscribers(conn: Connection, types: set[str]) -> list[Subscriber]:
    """Active webhooks that want any of `types`, locked against deletion to the end of the transaction."""
    if not types & DELIVERABLE:
        return []
    return [webhook for webhook in await store.lock_active(conn) if any(map(webhook.wants, types))]


async def enqueue(
    conn: Connection, webhooks: Sequence[Subscriber], events: Sequence[Deliverable], now: datetime
) -> None:
    """One row per event and webhook that wants it, in one statement; each body is built here, once."""
    deliveries = [
        new_delivery(webhook.id, event, now)
        for event in events
        if event.type in DELIVERABLE
        for webhook in webhooks
        if webhook.wants(event.type)
    ]
    if deliveries:
        await store.insert_deliveries(conn, deliveries, now)


def new_delivery(webhook_id: UUID, event: Deliverable, now: datetime) -> NewDelivery:
    delivery_id = uuid4()
    payload = msgspec.json.encode(event)
    body = msgspec.json.encode(
        {
            "deliveryId": delivery_id,
            "eventType": event.type,
            "payload": msgspec.Raw(payload),
            "enqueuedAt": iso(now),
        }
    )
    return NewDelivery(delivery_id, webhook_id, event.type, payload.decode(), body.decode())
