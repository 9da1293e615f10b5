"""An API key as requested, stored and shown."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, ClassVar, Literal, NamedTuple
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, UnsetType

from aitp_cp.audit.model import Actor
from aitp_cp.clock import iso, iso_or_none
from aitp_cp.db.keyset import Key, Order
from aitp_cp.idempotency.model import ApiResponse
from aitp_cp.protocol.scopes import ALL_SCOPES, Role, Scope
from aitp_cp.web.query import PageQuery

MAX_NAME = 100
MAX_RATE = 1_000_000
MAX_REASON = 500
MAX_OVERLAP_SECS = 7 * 24 * 3600
DEFAULT_OVERLAP_SECS = 24 * 3600

ORDER = Order("keys", Key("created_at", datetime, descending=True), Key("id", UUID, descending=True))

State = Literal["active", "expired", "revoked"]
Name = Annotated[str, Meta(min_length=1, max_length=MAX_NAME)]
RatePerMin = Annotated[int, Meta(ge=1, le=MAX_RATE)]


class NewKey(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """The request body of a creation: exactly one of `role` and `scopes`; `expiresAt` as in events."""

    REQUIRED_ONE_OF: ClassVar = (("role",), ("scopes",))

    name: Name
    role: Role | None = None
    scopes: Annotated[list[Scope], Meta(min_length=1, max_length=100)] | None = None
    expires_at: str | int | float | None = None
    rate_per_min: RatePerMin | None = None


class KeyPatch(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """A change of every member that is present; a null `ratePerMin` means the limit of the bucket."""

    name: Name | UnsetType = UNSET
    rate_per_min: RatePerMin | UnsetType | None = UNSET


class Rotation(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """How long the old key stays valid beside the new one."""

    overlap_secs: Annotated[int, Meta(ge=0, le=MAX_OVERLAP_SECS)] = DEFAULT_OVERLAP_SECS


class KeyFilter(StrEnum):
    ACTIVE = "active"
    EXPIRED = "expired"
    REVOKED = "revoked"
    ALL = "all"


class KeyQuery(PageQuery, frozen=True, kw_only=True, rename="camel"):
    state: Annotated[KeyFilter, Meta(description="only keys in this state")] = KeyFilter.ACTIVE


class RevokeQuery(msgspec.Struct, frozen=True, kw_only=True):
    reason: Annotated[str | None, Meta(description=f"kept with the key, at most {MAX_REASON} characters")] = None
    family: Annotated[bool, Meta(description="every key of the family, whichever rotation made it")] = False


class ApiKey(msgspec.Struct, frozen=True):
    """A row. `adopts` is the actor that the family acts as when that is not its own (`keys create --adopt`)."""

    id: UUID
    family: UUID
    name: str
    shown: str
    digest: bytes
    scopes: tuple[str, ...]
    created_by: str | None
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    revoked_reason: str | None = None
    replaced_by: UUID | None = None
    last_used_at: datetime | None = None
    last_used_ip: str | None = None
    rate_per_min: int | None = None
    adopts: str | None = None

    @property
    def actor(self) -> str:
        return self.adopts or f"key:{self.family}"

    def state(self, now: datetime) -> State:
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at is not None and self.expires_at <= now else "active"


class LiveKey(NamedTuple):
    """What the gate needs of a key."""

    id: UUID
    digest: bytes
    actor: str
    name: str
    scopes: tuple[str, ...]
    expires_at: datetime | None
    rate_per_min: int | None


class KeyView(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A key without its secret and without its digest."""

    id: UUID
    family: UUID
    name: str
    shown: str
    state: State
    actor: str
    scopes: tuple[str, ...]
    created_by: str | None
    created_at: str
    expires_at: str | None
    revoked_at: str | None
    revoked_reason: str | None
    replaced_by: UUID | None
    last_used_at: str | None
    last_used_ip: str | None
    rate_per_min: int | None


class CreatedKey(KeyView, frozen=True, kw_only=True, rename="camel"):
    """`key` is shown this once."""

    key: str


class KeyList(msgspec.Struct, frozen=True, rename="camel"):
    keys: list[KeyView]
    count: int
    next_before: str | UnsetType = UNSET


class RevokedKey(msgspec.Struct, frozen=True, rename="camel"):
    """`keys` are those that this request revoked: none when they were before."""

    id: UUID
    revoked: bool
    keys: list[UUID]


class WhoAmI(msgspec.Struct, frozen=True, rename="camel"):
    actor: str
    actor_name: str | None
    kind: str
    scopes: list[Scope]
    expires_at: str | None


class Grantor(msgspec.Struct, frozen=True, kw_only=True):
    """Who creates or changes a key, and the most that he may give; by default everything, as at the command line.

    `rate_per_min` None means no limit. `default_rate` is what a key without a rate of its own gets. `key_id` is the
    caller's own row, which must still be live when the change is made.
    """

    actor: Actor
    scopes: frozenset[Scope] = ALL_SCOPES
    expires_at: datetime | None = None
    rate_per_min: int | None = None
    default_rate: int | None = None
    key_id: UUID | None = None


def view(key: ApiKey, now: datetime) -> KeyView:
    return KeyView(
        id=key.id,
        family=key.family,
        name=key.name,
        shown=key.shown,
        state=key.state(now),
        actor=key.actor,
        scopes=key.scopes,
        created_by=key.created_by,
        created_at=iso(key.created_at),
        expires_at=iso_or_none(key.expires_at),
        revoked_at=iso_or_none(key.revoked_at),
        revoked_reason=key.revoked_reason,
        replaced_by=key.replaced_by,
        last_used_at=iso_or_none(key.last_used_at),
        last_used_ip=key.last_used_ip,
        rate_per_min=key.rate_per_min,
    )


def with_secret(key: ApiKey, secret: str, now: datetime) -> CreatedKey:
    return CreatedKey(**msgspec.structs.asdict(view(key, now)), key=secret)


def shown_once(created: CreatedKey) -> ApiResponse:
    """Return the response with the key, and what a repetition of the request gets: the same without it."""
    replay = KeyView(**{name: getattr(created, name) for name in KeyView.__struct_fields__})
    return ApiResponse(201, created, replay)
