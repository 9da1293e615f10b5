"""Audit rows as the API shows them, and what they record."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from aitp_cp.db.keyset import Key, Order

ORDER = Order("audit", Key("created_at", datetime, descending=True), Key("id", UUID, descending=True))


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
