"""Subscriptions and their breakers, as administrators see them (contract, section 12)."""

import hashlib
import secrets
from collections.abc import Sequence
from datetime import datetime
from uuid import UUID, uuid4

import msgspec

from aitp_cp.audit import service as audit
from aitp_cp.audit.model import Actor
from aitp_cp.clock import iso
from aitp_cp.db import Connection
from aitp_cp.db.keyset import Window
from aitp_cp.db.locks import WEBHOOK_CREATION, lock
from aitp_cp.errors import BodyInvalid, WebhooksLimit, existing
from aitp_cp.events import service as log
from aitp_cp.outbound import origin_of
from aitp_cp.protocol.vocabulary import DELIVERABLE
from aitp_cp.webhooks import store
from aitp_cp.webhooks.model import (
    BreakerView,
    CreatedWebhook,
    DeletedWebhook,
    NewWebhook,
    ReplayedWebhook,
    WebhookList,
    WebhookPatch,
    WebhookView,
)

SECRET_BYTES = 32
NONE = "no such webhook"


def check_events(events: Sequence[str] | None) -> None:
    """Raise `BodyInvalid` naming the first type that is never delivered."""
    for event_type in events or ():
        if event_type not in DELIVERABLE:
            raise BodyInvalid(f"events holds {event_type[:128]!r}, which is none of {', '.join(sorted(DELIVERABLE))}")


async def list_webhooks(conn: Connection, window: Window) -> WebhookList:
    """List webhooks, oldest first."""
    return await store.list_webhooks(conn, window)


async def get(conn: Connection, id: UUID) -> WebhookView:
    """Return one webhook; raises `NotFound`."""
    return existing(await store.find(conn, id), NONE)


async def create(
    conn: Connection, new: NewWebhook, actor: Actor, now: datetime, limit: int
) -> tuple[CreatedWebhook, ReplayedWebhook]:
    """Subscribe a URL to the events that follow; return the response with the secret, and the one to store for replays.

    Raises `WebhooksLimit` where `limit` webhooks exist.
    """
    await lock(conn, WEBHOOK_CREATION)
    if await store.count(conn) >= limit:
        raise WebhooksLimit
    secret = new.secret or new_secret()
    webhook = await store.insert(
        conn,
        WebhookView(uuid4(), new.url, _distinct(new.events), new.active is not False, iso(now), iso(now)),
        secret,
        await log.newest_position(conn),
        now,
    )
    await audit.record(conn, "webhook.create", actor, str(webhook.id), _details(webhook), now)
    return _with_secret(webhook, secret), ReplayedWebhook(**msgspec.structs.asdict(webhook))


async def update(
    conn: Connection, id: UUID, patch: WebhookPatch, actor: Actor, now: datetime
) -> WebhookView | CreatedWebhook:
    """Change a webhook; a new URL or a reactivation closes its breaker. Raises `NotFound`.

    A new scheme, host or port gets a new secret, given or made here, and the response shows it. Otherwise somebody who
    never knew the old secret could have deliveries to a server of their own signed with it.
    """
    before = existing(await store.lock(conn, id), NONE)
    changes = {name: value for name, value in msgspec.structs.asdict(patch).items() if value is not None}
    secret = changes.pop("secret", None)
    if patch.events is not None:
        changes["events"] = _distinct(patch.events)
    changed = msgspec.structs.replace(before, **changes)
    moved = origin_of(changed.url) != origin_of(before.url)
    if moved:
        secret = secret or new_secret()
    webhook = await store.replace(conn, changed, secret, await log.newest_position(conn), now)
    if changed.url != before.url or (changed.active and not before.active):
        await store.reset_breaker(conn, id)
    details = {**_details(webhook), "secretRotated": secret is not None}
    await audit.record(conn, "webhook.update", actor, str(id), details, now)
    return _with_secret(webhook, secret) if moved and secret else webhook


async def delete(conn: Connection, id: UUID, actor: Actor, now: datetime) -> DeletedWebhook:
    """Delete a webhook at once; a job deletes its deliveries later. Raises `NotFound`."""
    webhook = existing(await store.lock(conn, id), NONE)
    await store.mark_deleted(conn, id)
    await audit.record(conn, "webhook.delete", actor, str(id), _details(webhook), now)
    return DeletedWebhook(id)


async def breaker(conn: Connection, id: UUID) -> BreakerView:
    """Return the state of the webhook's circuit breaker; raises `NotFound`."""
    return existing(await store.find_breaker(conn, id), NONE)


async def reset_breaker(conn: Connection, id: UUID, actor: Actor, now: datetime) -> BreakerView:
    """Close the breaker by hand; raises `NotFound`."""
    closed = existing(await store.reset_breaker(conn, id), NONE)
    await audit.record(conn, "webhook.circuit-breaker.reset", actor, str(id), {}, now)
    return closed


def new_secret() -> str:
    """Generate the secret of a webhook."""
    return secrets.token_hex(SECRET_BYTES)


def _distinct(events: Sequence[str] | None) -> list[str]:
    return list(dict.fromkeys(events or ()))


def _with_secret(webhook: WebhookView, secret: str) -> CreatedWebhook:
    return CreatedWebhook(**msgspec.structs.asdict(webhook), secret=secret)


def _details(webhook: WebhookView) -> dict[str, object]:
    """For the audit: path and query of a receiver's URL often hold a token, so a digest stands for the whole."""
    return {
        "url": origin_of(webhook.url) or "",
        "urlSha256": hashlib.sha256(webhook.url.encode()).hexdigest(),
        "events": webhook.events,
        "active": webhook.active,
    }
