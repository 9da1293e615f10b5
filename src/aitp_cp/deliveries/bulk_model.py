"""Requests that queue many deliveries at once, and their answer."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

import msgspec
from msgspec import Meta

from aitp_cp.audit.model import Actor
from aitp_cp.db.keyset import MAX_CURSOR_CHARACTERS, Order, Place
from aitp_cp.deliveries.model import CODE_PATTERN, DeliveryFilter, read_codes
from aitp_cp.errors import BodyInvalid, FilterInvalid
from aitp_cp_client.wire import moments

MAX_ROWS = 1000  # a few hundred milliseconds of locks on a large queue
MAX_COUNTED = 10_001

Time = str | int | float
Rows = Annotated[int, Meta(ge=1, le=MAX_ROWS)]
Cursor = Annotated[str, Meta(max_length=MAX_CURSOR_CHARACTERS)]


class BulkQuery(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    dry_run: Annotated[bool, Meta(description="`true` counts what would be queued, and queues nothing")] = False


class Range(msgspec.Struct, frozen=True, rename="camel"):
    """The request body of a recovery and of a replay: from when until when, both inclusive; `until` defaults to now.

    `after` is `nextAfter` of the previous answer, where there was more.
    """

    since: Time
    until: Time | None = None
    limit: Rows = MAX_ROWS
    after: Cursor | None = None


class Resend(msgspec.Struct, frozen=True, rename="camel"):
    """The request body of a resend: deliveries by their ids, or all that match the other members."""

    ids: Annotated[list[UUID], Meta(min_length=1, max_length=MAX_ROWS)] | None = None
    status: Literal["delivered", "failed"] | None = None
    type: Annotated[str, Meta(min_length=1, max_length=128)] | None = None
    code: Annotated[str, Meta(pattern=CODE_PATTERN)] | None = None
    since: Time | None = None
    until: Time | None = None
    limit: Rows = MAX_ROWS
    after: Cursor | None = None


class BulkAct(msgspec.Struct, frozen=True):
    """What is done to which webhook, by whom; without an actor it is only counted.

    Retention keeps finished deliveries for `kept_days`, 0 means for ever.
    """

    webhook_id: UUID
    actor: Actor | None
    now: datetime
    kept_days: int


class Queued(msgspec.Struct, frozen=True, rename="camel"):
    """What one call queued.

    `matched` counts what matches from where this call began, 10,001 for more than that; a replay counts what is
    missing in the part of the log it read. `more` tells that there is more behind `nextAfter`.
    """

    matched: int
    queued: int
    more: bool
    next_after: str | msgspec.UnsetType = msgspec.UNSET


def span_of(body: Range, now: datetime) -> tuple[datetime, datetime]:
    """Return from when until when, both inclusive; raises `BodyInvalid`."""
    since = _time("since", body.since)
    until = now if body.until is None else min(_time("until", body.until), now)
    return since, until


def filter_of(body: Resend) -> DeliveryFilter:
    """Return which deliveries to send again; raises `BodyInvalid`."""
    narrowing = (body.status, body.type, body.code, body.since, body.until)
    if (body.ids is None) == (narrowing == (None,) * 5):
        raise BodyInvalid("give either ids, or at least one of status, type, code, since and until")
    return DeliveryFilter(
        ids=body.ids,
        status=body.status,
        type=body.type,
        codes=read_codes(body.code),
        since=None if body.since is None else _time("since", body.since),
        until=None if body.until is None else _time("until", body.until),
    )


def _time(name: str, value: Time) -> datetime:
    moment = moments.from_text(value) if isinstance(value, str) else moments.read(value)
    if moment is None:
        raise BodyInvalid(f"{name} is not a time in the years 1970 to 9999")
    return moment


def place_of(order: Order, after: str | None) -> Place | None:
    """Return the place of a request's cursor; raises `BodyInvalid`."""
    try:
        return None if after is None else order.read(after)
    except FilterInvalid as wrong:
        raise BodyInvalid("after is not a cursor of this endpoint: send nextAfter unchanged") from wrong
