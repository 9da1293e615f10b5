"""Revoked tokens, as asked for, stored and shown."""

from datetime import datetime
from typing import Annotated, Any, ClassVar, NamedTuple
from uuid import UUID

import msgspec

from aitp_cp.audit.model import Actor
from aitp_cp.db.keyset import Key, Order
from aitp_cp.idempotency.model import ApiResponse, Once
from aitp_cp.web.query import PageQuery

MAX_REASON = 500
MAX_JTIS = 1000
ORDER = Order("revocations", Key("revoked_at", datetime, descending=True), Key("jti", UUID, descending=True))

Jti = Annotated[Any, msgspec.Meta(extra_json_schema={"type": "string", "format": "uuid"})]
Jtis = Annotated[
    list[Any],
    msgspec.Meta(
        extra_json_schema={
            "items": {"type": "string", "format": "uuid"},
            "minItems": 1,
            "maxItems": MAX_JTIS,
            "uniqueItems": True,
        }
    ),
]
Reason = Annotated[str, msgspec.Meta(max_length=MAX_REASON)]


class NewRevocation(msgspec.Struct, frozen=True, rename="camel"):
    """The request body, with either `jti` or `jtis`.

    `revokedAt` is ISO-8601, or epoch seconds or milliseconds, and now when it is missing. `revoked_at`, as the signed
    list spells it, stands in for it.
    """

    REQUIRED_ONE_OF: ClassVar = (("jti",), ("jtis",))

    jti: Jti = None
    jtis: Jtis | None = None
    reason: Reason | None = None
    revoked_at: str | int | float | None = None
    as_listed: str | int | float | None = msgspec.field(name="revoked_at", default=None)


class RevocationQuery(PageQuery, frozen=True, kw_only=True, rename="camel"):
    jti: Annotated[str | None, msgspec.Meta(description="one token, in any spelling of its UUID")] = None


class Revocation(msgspec.Struct, frozen=True):
    """A stored entry."""

    jti: UUID
    revoked_at: datetime
    reason: str | None
    unlisted_at: datetime | None = None


class RevocationView(msgspec.Struct, frozen=True, rename="camel"):
    jti: UUID
    revoked_at: str
    reason: str | None
    listed: bool  # whether the signed list holds it: the SDK signs version 4 UUIDs only
    unlisted_at: str | msgspec.UnsetType = msgspec.UNSET  # since when the list leaves it out: its token has ended


class BulkRevocation(msgspec.Struct, frozen=True, rename="camel"):
    """The response to `jtis`; `entries` in the order of the request."""

    entries: list[RevocationView]
    revoked: int
    already_revoked: int


class RevocationPage(msgspec.Struct, frozen=True, rename="camel"):
    entries: list[RevocationView]
    count: int
    next_before: str | msgspec.UnsetType = msgspec.UNSET


class Request(msgspec.Struct, frozen=True):
    """The entries of one request, in its order, and who sent it; `bulk` when it sent a list."""

    entries: list[Revocation]
    actor: Actor
    bulk: bool


class Outcome(msgspec.Struct, frozen=True):
    """The entries as stored, in the order of the request, how many are new, and the newest one's place in the log."""

    entries: list[Revocation]
    new: int
    seq: int | None


class Submission(NamedTuple):
    """A request and its Idempotency-Key."""

    request: Request
    once: Once | None


class Done(NamedTuple):
    """The response to a submission after its commit; `outcome` is None where an older request was answered."""

    response: ApiResponse
    outcome: Outcome | None


class Stored(msgspec.Struct, frozen=True):
    """The entries of the deny list in chunks of JSON, and the version of the table that they are at least."""

    version: int
    chunks: list[bytes]


class Signed(msgspec.Struct, frozen=True):
    """One signing of the list: the envelope's bytes, and how many entries could not be in it.

    `etag` and `version` are set when it is published.
    """

    body: bytes
    body_sha256: bytes
    unsigned: int
    etag: str = ""
    version: int = 0


class Standing(msgspec.Struct, frozen=True):
    """How this process's signed list stands: its age, and up to which age it may be served."""

    exists: bool
    age_secs: float
    limit_secs: float
    failing: bool
    unsigned: int
    version: int | None
    etag: str | None
    bytes: int
