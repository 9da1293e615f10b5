"""Trust anchors and pinned keys as requested, stored and shown."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, UnsetType

from aitp_cp.db.keyset import Key, Order
from aitp_cp.web.query import WholeList
from aitp_cp_client.wire.aid import Aid

MAX_URL = 2048
MAX_LABEL = 128

ANCHOR_ORDER = Order("trust-anchors", Key("created_at", datetime), Key("id", UUID))
PINNED_ORDER = Order("pinned-keys", Key("namespace", str), Key("aid", str))

Url = Annotated[str, Meta(max_length=MAX_URL)]
Label = Annotated[str, Meta(max_length=MAX_LABEL)]


class NewAnchor(msgspec.Struct, frozen=True, rename="camel"):
    """The request body of a creation."""

    issuer_url: Url
    namespace: str | None = None
    jwks_url: Url | None = None
    label: Label | None = None


class AnchorPatch(msgspec.Struct, frozen=True, rename="camel"):
    """A change of every member that is present; null removes the key set's URL or the label."""

    issuer_url: Url | UnsetType = UNSET
    namespace: str | UnsetType = UNSET
    jwks_url: Url | UnsetType | None = UNSET
    label: Label | UnsetType | None = UNSET


class Source(msgspec.Struct, frozen=True):
    """Where a key set comes from; keys of another source are never kept under this one."""

    issuer_url: str
    jwks_url: str | None


class AnchorQuery(WholeList, frozen=True, kw_only=True, rename="camel"):
    namespace: Annotated[str | None, Meta(description="only this namespace")] = None


class AnchorView(msgspec.Struct, frozen=True, rename="camel"):
    """`last_error` says why the last fetch of the key set failed; null since one succeeded."""

    id: UUID
    namespace: str
    issuer_url: str
    jwks_url: str | None
    label: str | None
    jwks_cached_at: str | None
    last_error: str | None
    last_error_at: str | None
    added_by: str | None
    created_at: str
    updated_at: str

    @property
    def source(self) -> Source:
        return Source(self.issuer_url, self.jwks_url)


class AnchorList(msgspec.Struct, frozen=True, rename="camel"):
    trust_anchors: list[AnchorView]
    next_before: str | UnsetType = UNSET


class CachedKeys(msgspec.Struct, frozen=True):
    """A key set as JSON text, and when it was fetched."""

    text: str
    cached_at: datetime


class Due(msgspec.Struct, frozen=True):
    """An anchor whose key set this process has claimed, to fetch it now."""

    id: UUID
    source: Source


class NewPinnedKey(msgspec.Struct, frozen=True, rename="camel"):
    """The request body of an upsert; `expiresAt` is ISO-8601, or epoch seconds or milliseconds."""

    aid: str
    pubkey: str
    namespace: str | None = None
    label: Label | None = None
    expires_at: str | int | float | None = None


class PinnedKey(msgspec.Struct, frozen=True):
    """What an administrator decides about a pinned key."""

    namespace: str
    aid: Aid
    pubkey: str
    label: str | None
    expires_at: datetime | None


class PinnedKeyName(msgspec.Struct, frozen=True, kw_only=True):
    namespace: Annotated[str | None, Meta(description="`default` when missing")] = None
    aid: Annotated[str | None, Meta(description="the agent; required")] = None


class PinnedKeyQuery(WholeList, frozen=True, kw_only=True, rename="camel"):
    namespace: Annotated[str | None, Meta(description="only this namespace")] = None
    aid: Annotated[str | None, Meta(description="one agent, in the given namespace or `default`")] = None


class PinnedKeyView(msgspec.Struct, frozen=True, rename="camel"):
    namespace: str
    aid: str
    pubkey: str
    label: str | None
    expires_at: str | None
    added_by: str | None
    created_at: str
    updated_at: str


class PinnedKeyList(msgspec.Struct, frozen=True, rename="camel"):
    pinned_keys: list[PinnedKeyView]
    next_before: str | UnsetType = UNSET
