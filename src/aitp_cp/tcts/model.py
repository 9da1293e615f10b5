"""Tokens and delegations as reported, as stored, and as shown."""

from datetime import datetime
from typing import Literal, Self
from uuid import UUID

import msgspec

from aitp_cp.db.keyset import Key, Order
from aitp_cp.tcts.merging import least, union

TCT_ORDER = Order("tcts", Key("issued_at", datetime, descending=True), Key("jti", UUID))
DELEGATION_ORDER = Order("delegations", Key("issued_at", datetime, descending=True), Key("jti", UUID))

RevokedKind = Literal["tct", "delegation"]

# Not after any other id: where a walk over children begins.
FIRST = UUID(int=0)


class TctChange(msgspec.Struct, frozen=True):
    """What the reports of a batch say about one token; `grants` is sorted."""

    jti: UUID
    issuer: str
    subject: str
    audience: str
    grants: list[str]
    binding_cnf: str | None
    issued_at: datetime
    expires_at: datetime | None
    session_id: str | None

    @property
    def parties(self) -> tuple[str, str, str]:
        return self.issuer, self.subject, self.audience

    def merged(self, other: Self) -> Self:
        """Both reports in one; the parties of one of them are taken together, never mixed."""
        chosen = min(self, other, key=lambda change: (change.audience == change.subject, *change.parties))
        return msgspec.structs.replace(
            chosen,
            grants=union(self.grants, other.grants),
            binding_cnf=least(self.binding_cnf, other.binding_cnf),
            issued_at=min(self.issued_at, other.issued_at),
            expires_at=least(self.expires_at, other.expires_at),
            session_id=least(self.session_id, other.session_id),
        )


class DelegationChange(msgspec.Struct, frozen=True):
    """What the reports of a batch say about one delegation; conflicting reports may name several parents."""

    jti: UUID
    parents: frozenset[UUID]
    delegator: str
    delegatee: str
    scope: list[str]
    issued_at: datetime
    expires_at: datetime | None

    def merged(self, other: Self) -> Self:
        chosen = min(self, other, key=lambda change: (change.delegator, change.delegatee))
        return msgspec.structs.replace(
            chosen,
            parents=self.parents | other.parents,
            scope=union(self.scope, other.scope),
            issued_at=min(self.issued_at, other.issued_at),
            expires_at=least(self.expires_at, other.expires_at),
        )


class Revocation(msgspec.Struct, frozen=True):
    """A reported revocation; one of a token reaches further than one of a delegation."""

    jti: UUID
    kind: RevokedKind
    revoked_at: datetime

    def merged(self, other: Self) -> Self:
        kind: RevokedKind = "tct" if "tct" in {self.kind, other.kind} else "delegation"
        return msgspec.structs.replace(self, kind=kind, revoked_at=min(self.revoked_at, other.revoked_at))


class Changes(msgspec.Struct, frozen=True):
    """Everything a batch says, each jti once, in key order."""

    tcts: list[TctChange]
    delegations: list[DelegationChange]
    revocations: list[Revocation]


class Reached(msgspec.Struct, frozen=True):
    """A delegation that a walk has come to, and since when it is revoked by that."""

    jti: UUID
    since: datetime


class Item(msgspec.Struct, frozen=True):
    """A revoked token or delegation whose children from `from_jti` on are not settled yet.

    `again` asks for another pass over all of them: `since` became earlier in the middle of this one. The pass goes on
    all the same, so that somebody who reports earlier and earlier times cannot keep it from its end.
    """

    jti: UUID
    since: datetime
    urgent: bool  # caused by the deny list, so before everything that only reports have caused
    from_jti: UUID = FIRST
    again: bool = False

    def joined(self, other: Self) -> Self:
        """Both in one; the same rule as `graph.ADD_WORK`."""
        again = self.again or (other.since < self.since and self.from_jti != FIRST)
        since, urgent = min(self.since, other.since), self.urgent or other.urgent
        return msgspec.structs.replace(self, since=since, urgent=urgent, again=again)


class Children(msgspec.Struct, frozen=True):
    """The next children of an item: how many there were, those that are open, and the first one beyond, if any."""

    item: Item
    count: int
    open: list[Reached]
    next_jti: UUID | None

    def following(self) -> Item | None:
        """What is left of the item, None at its end."""
        if self.next_jti is not None:
            return msgspec.structs.replace(self.item, from_jti=self.next_jti)
        return msgspec.structs.replace(self.item, from_jti=FIRST, again=False) if self.item.again else None


class Budget(msgspec.Struct, frozen=True):
    """How much of a cascade one transaction settles: rows walked, and seconds, for the graph lock is held meanwhile."""

    rows: int
    secs: float


class TctView(msgspec.Struct, frozen=True, rename="camel"):
    """The record of contract section 10."""

    jti: UUID
    issuer: str
    subject: str
    audience: str
    grants: msgspec.Raw
    binding_cnf: str | None
    issued_at: str
    expires_at: str | None
    session_id: str | None
    revoked: bool
    revoked_at: str | None


class TctList(msgspec.Struct, frozen=True, rename="camel"):
    tcts: list[TctView]
    next_before: str | msgspec.UnsetType = msgspec.UNSET


class TctFilter(msgspec.Struct, frozen=True):
    issuer: str | None = None
    subject: str | None = None
    audience: str | None = None
    capability: str | None = None
    session_id: str | None = None
    active_at: datetime | None = None  # neither revoked nor expired at this moment


class DelegationView(msgspec.Struct, frozen=True, rename="camel"):
    """The record of contract section 10."""

    jti: UUID
    parent_jti: UUID
    delegator: str
    delegatee: str
    scope: msgspec.Raw
    issued_at: str
    expires_at: str | None
    revoked: bool
    revoked_at: str | None
    revoked_reason: str | None
    pending_cascade: bool  # a revocation of it, or of something above it, is not settled to the end


class DelegationList(msgspec.Struct, frozen=True, rename="camel"):
    delegations: list[DelegationView]
    next_before: str | msgspec.UnsetType = msgspec.UNSET


class DelegationFilter(msgspec.Struct, frozen=True):
    parent_jti: UUID | None = None
    delegator: str | None = None
    delegatee: str | None = None
    active_at: datetime | None = None  # neither revoked nor expired at this moment
