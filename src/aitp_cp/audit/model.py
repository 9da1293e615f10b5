"""Audit rows as the API shows them, and what they record."""

from collections.abc import Callable, Mapping
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any
from uuid import UUID

import msgspec
from msgspec import Meta

from aitp_cp.db.keyset import Key, Order
from aitp_cp.web.query import AidFilter, PageQuery

ORDER = Order("audit", Key("created_at", datetime, descending=True), Key("id", UUID, descending=True))


ByActor = Annotated[str | None, Meta(description="who: the `actorId`")]
OfAction = Annotated[str | None, Meta(description="what was done, such as `agent.contain`")]
OnTarget = Annotated[AidFilter | None, Meta(description="to what: the `targetId`")]
InRequest = Annotated[str | None, Meta(description="the request it was done in")]
Moment = Annotated[datetime | None, Meta(description="inclusive, ISO-8601")]


class AuditEntry(msgspec.Struct, frozen=True, rename="camel"):
    id: UUID
    action: str
    actor_id: str | None
    actor_name: str | None
    target_id: str | None
    details: msgspec.Raw
    request_id: str | None
    created_at: str


class AuditPage(msgspec.Struct, frozen=True, rename="camel"):
    entries: list[AuditEntry]
    count: int
    next_before: str | msgspec.UnsetType = msgspec.UNSET


class AuditFilter(PageQuery, frozen=True, kw_only=True, rename="camel"):
    """Every member must match exactly; nothing matches an action that does not exist."""

    actor: ByActor = None
    action: OfAction = None
    target: OnTarget = None
    request_id: InRequest = None
    since: Moment = None
    until: Moment = None


class AuditFormat(StrEnum):
    """A JSON document, a line of JSON for each entry, or a table for a spreadsheet."""

    JSON = "json"
    JSONL = "jsonl"
    CSV = "csv"


class AuditExportQuery(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    format: Annotated[AuditFormat, Meta(description="how entries are written")] = AuditFormat.JSON
    actor: ByActor = None
    action: OfAction = None
    target: OnTarget = None
    request_id: InRequest = None
    since: Moment = None
    until: Moment = None


class AuditExport(msgspec.Struct, frozen=True, rename="camel"):
    """`truncated` tells that older entries match, which are not in the file."""

    exported_at: str
    truncated: bool
    entries: list[AuditEntry]
    count: int


class Actor(msgspec.Struct, frozen=True):
    """The caller behind a change, such as `key:<family>`, `apikey:<16 hex>` or `enrollment:<aid>`, and its request.

    `name` is the key's name, or the person's from single sign-on. `via` joins the details of each of its rows: how it
    reached us, if not with its own credential. `on_failure` is called when its audit row cannot be written.
    """

    id: str
    request_id: str | None
    on_failure: Callable[[], None] = lambda: None
    name: str | None = None
    via: Mapping[str, str] = {}  # frozen, so one default serves all


class Change(msgspec.Struct, frozen=True):
    """What one actor changed."""

    actor: Actor
    target: str
    details: Mapping[str, Any]
