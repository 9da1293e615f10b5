"""Deliveries are rows, written in the transaction of their event (contract, section 12)."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol
from uuid import UUID, uuid4

import msgspec

from aitp_cp.clock import iso
from aitp_cp.db import Connection
from aitp_cp.webhooks import store
from aitp_cp.webhooks.model import NewDelivery, Subscriber, delivered_as


class Deliverable(Protocol):
    """What the outbox needs to know of an event; the rest is encoded as it is."""

    @property
    def id(self) -> UUID: ...

    @property
    def type(self) -> str: ...

    @property
    def seq(self) -> int | None: ...


async def subscribers(conn: Connection, types: set[str]) -> list[Subscriber]:
    """Active webhooks that want any of `types`, locked against deletion to the end of the transaction."""
    wanted = {known for known in map(delivered_as, types) if known is not None}
    if not wanted:
        return []
    return [webhook for webhook in await store.lock_active(conn) if any(map(webhook.wants, wanted))]


async def enqueue(
    conn: Connection, webhooks: Sequence[Subscriber], events: Sequence[Deliverable], now: datetime
) -> None:
    """One row per event and webhook that wants it, in one statement; each body is built here, once."""
    deliveries = [delivery for event in events for delivery in _deliveries(event, webhooks, now)]
    if deliveries:
        await store.insert_deliveries(conn, deliveries, now)


def body_of(delivery_id: UUID, event_type: str, payload: bytes, enqueued_at: datetime) -> bytes:
    """The bytes that are signed and sent; the same arguments always give the same bytes."""
    return msgspec.json.encode(
        {
            "deliveryId": delivery_id,
            "eventType": event_type,
            "payload": msgspec.Raw(payload),
            "enqueuedAt": iso(enqueued_at),
        }
    )


def _deliveries(event: Deliverable, webhooks: Sequence[Subscriber], now: datetime) -> list[NewDelivery]:
    event_type = delivered_as(event.type)
    if event_type is None:
        return []
    wanting = [webhook for webhook in webhooks if webhook.wants(event_type)]
    payload = msgspec.json.encode(event) if wanting else b""
    return [_delivery(webhook.id, event, event_type, payload, now) for webhook in wanting]


def _delivery(webhook_id: UUID, event: Deliverable, event_type: str, payload: bytes, now: datetime) -> NewDelivery:
    id = uuid4()
    body = body_of(id, event_type, payload, now).decode()
    return NewDelivery(id, webhook_id, event_type, payload.decode(), body, event.id, event.seq)
