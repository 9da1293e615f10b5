"""Subscriptions, their breakers and their delivery logs, as administrators see them (contract, section 12)."""

import hashlib
import secrets
from collections.abc import Sequence
from datetime import datetime
from typing import TypeVar
from uuid import UUID, uuid4

import msgspec

from aitp_cp.audit import service as audit
from aitp_cp.audit.model import Actor
from aitp_cp.clock import iso
from aitp_cp.db import Connection
from aitp_cp.db.keyset import Window
from aitp_cp.db.locks import lock, lock_key
from aitp_cp.errors import BodyInvalid, NotFound, WebhooksLimit
from aitp_cp.events import service as log
from aitp_cp.outbound import origin_of
from aitp_cp.webhooks import store
from aitp_cp.webhooks.model import (
    DELIVERABLE,
    TEST_TYPE,
    BreakerView,
    CreatedWebhook,
    DeletedWebhook,
    DeliveryPage,
    DeliveryView,
    NewDelivery,
    NewWebhook,
    ReplayedWebhook,
    Webhook,
    WebhookList,
    WebhookPatch,
    WebhookView,
    created,
    replayed,
    shown,
)
from aitp_cp.webhooks.outbox import body_of

SECRET_BYTES = 32
CREATION = lock_key("webhooks.create")
NOT_ACTIVE = "not sent: the webhook is not active"

T = TypeVar("T")


def check_events(events: Sequence[str] | None) -> None:
    """Raises `BodyInvalid` naming the first type that is never delivered."""
    for event_type in events or ():
        if event_type not in DELIVERABLE:
            raise BodyInvalid(f"events holds {event_type[:128]!r}, which is none of {', '.join(sorted(DELIVERABLE))}")


async def list_webhooks(conn: Connection, window: Window) -> WebhookList:
    """Oldest first."""
    webhooks, next_before = await store.list_webhooks(conn, window)
    return WebhookList([shown(webhook) for webhook in webhooks], next_before)


async def get(conn: Connection, id: UUID) -> WebhookView:
    """Raises `NotFound`."""
    return shown(_known(await store.find(conn, id)))


async def create(
    conn: Connection, asked: NewWebhook, actor: Actor, now: datetime, most: int
) -> tuple[CreatedWebhook, ReplayedWebhook]:
    """The answer with the secret, given or made here, and the one to keep for replays.

    The webhook sees the events that come after it. Raises `WebhooksLimit` where there are `most` webhooks already.
    """
    await lock(conn, CREATION)
    if await store.count(conn) >= most:
        raise WebhooksLimit
    secret = asked.secret or secrets.token_hex(SECRET_BYTES)
    events = list(dict.fromkeys(asked.events or ()))
    active = asked.active is not False
    position = await log.newest_position(conn)
    webhook = await store.insert(conn, Webhook(uuid4(), asked.url, events, active, now, now), secret, position)
    await audit.record(conn, "webhook.create", actor, str(webhook.id), _details(webhook), now)
    return created(webhook, secret), replayed(webhook)


async def update(
    conn: Connection, id: UUID, patch: WebhookPatch, actor: Actor, now: datetime
) -> WebhookView | CreatedWebhook:
    """Change what `patch` gives; a new URL or a reactivation starts with a closed breaker. Raises `NotFound`.

    A new scheme, host or port gets a new secret, given or made here, which the answer shows: otherwise somebody who
    never knew the old one could have deliveries to a server of his own signed with it.
    """
    known = _known(await store.lock(conn, id))
    given = {name: value for name, value in msgspec.structs.asdict(patch).items() if value is not None}
    rotated = given.pop("secret", None)
    if "events" in given:
        given["events"] = list(dict.fromkeys(given["events"]))
    changed = msgspec.structs.replace(known, **given, updated_at=now)
    moved = origin_of(changed.url) != origin_of(known.url)
    secret = rotated or (secrets.token_hex(SECRET_BYTES) if moved else None)
    webhook = await store.replace(conn, changed, secret, await log.newest_position(conn))
    if changed.url != known.url or (changed.active and not known.active):
        await store.reset_breaker(conn, id)
    details = {**_details(webhook), "secretRotated": secret is not None}
    await audit.record(conn, "webhook.update", actor, str(id), details, now)
    return created(webhook, secret) if moved and secret is not None else shown(webhook)


async def delete(conn: Connection, id: UUID, actor: Actor, now: datetime) -> DeletedWebhook:
    """Gone for everyone at once, however many deliveries it has; they are swept later. Raises `NotFound`."""
    known = _known(await store.lock(conn, id))
    await store.mark_deleted(conn, id)
    await audit.record(conn, "webhook.delete", actor, str(id), _details(known), now)
    return DeletedWebhook(id)


async def breaker(conn: Connection, id: UUID) -> BreakerView:
    """Raises `NotFound`."""
    return _known(await store.find_breaker(conn, id))


async def reset_breaker(conn: Connection, id: UUID, actor: Actor, now: datetime) -> BreakerView:
    """Close the breaker by hand. Raises `NotFound`."""
    closed = _known(await store.reset_breaker(conn, id))
    await audit.record(conn, "webhook.circuit-breaker.reset", actor, str(id), {}, now)
    return closed


async def deliveries(conn: Connection, id: UUID, status: str | None, window: Window) -> DeliveryPage:
    """Newest first; `count` is the number of rows on this page. Raises `NotFound`."""
    _known(await store.find(conn, id))
    return await store.deliveries(conn, id, status, window)


async def redeliver(conn: Connection, id: UUID, delivery_id: UUID, actor: Actor, now: datetime) -> DeliveryView:
    """Send the same bytes again, with all attempts before them. Raises `NotFound`.

    The delivery keeps its id, so a receiver that remembers ids sees a repetition.
    """
    _known(await store.find(conn, id))
    delivery = await store.send_again(conn, id, delivery_id)
    if delivery is None:  # unknown, or on its way at this moment
        delivery = _known(await store.find_delivery(conn, id, delivery_id), "no such delivery")
    await audit.record(conn, "webhook.redeliver", actor, str(id), {"deliveryId": str(delivery_id)}, now)
    return delivery


async def send_test(conn: Connection, id: UUID, actor: Actor, now: datetime) -> DeliveryView:
    """Enqueue a `webhook.test` delivery, whatever types the webhook asked for. Raises `NotFound`.

    Of an inactive webhook it has failed at once: whoever asks would wait for an answer that no attempt brings.
    """
    webhook = _known(await store.find(conn, id))
    delivery_id = uuid4()
    payload = _test_event(id, now)
    body = body_of(delivery_id, TEST_TYPE, payload, now)
    await store.insert_deliveries(conn, [NewDelivery(delivery_id, id, TEST_TYPE, payload.decode(), body.decode())], now)
    if not webhook.active:
        await store.fail(conn, delivery_id, NOT_ACTIVE)
    await audit.record(conn, "webhook.test", actor, str(id), {"deliveryId": str(delivery_id)}, now)
    return _known(await store.find_delivery(conn, id, delivery_id))


def _test_event(webhook_id: UUID, now: datetime) -> bytes:
    """In the shape of an event, yet never in the log: it has no place there."""
    event = dict.fromkeys(("aidA", "aidB", "sessionId", "runId"))
    return msgspec.json.encode(
        {"id": uuid4(), "type": TEST_TYPE, "ts": iso(now), **event, "grants": []}
        | {"payload": {"webhookId": webhook_id}, "source": "cp", "seq": None}
    )


def _details(webhook: Webhook) -> dict[str, object]:
    """For the audit: path and query of a receiver's URL often hold a token, so a digest stands for the whole."""
    return {
        "url": origin_of(webhook.url) or "",
        "urlSha256": hashlib.sha256(webhook.url.encode()).hexdigest(),
        "events": webhook.events,
        "active": webhook.active,
    }


def _known(found: T | None, otherwise: str = "no such webhook") -> T:
    if found is None:
        raise NotFound(otherwise)
    return found
