"""Webhooks: the requests that make and change them, and how they are shown."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

import msgspec

from aitp_cp.db.keyset import Key, Order
from aitp_cp.protocol.vocabulary import DELIVERABLE

ORDER = Order("webhooks", Key("created_at", datetime), Key("id", UUID))

# Anything else is refused as BODY_INVALID, in a sentence that names them.
EventType = Annotated[str, msgspec.Meta(extra_json_schema={"enum": sorted(DELIVERABLE)})]
Secret = Annotated[str, msgspec.Meta(min_length=1, max_length=255)]


class NewWebhook(msgspec.Struct, frozen=True):
    """The request body of a creation; without events all deliverable types are sent."""

    url: str
    events: list[EventType] | None = None
    secret: Secret | None = None
    active: bool | None = None


class WebhookPatch(msgspec.Struct, frozen=True):
    """A change of every member that is present and not null."""

    url: str | None = None
    events: list[EventType] | None = None
    secret: Secret | None = None
    active: bool | None = None


class WebhookView(msgspec.Struct, frozen=True, rename="camel"):
    """A webhook without its secret."""

    id: UUID
    url: str
    events: list[str]
    active: bool
    created_at: str
    updated_at: str


class CreatedWebhook(WebhookView, frozen=True, rename="camel"):
    """The response that holds a secret: to a creation, and to a change of the host."""

    secret: str


class ReplayedWebhook(WebhookView, frozen=True, rename="camel"):
    """The same response as it is stored under an Idempotency-Key."""

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


class Broken(msgspec.Struct, frozen=True):
    """A webhook whose breaker is not closed."""

    id: UUID
    failures: int
    opened_at: datetime | None
    next_probe_at: datetime | None
