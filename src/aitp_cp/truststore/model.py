"""Trust anchors and pinned keys, as asked for, stored and shown."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, UnsetType

from aitp_cp.clock import iso, iso_or_none
from aitp_cp.db.keyset import Key, Order
from aitp_cp.web.query import WholeList
from aitp_cp_client.wire.aid import Aid

MAX_URL = 2048
MAX_LABEL = 128

ANCHOR_ORDER = Order("trust-anchors", Key("created_at", datetime), Key("id", UUID))
PINNED_ORDER = Order("pinned-keys", Key("namespace", str), Key("aid", str))

Url = Annotated[str, msgspec.Meta(max_length=MAX_URL)]
Label = Annotated[str, msgspec.Meta(max_length=MAX_LABEL)]


class NewAnchor(msgspec.Struct, frozen=True, rename="camel"):
    """The request body of a creation."""

    issuer_url: Url
    namespace: str | None = None
    jwks_url: Url | None = None
    label: Label | None = None


class AnchorPatch(msgspec.Struct, frozen=True, rename="camel"):
    """What is given changes; null removes the key set's URL or the label."""

    issuer_url: Url | UnsetType = UNSET
    namespace: str | UnsetType = UNSET
    jwks_url: Url | UnsetType | None = UNSET
    label: Label | UnsetType | None = UNSET


class AnchorFields(msgspec.Struct, frozen=True, rename="camel"):
    """What an administrator decides about an anchor."""

    namespace: str
    issuer_url: str
    jwks_url: str | None
    label: str | None

    @property
    def source(self) -> "Source":
        return Source(self.issuer_url, self.jwks_url)


class Source(msgspec.Struct, frozen=True):
    """Where a key set comes from; keys of another source are never kept under this one."""

    issuer_url: str
    jwks_url: str | None


class Anchor(msgspec.Struct, frozen=True):
    """A stored anchor."""

    id: UUID
    fields: AnchorFields
    jwks_cached_at: datetime | None
    last_error: str | None
    last_error_at: datetime | None
    added_by: str | None
    created_at: datetime
    updated_at: datetime


class AnchorQuery(WholeList, frozen=True, kw_only=True, rename="camel"):
    namespace: Annotated[str | None, Meta(description="only this namespace")] = None


class AnchorView(msgspec.Struct, frozen=True, rename="camel"):
    """`last_error` says why the last fetch of the key set failed; null since one went well."""

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


class AnchorList(msgspec.Struct, frozen=True, rename="camel"):
    trust_anchors: list[AnchorView]
    next_before: str | UnsetType = UNSET


class CachedKeys(msgspec.Struct, frozen=True):
    """A key set as JSON text, and when it was fetched."""

    text: str
    cached_at: datetime


class Due(msgspec.Struct, frozen=True):
    """An anchor whose key set is to be fetched now, by whoever claimed it."""

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


def shown(anchor: Anchor) -> AnchorView:
    """The record of contract section 13."""
    return AnchorView(
        id=anchor.id,
        namespace=anchor.fields.namespace,
        issuer_url=anchor.fields.issuer_url,
        jwks_url=anchor.fields.jwks_url,
        label=anchor.fields.label,
        jwks_cached_at=iso_or_none(anchor.jwks_cached_at),
        last_error=anchor.last_error,
        last_error_at=iso_or_none(anchor.last_error_at),
        added_by=anchor.added_by,
        created_at=iso(anchor.created_at),
        updated_at=iso(anchor.updated_at),
    )
