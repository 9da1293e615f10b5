"""Webhooks and their deliveries, as asked for, stored, shown and sent."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated
from uuid import UUID

import msgspec

from aitp_cp.clock import iso
from aitp_cp.db.keyset import Key, Order

ORDER = Order("webhooks", Key("created_at", datetime), Key("id", UUID))
DELIVERY_ORDER = Order("deliveries", Key("created_at", datetime, descending=True), Key("id", UUID))

DELIVERABLE = frozenset(
    {
        "agent.registered",
        "agent.expired",
        "agent.deregistered",
        "handshake.complete",
        "handshake.failed",
        "tct.revoked",
    }
)
# Spellings that agents report and receivers never see.
ALIASES: Mapping[str, str] = {"handshake.completed": "handshake.complete"}
TEST_TYPE = "webhook.test"

Secret = Annotated[str, msgspec.Meta(min_length=1, max_length=255)]


def delivered_as(event_type: str) -> str | None:
    """The type under which an event is delivered; None when it is not."""
    known = ALIASES.get(event_type, event_type)
    return known if known in DELIVERABLE else None


class DeliveryStatus(StrEnum):
    """The last two are final."""

    PENDING = "pending"
    IN_FLIGHT = "in_flight"
    DELIVERED = "delivered"
    FAILED = "failed"


class Subscriber(msgspec.Struct, frozen=True):
    """An active webhook, the types it asked for (none means all deliverable ones), and where in the log it began."""

    id: UUID
    events: frozenset[str]
    sees_after: int = 0

    def wants(self, event_type: str) -> bool:
        return event_type in (self.events or DELIVERABLE)


class Cursor(msgspec.Struct, frozen=True):
    """Up to which position of the log deliveries are enqueued, when that moved, and how many webhooks are active.

    `now` is the database's time.
    """

    through: int
    moved_at: datetime
    now: datetime
    webhooks: int


class NewWebhook(msgspec.Struct, frozen=True):
    """The request body of a creation; without events all deliverable types are sent."""

    url: str
    events: list[str] | None = None
    secret: Secret | None = None
    active: bool | None = None


class WebhookPatch(msgspec.Struct, frozen=True):
    """What is given and not null changes."""

    url: str | None = None
    events: list[str] | None = None
    secret: Secret | None = None
    active: bool | None = None


class Webhook(msgspec.Struct, frozen=True):
    """A subscription without its secret."""

    id: UUID
    url: str
    events: list[str]
    active: bool
    created_at: datetime
    updated_at: datetime


class WebhookView(msgspec.Struct, frozen=True, rename="camel"):
    id: UUID
    url: str
    events: list[str]
    active: bool
    created_at: str
    updated_at: str


class CreatedWebhook(WebhookView, frozen=True, rename="camel"):
    """The answer that holds a secret: to a creation, and to a change of the host."""

    secret: str


class ReplayedWebhook(WebhookView, frozen=True, rename="camel"):
    """The same answer as it is kept under an Idempotency-Key."""

    secret: None = None
    secret_omitted: bool = True


class WebhookList(msgspec.Struct, frozen=True, rename="camel"):
    webhooks: list[WebhookView]
    next_before: str | msgspec.UnsetType = msgspec.UNSET


class DeletedWebhook(msgspec.Struct, frozen=True):
    id: UUID
    deleted: bool = True


class BreakerView(msgspec.Struct, frozen=True, rename="camel"):
    """Times in epoch milliseconds. One success closes a breaker, so `consecutive_successes` is 0 or 1."""

    state: str
    failures: int
    consecutive_successes: int
    opened_at: int | None
    next_probe_at: int | None


class DeliveryView(msgspec.Struct, frozen=True, rename="camel"):
    id: UUID
    event_type: str
    status: str
    attempts: int
    status_code: int | None
    error: str | None
    created_at: str
    delivered_at: str | None
    next_retry_at: str | None


class DeliveryPage(msgspec.Struct, frozen=True, rename="camel"):
    deliveries: list[DeliveryView]
    count: int
    next_before: str | msgspec.UnsetType = msgspec.UNSET


class NewDelivery(msgspec.Struct, frozen=True):
    id: UUID
    webhook_id: UUID
    event_type: str
    payload: str
    body: str
    event_id: UUID | None = None
    event_seq: int | None = None


class Attempt(msgspec.Struct, frozen=True):
    """A delivery this process has leased, with its webhook as it was at that moment; `number` counts from 1."""

    id: UUID
    webhook_id: UUID
    event_type: str
    body: bytes
    number: int
    url: str
    secret: str
    lease_token: UUID
    probe: bool

    def __repr__(self) -> str:  # the secret must not get into a log by way of a traceback
        return f"Attempt({self.id}, {self.number})"


class Verdict(StrEnum):
    """How an attempt ended: refused and gone are final, whatever attempts are left."""

    DELIVERED = "delivered"
    FAILED = "failed"
    REFUSED = "refused"
    GONE = "gone"


class Outcome(msgspec.Struct, frozen=True):
    verdict: Verdict
    status_code: int | None = None
    error: str | None = None
    retry_after_secs: float | None = None


class Setback(msgspec.Struct, frozen=True):
    """What is recorded of an attempt that was not delivered; without a pause it is not tried again."""

    status: DeliveryStatus
    status_code: int | None
    error: str | None
    pause: timedelta | None


class BreakerRule(msgspec.Struct, frozen=True):
    """Consecutive failures that open a breaker, and how long until a probe."""

    threshold: int
    reset: timedelta


class Claim(msgspec.Struct, frozen=True):
    """What one claim may take: `room` rows in all, counting `in_flight` at most `per_webhook` of each webhook."""

    lease: timedelta
    lease_token: UUID
    room: int
    per_webhook: int
    max_attempts: int
    in_flight: Mapping[UUID, int]


def shown(webhook: Webhook) -> WebhookView:
    return WebhookView(
        id=webhook.id,
        url=webhook.url,
        events=webhook.events,
        active=webhook.active,
        created_at=iso(webhook.created_at),
        updated_at=iso(webhook.updated_at),
    )


def created(webhook: Webhook, secret: str) -> CreatedWebhook:
    return CreatedWebhook(**msgspec.structs.asdict(shown(webhook)), secret=secret)


def replayed(webhook: Webhook) -> ReplayedWebhook:
    return ReplayedWebhook(**msgspec.structs.asdict(shown(webhook)))


def epoch_ms(moment: datetime | None) -> int | None:
    return None if moment is None else round(moment.timestamp() * 1000)
