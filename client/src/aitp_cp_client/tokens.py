"""Reported tokens and delegations."""

from collections.abc import AsyncIterator
from datetime import datetime
from functools import partial
from typing import Any, Literal, TypedDict, Unpack
from uuid import UUID

import msgspec

from aitp_cp_client.paging import Rows, rows
from aitp_cp_client.transport import Transport
from aitp_cp_client.wire.times import written

TCTS = "/api/tcts"
DELEGATIONS = "/api/delegations"

Verdict = Literal["none", "unverifiable", "invalid", "verified"]


class Statement(msgspec.Struct, frozen=True, rename="camel"):
    """What one reporter says of a token's id; `revoked` is about the token of this issuer."""

    reported_by: str | None  # the agent; None for a shared key
    issuer: str
    subject: str
    verdict: str
    expires_at: datetime | None
    revoked: bool
    revoked_at: datetime | None


class Tct(msgspec.Struct, frozen=True, rename="camel"):
    jti: UUID
    issuer: str
    subject: str
    audience: str
    grants: list[Any]
    binding_cnf: str | None
    issued_at: datetime
    expires_at: datetime | None
    session_id: str | None
    revoked: bool
    revoked_at: datetime | None
    conflict: bool = False  # reports contradict each other
    verdict: str = "none"  # of its signature: `none`, `unverifiable`, `invalid` or `verified`
    mismatch: bool = False  # reported claims differ from the signed ones
    reported_by: str | None = None  # the agent that reported it first; None for a shared key
    statements: list[Statement] = []  # of each reporter, where there are several or one has shown several tokens


class Delegation(msgspec.Struct, frozen=True, rename="camel"):
    jti: UUID
    parent_jti: UUID
    delegator: str
    delegatee: str
    scope: list[Any]
    issued_at: datetime
    expires_at: datetime | None
    revoked: bool
    revoked_at: datetime | None
    revoked_reason: str | None
    conflict: bool = False  # reports contradict each other
    verdict: str = "none"  # of its signature: `none`, `unverifiable`, `invalid` or `verified`
    mismatch: bool = False  # reported claims differ from the signed ones
    pending_cascade: bool = False  # a revocation of it or of an ancestor is still being applied


class TctFilter(TypedDict, total=False):
    """`active` excludes revoked and expired rows; `expires_before` does too, and lists the next to expire first."""

    issuer: str | None
    subject: str | None
    audience: str | None
    capability: str | None
    session_id: str | None
    verdict: Verdict | None
    active: bool
    expires_before: datetime | None


class DelegationFilter(TypedDict, total=False):
    """`active` excludes revoked and expired rows."""

    parent_jti: UUID | None
    delegator: str | None
    delegatee: str | None
    verdict: Verdict | None
    active: bool


class Tcts:
    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def page(
        self, limit: int = 100, offset: int = 0, before: str | None = None, **filters: Unpack[TctFilter]
    ) -> Rows[Tct]:
        """Return at most 1000 tokens, newest `issued_at` first; with `expires_before`, the next to expire first."""
        params = {**written(filters), "limit": limit, "offset": offset, "before": before}
        return await self._transport.page(Tct, "tcts", TCTS, params)

    def each(self, **filters: Unpack[TctFilter]) -> AsyncIterator[Tct]:
        """Iterate over all rows, page by page."""
        return rows(partial(self.page, **filters))


class Delegations:
    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def page(
        self, limit: int = 100, offset: int = 0, before: str | None = None, **filters: Unpack[DelegationFilter]
    ) -> Rows[Delegation]:
        """Return at most 1000 delegations, newest `issued_at` first."""
        params = {**filters, "limit": limit, "offset": offset, "before": before}
        return await self._transport.page(Delegation, "delegations", DELEGATIONS, params)

    def each(self, **filters: Unpack[DelegationFilter]) -> AsyncIterator[Delegation]:
        """Iterate over all rows, page by page."""
        return rows(partial(self.page, **filters))

    async def tree(self, root: UUID, *, active: bool = False) -> list[Delegation]:
        """Return the delegations under a token or delegation, oldest first; at most 1000, 32 levels deep."""
        params = {"root_jti": root, "active": active}
        return await self._transport.page(Delegation, "delegations", DELEGATIONS, params)
