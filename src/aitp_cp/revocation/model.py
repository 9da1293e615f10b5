"""Revoked tokens, as asked for, stored and shown."""

from datetime import datetime
from typing import Annotated, Any, ClassVar
from uuid import UUID

import msgspec

from aitp_cp.db.keyset import Key, Order

MAX_REASON = 500
ORDER = Order("revocations", Key("revoked_at", datetime, descending=True), Key("jti", UUID, descending=True))

Jti = Annotated[Any, msgspec.Meta(extra_json_schema={"type": "string", "format": "uuid"})]
Reason = Annotated[str, msgspec.Meta(max_length=MAX_REASON)]


class NewRevocation(msgspec.Struct, frozen=True, rename="camel"):
    """The request body; `revokedAt` is ISO-8601, or epoch seconds or milliseconds, and now when it is missing.

    `revoked_at`, as the signed list spells it, stands in for `revokedAt`.
    """

    REQUIRED_ONE_OF: ClassVar = (("jti",),)

    jti: Jti = None
    reason: Reason | None = None
    revoked_at: str | int | float | None = None
    as_listed: str | int | float | None = msgspec.field(name="revoked_at", default=None)


class Revocation(msgspec.Struct, frozen=True):
    """A stored entry."""

    jti: UUID
    revoked_at: datetime
    reason: str | None


class RevocationView(msgspec.Struct, frozen=True, rename="camel"):
    jti: UUID
    revoked_at: str
    reason: str | None


class RevocationPage(msgspec.Struct, frozen=True, rename="camel"):
    entries: list[RevocationView]
    count: int
    next_before: str | msgspec.UnsetType = msgspec.UNSET


class Outcome(msgspec.Struct, frozen=True):
    """The entry as stored, and its place in the log; None when it was revoked before."""

    entry: Revocation
    seq: int | None


class Signed(msgspec.Struct, frozen=True):
    """One signing of the list: the envelope's bytes, their strong ETag, and how many entries could not be in it."""

    body: bytes
    etag: str
    unsigned: int
