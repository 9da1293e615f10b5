"""What a search asks for and finds."""

from enum import StrEnum
from typing import Annotated
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, UnsetType

MAX_QUERY = 600  # characters; no id is longer


class Kind(StrEnum):
    AGENT = "agent"
    SESSION = "session"
    RUN = "run"
    EVENT = "event"
    TCT = "tct"
    DELEGATION = "delegation"
    REVOCATION = "revocation"
    CONTAINMENT = "containment"
    WEBHOOK = "webhook"
    DELIVERY = "delivery"
    KEY = "key"
    TRUST_ANCHOR = "trust-anchor"


class SearchQuery(msgspec.Struct, frozen=True, kw_only=True):
    q: Annotated[
        str,
        Meta(
            description="any id, or the beginning of an agent's name; the beginning or the end of an AID, or both with"
            " `…` between them"
        ),
    ] = ""


class Hit(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One thing. `name` is what it calls itself or what it is about; an agent that only events name has none."""

    kind: Kind
    id: str
    name: str | None = None
    status: str | None = None
    webhook_id: UUID | UnsetType = UNSET  # of a delivery


class SearchResult(msgspec.Struct, frozen=True):
    """The best hit first."""

    q: str
    hits: list[Hit]
