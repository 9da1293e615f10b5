"""Deliveries as they are queued, claimed, ended and shown."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated
from uuid import UUID

import msgspec

from aitp_cp.db.keyset import Key, Order
from aitp_cp.protocol.vocabulary import DELIVERABLE
from aitp_cp.web.query import PageQuery

ORDER = Order("deliveries", Key("created_at", datetime, descending=True), Key("id", UUID))


def event_types(stored: str) -> list[str]:
    """Return the types in a webhook's `events`; what an older control plane stored otherwise stands for all of them."""
    events = msgspec.json.decode(stored)
    return [event for event in events if isinstance(event, str)] if isinstance(events, list) else []


class Subscriber(msgspec.Struct, frozen=True):
    """An active webhook, its event types (none means all deliverable ones), and the position its events follow."""

    id: UUID
    events: frozenset[str]
    sees_after: int

    def wants(self, event_type: str, seq: int) -> bool:
        return seq > self.sees_after and event_type in (self.events or DELIVERABLE)


class Cursor(msgspec.Struct, frozen=True):
    """The position up to which deliveries are enqueued, when it moved, and how many webhooks are active.

    `now` is the database's time.
    """

    through: int
    moved_at: datetime
    now: datetime
    webhooks: int


class NewDelivery(msgspec.Struct, frozen=True):
    """A row to insert; the members are in the order of the statement's columns."""

    id: UUID
    webhook_id: UUID
    event_type: str
    payload: str
    body: str
    event_id: UUID | None = None
    event_seq: int | None = None


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


class Claim(msgspec.Struct, frozen=True):
    """What one claim may take: `room` rows in all, and with those in flight at most `per_webhook` of each webhook."""

    lease: timedelta
    lease_token: UUID
    room: int
    per_webhook: int
    max_attempts: int
    in_flight: Mapping[UUID, int]

    @property
    def full(self) -> list[UUID]:
        """The webhooks without a free place."""
        return [id for id, attempts in self.in_flight.items() if attempts >= self.per_webhook]


class Attempt(msgspec.Struct, frozen=True):
    """A delivery that this process has leased, with its webhook as it was then; `number` counts from 1."""

    id: UUID
    webhook_id: UUID
    event_type: str
    body: bytes
    number: int
    url: str
    secret: str
    lease_token: UUID
    probe: bool

    def __repr__(self) -> str:  # keeps the secret out of tracebacks
        return f"Attempt({self.id}, {self.number})"


class Verdict(StrEnum):
    """How an attempt ended; refused and gone are final, whatever attempts are left."""

    DELIVERED = "delivered"
    FAILED = "failed"
    REFUSED = "refused"
    GONE = "gone"


class Outcome(msgspec.Struct, frozen=True):
    verdict: Verdict
    status_code: int | None = None
    error: str | None = None
    retry_after_secs: float | None = None


class Rules(msgspec.Struct, frozen=True):
    """Attempts of a delivery, the consecutive failures that open a breaker, and the time from then until a probe."""

    max_attempts: int
    breaker_threshold: int
    breaker_reset: timedelta


class DeliveryStatus(StrEnum):
    """The last two are final."""

    PENDING = "pending"
    IN_FLIGHT = "in_flight"
    DELIVERED = "delivered"
    FAILED = "failed"


class DeliveryQuery(PageQuery, frozen=True, kw_only=True, rename="camel"):
    """A status that no delivery has matches none."""

    status: Annotated[
        str | None, msgspec.Meta(description="status", extra_json_schema={"enum": list(DeliveryStatus)})
    ] = None
