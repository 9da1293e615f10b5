"""Deliveries as they are queued, claimed, ended and shown."""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated
from uuid import UUID

import msgspec

from aitp_cp.db.keyset import Key, Order
from aitp_cp.errors import FilterInvalid
from aitp_cp.protocol.vocabulary import DELIVERABLE
from aitp_cp.web.query import PageQuery

ORDER = Order("deliveries", Key("created_at", datetime, descending=True), Key("id", UUID))
OLDEST_FIRST = Order("resent deliveries", Key("created_at", datetime), Key("id", UUID, descending=True))
ATTEMPT_ORDER = Order("attempts", Key("n", int, descending=True), Key("at", datetime, descending=True))
CODE_PATTERN = "^([1-9][0-9]{2}|[1-9]xx|none)$"


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


class RequestView(msgspec.Struct, frozen=True):
    """What is sent: the body, and the event it holds, None for a test."""

    body: str
    event_id: UUID | None
    event_seq: int | None


class DeliveryPage(msgspec.Struct, frozen=True, rename="camel"):
    deliveries: list[DeliveryView]
    count: int
    next_before: str | msgspec.UnsetType = msgspec.UNSET


class AttemptView(msgspec.Struct, frozen=True, rename="camel"):
    """One attempt; `n` counts from 1 and goes on after a resend, and a number without an attempt was cut short.

    `response_head` is what the receiver chose to send: untrusted text.
    """

    n: int
    at: str
    ms: int
    status: int | None
    error: str | None
    response_head: str | None
    truncated: bool


class AttemptPage(msgspec.Struct, frozen=True, rename="camel"):
    attempts: list[AttemptView]
    count: int
    next_before: str | msgspec.UnsetType = msgspec.UNSET


class Claim(msgspec.Struct, frozen=True):
    """What one claim may take: `room` deliveries in all; `in_flight` counts the slots in use for each webhook."""

    room: int
    max_attempts: int
    in_flight: Mapping[UUID, int]


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
    """`head` is the beginning of the response, and `cut` tells that something of it is missing."""

    verdict: Verdict
    status_code: int | None = None
    error: str | None = None
    retry_after_secs: float | None = None
    ms: int = 0
    head: str | None = None
    cut: bool = False


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


class Codes(msgspec.Struct, frozen=True):
    """A range of status codes; without bounds the deliveries that no receiver has answered."""

    low: int | None = None
    high: int | None = None


def read_codes(text: str | None) -> Codes | None:
    """Return the codes that `503`, `5xx` or `none` means; raises `FilterInvalid`."""
    if text is None:
        return None
    if re.fullmatch(CODE_PATTERN, text) is None:
        raise FilterInvalid("code is a status such as 503, a class such as 5xx, or none")
    if text == "none":
        return Codes()
    first = int(text[0]) * 100
    return Codes(first, first + 99) if text.endswith("xx") else Codes(int(text), int(text))


class DeliveryFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which deliveries of a webhook to list or to send again; `since` and `until` are inclusive."""

    ids: Sequence[UUID] | None = None
    status: str | None = None
    type: str | None = None
    codes: Codes | None = None
    since: datetime | None = None
    until: datetime | None = None


class DeliveryQuery(PageQuery, frozen=True, kw_only=True, rename="camel"):
    """A status or type that no delivery has matches none."""

    status: Annotated[
        str | None, msgspec.Meta(description="status", extra_json_schema={"enum": list(DeliveryStatus)})
    ] = None
    type: Annotated[str | None, msgspec.Meta(description="event type, exact")] = None
    code: Annotated[
        str | None,
        msgspec.Meta(
            description="last status code: `503`, a class such as `5xx`, or `none` where nobody answered",
            extra_json_schema={"pattern": CODE_PATTERN},
        ),
    ] = None
    since: Annotated[datetime | None, msgspec.Meta(description="created at or after, ISO-8601")] = None
    until: Annotated[datetime | None, msgspec.Meta(description="created at or before, ISO-8601")] = None

    @property
    def filter(self) -> DeliveryFilter:
        """Raises `FilterInvalid`."""
        codes = read_codes(self.code)
        return DeliveryFilter(status=self.status, type=self.type, codes=codes, since=self.since, until=self.until)
