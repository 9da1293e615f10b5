"""Tokens and delegations as reported, as stored, and as shown."""

from datetime import datetime
from typing import Any, Literal, Self
from uuid import UUID

import msgspec

from aitp_cp.db.keyset import Key, Order
from aitp_cp.protocol.verdicts import Verdict
from aitp_cp.tcts.callers import Reported, State
from aitp_cp.tcts.merging import differ, higher, is_agent, least, union
from aitp_cp_client.wire.aid import Aid

TCT_ORDER = Order("tcts", Key("issued_at", datetime, descending=True), Key("jti", UUID))
EXPIRING_ORDER = Order("expiring-tcts", Key("expires_at", datetime), Key("jti", UUID))
DELEGATION_ORDER = Order("delegations", Key("issued_at", datetime, descending=True), Key("jti", UUID))

# Parents that reports of one caller may give a delegation: a revocation must reach it through any of them.
MAX_PARENTS = 16

# A parent, and a caller that reported delegations of it.
Link = tuple[UUID, str]

RevokedKind = Literal["tct", "delegation"]
TCT: RevokedKind = "tct"
DELEGATION: RevokedKind = "delegation"

# The ends of a walk over children in key order.
FIRST, LAST = UUID(int=0), UUID(int=2**128 - 1)


class TctChange(State, frozen=True):
    """What a caller reported of one token, or its issuer signed; `grants` is sorted."""

    jti: UUID
    issuer: str
    subject: str
    audience: str
    grants: list[str]
    binding_cnf: str | None
    issued_at: datetime
    expires_at: datetime | None
    session_id: str | None
    verdict: Verdict = Verdict.NONE
    mismatch: bool = False  # reported with claims that differ from those that are signed

    @property
    def slot(self) -> str:
        return slot_of(self.verdict, (self.issuer, self.subject))

    @property
    def parties(self) -> tuple[str, str, str]:
        return self.issuer, self.subject, self.audience

    @property
    def are_agents(self) -> bool:
        return all(map(is_agent, self.parties))

    @property
    def names_audience(self) -> bool:
        """Whether the audience was reported, and not taken to be the subject."""
        return self.audience != self.subject

    def merged(self, other: Self) -> Self:
        """Return both reports as one. The parties of one of them are taken together; agents go before other names.

        Of two tokens that one issuer signed under one jti, the one that ends later.
        """
        if self.slot:
            kept = max(self, other, key=TctChange._signed)
            return msgspec.structs.replace(
                kept,
                issued_at=min(self.issued_at, other.issued_at),
                session_id=least(self.session_id, other.session_id),
                mismatch=self.mismatch or other.mismatch,
            )
        chosen = min(
            self, other, key=lambda change: (not change.are_agents, not change.names_audience, *change.parties)
        )
        return msgspec.structs.replace(
            chosen,
            grants=union(self.grants, other.grants),
            binding_cnf=least(self.binding_cnf, other.binding_cnf),
            issued_at=min(self.issued_at, other.issued_at),
            expires_at=least(self.expires_at, other.expires_at),
            session_id=least(self.session_id, other.session_id),
            verdict=higher(self.verdict, other.verdict),
        )

    def _signed(self) -> tuple[Any, ...]:
        """Return what `keep_hidden_tcts` orders by, too."""
        grants = msgspec.json.encode(self.grants)
        return self.expires_at is None, self.expires_at or self.issued_at, grants, self.audience, self.binding_cnf or ""

    def filled(self, other: Self) -> Self:
        """Names that cannot be agents count as missing where `other` has agents."""
        if self.slot or other.slot:
            return self._proven(other)
        same_sides = (self.issuer, self.subject) == (other.issuer, other.subject)
        takes_parties = (other.are_agents and not self.are_agents) or (same_sides and not self.names_audience)
        parties = other if takes_parties else self
        return msgspec.structs.replace(
            self,
            issuer=parties.issuer,
            subject=parties.subject,
            audience=parties.audience,
            grants=self.grants or other.grants,
            binding_cnf=self.binding_cnf or other.binding_cnf,
            expires_at=self.expires_at or other.expires_at,
            session_id=self.session_id or other.session_id,
        )

    def _proven(self, other: Self) -> Self:
        """Return the signed token over claims about the same parties; of one between others nothing is taken."""
        if self.slot:
            shown, mismatch = self, self.mismatch or (self.slot == other.slot and other.mismatch)
        elif confirms((other.issuer, other.subject), (self.issuer, self.subject)):
            shown, mismatch = other, other.mismatch
        else:
            return self
        return msgspec.structs.replace(shown, mismatch=mismatch, session_id=self.session_id or other.session_id)

    def disputes(self, row: Self) -> bool:
        """About its parties, grants, key or expiry. When it was issued is often the reporter's own time."""
        other_audience = self.names_audience and row.names_audience and self.audience != row.audience
        return (
            (self.issuer, self.subject) != (row.issuer, row.subject)
            or other_audience
            or differ(self.grants, row.grants)
            or differ(self.binding_cnf, row.binding_cnf)
            or differ(whole_second(self.expires_at), whole_second(row.expires_at))
        )


class DelegationChange(State, frozen=True):
    """What a caller reported of one delegation; conflicting reports may name several parents."""

    jti: UUID
    parents: frozenset[UUID]
    delegator: str
    delegatee: str
    scope: list[str]
    issued_at: datetime
    expires_at: datetime | None
    verdict: Verdict = Verdict.NONE
    mismatch: bool = False  # reported with claims that differ from those that are signed
    audience: str | None = None  # who issued the token that it rests on, if that is signed

    @property
    def slot(self) -> str:
        return slot_of(self.verdict, self.sides)

    @property
    def sides(self) -> tuple[str, str]:
        return self.delegator, self.delegatee

    @property
    def are_agents(self) -> bool:
        return all(map(is_agent, self.sides))

    def merged(self, other: Self) -> Self:
        """At most `MAX_PARENTS` parents, of which none is ever pushed out; a signed delegation has one."""
        if self.slot:
            kept = max(self, other, key=DelegationChange._signed)
            mismatch = self.mismatch or other.mismatch
            return msgspec.structs.replace(kept, issued_at=min(self.issued_at, other.issued_at), mismatch=mismatch)
        chosen = min(self, other, key=lambda change: (not change.are_agents, *change.sides))
        further = sorted(other.parents - self.parents)[: max(0, MAX_PARENTS - len(self.parents))]
        return msgspec.structs.replace(
            chosen,
            parents=self.parents | frozenset(further),
            scope=union(self.scope, other.scope),
            issued_at=min(self.issued_at, other.issued_at),
            expires_at=least(self.expires_at, other.expires_at),
            verdict=higher(self.verdict, other.verdict),
        )

    def _signed(self) -> tuple[Any, ...]:
        lasts = self.expires_at is None, self.expires_at or self.issued_at
        return *lasts, self.scope, sorted(self.parents), self.audience or ""

    def filled(self, other: Self) -> Self:
        if self.slot:
            mismatch = self.mismatch or (self.slot == other.slot and other.mismatch)
            return msgspec.structs.replace(self, mismatch=mismatch)
        if other.slot:
            return other if confirms(other.sides, self.sides) else self
        sides = other if other.are_agents and not self.are_agents else self
        return msgspec.structs.replace(
            self,
            delegator=sides.delegator,
            delegatee=sides.delegatee,
            scope=self.scope or other.scope,
            expires_at=self.expires_at or other.expires_at,
        )

    def disputes(self, row: Self) -> bool:
        """About its sides, scope, expiry, or by a parent that the row does not have."""
        return (
            self.sides != row.sides
            or not self.parents <= row.parents
            or differ(self.scope, row.scope)
            or differ(whole_second(self.expires_at), whole_second(row.expires_at))
        )


def slot_of(verdict: Verdict, pair: tuple[str, str]) -> str:
    """Which of a caller's statements this is: all its claims are one, and what each pair of parties signed another."""
    return " ".join(pair) if verdict is Verdict.VERIFIED else ""


def confirms(signed: tuple[str, str], claimed: tuple[str, str]) -> bool:
    """Return whether a signed token is between those that are claimed; names that cannot be agents count as missing."""
    return all(name == claim or not is_agent(claim) for name, claim in zip(signed, claimed, strict=True))


class Revocation(msgspec.Struct, frozen=True):
    """A reported revocation; one of a token reaches further than one of a delegation.

    That of a `signer` counts for what the signer has issued or delegated, and for nothing else.
    """

    jti: UUID
    kind: RevokedKind
    revoked_at: datetime
    caller: str
    event_id: UUID | None = None  # None for a revocation by containment
    signer: Aid | None = None


class Changes(msgspec.Struct, frozen=True):
    """Everything a group of reports says, in its order; tokens by jti."""

    tcts: dict[UUID, list[Reported[TctChange]]]
    delegations: list[Reported[DelegationChange]]
    revocations: list[Revocation]

    def __bool__(self) -> bool:
        return bool(self.tcts or self.delegations or self.revocations)


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
        """Return what is left of the item, None at its end."""
        if self.next_jti is not None:
            return msgspec.structs.replace(self.item, from_jti=self.next_jti)
        return msgspec.structs.replace(self.item, from_jti=FIRST, again=False) if self.item.again else None


class Budget(msgspec.Struct, frozen=True):
    """How much of a cascade one transaction settles: rows walked, and seconds, for the graph lock is held meanwhile."""

    rows: int
    secs: float


def whole_second(at: datetime | None) -> datetime | None:
    """Expiries of tokens are whole seconds, which some reporters write with a fraction."""
    return at and at.replace(microsecond=0)
