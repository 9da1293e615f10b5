"""Tokens and delegations as the API shows them, and what its lists are filtered by."""

from datetime import datetime
from typing import Annotated, ClassVar, Literal
from uuid import UUID

import msgspec
from msgspec import Meta

from aitp_cp.db.keyset import Order
from aitp_cp.errors import BadRequest
from aitp_cp.tcts.model import EXPIRING_ORDER, TCT_ORDER
from aitp_cp.web.query import AidFilter, PageQuery
from aitp_cp_client.wire.aid import Aid


class Statement(msgspec.Struct, frozen=True, rename="camel"):
    """What one reporter says of an id. `verified` says what the issuer signed, and `revoked` is about this token."""

    reported_by: Aid | None  # None for a shared key
    issuer: str
    subject: str
    verdict: str
    expires_at: str | None
    revoked: bool
    revoked_at: str | None


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
    verdict: str  # what its signature is worth
    mismatch: bool  # reported with claims that differ from those that are signed
    conflict: bool  # callers disagree about it
    reported_by: Aid | None  # the agent that reported it first; None for a shared key
    statements: list[Statement]  # of each reporter, where there are several or one has shown several tokens


# A row has no forged token.
WithVerdict = Annotated[
    Literal["none", "invalid", "unverifiable", "verified"] | None, Meta(description="what the signature is worth")
]


class TctList(msgspec.Struct, frozen=True, rename="camel"):
    tcts: list[TctView]
    next_before: str | msgspec.UnsetType = msgspec.UNSET


class TctFilter(PageQuery, frozen=True, kw_only=True, rename="camel"):
    issuer: Annotated[AidFilter | None, Meta(description="AID of the issuer")] = None
    subject: Annotated[AidFilter | None, Meta(description="AID of the holder")] = None
    audience: Annotated[AidFilter | None, Meta(description="AID of the audience")] = None
    capability: Annotated[str | None, Meta(description="tokens that grant it")] = None
    session_id: Annotated[str | None, Meta(description="tokens of one handshake")] = None
    verdict: WithVerdict = None
    active: Annotated[bool, Meta(description="`true` leaves out revoked and expired tokens")] = False
    expires_before: Annotated[
        datetime | None, Meta(description="active tokens that expire until then, the next to expire first; ISO-8601")
    ] = None

    @property
    def order(self) -> Order:
        return TCT_ORDER if self.expires_before is None else EXPIRING_ORDER


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
    verdict: str  # what its signature is worth
    mismatch: bool  # reported with claims that differ from those that are signed
    conflict: bool  # callers disagree about it
    pending_cascade: bool  # a revocation of it, or of something above it, is not settled to the end


class DelegationList(msgspec.Struct, frozen=True, rename="camel"):
    delegations: list[DelegationView]
    next_before: str | msgspec.UnsetType = msgspec.UNSET


class DelegationFilter(PageQuery, frozen=True, kw_only=True, rename="camel"):
    """`root_jti` asks for a tree; of the other filters only `active` applies to it."""

    REFUSAL: ClassVar = BadRequest

    root_jti: Annotated[
        UUID | None,
        Meta(
            description="a token or a delegation: everything delegated from it, the delegation itself included, oldest"
            " first, at most 1000 rows, 32 levels and 16 MiB; of the other filters only `active` applies"
        ),
    ] = None
    parent_jti: Annotated[UUID | None, Meta(description="delegated directly from this token or delegation")] = None
    delegator: Annotated[AidFilter | None, Meta(description="AID of the delegator")] = None
    delegatee: Annotated[AidFilter | None, Meta(description="AID of the delegatee")] = None
    verdict: WithVerdict = None
    active: Annotated[bool, Meta(description="`true` leaves out revoked and expired delegations")] = False
