"""Who a valid credential belongs to, and how the gate finds out."""

from datetime import datetime
from enum import StrEnum
from typing import Protocol
from uuid import UUID

import msgspec
from starlette.datastructures import Headers

from aitp_cp.protocol.http_signature import Digest, SignedRequest
from aitp_cp.protocol.reports import Proof
from aitp_cp.protocol.scopes import ALL_SCOPES, Scope
from aitp_cp_client.wire.aid import Aid


class Kind(StrEnum):
    """`anonymous` only where the gate is open: in development, without any key."""

    ENVIRONMENT = "environment"
    KEY = "key"
    AGENT = "agent"
    SESSION = "session"
    ANONYMOUS = "anonymous"


class Principal(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The holder of a credential; `actor` names him in audit rows, event ids, idempotency scopes and buckets.

    Without garbage collection, for there may be 100,000: its members refer to nothing.
    """

    actor: str
    kind: Kind
    name: str | None = None
    scopes: frozenset[Scope] = frozenset()
    expires_at: datetime | None = None
    rate_per_min: int | None = None  # None for the limit of the bucket
    key_id: UUID | None = None  # the row of a key in the database
    session: UUID | None = None  # of a browser
    authenticated_at: datetime | None = None  # when the person in front of the browser last showed a credential
    aid: Aid | None = None  # of an agent
    proof: Proof = Proof.SHARED_KEY


# Whoever calls while the gate is open.
ANYONE = Principal(actor="anonymous", kind=Kind.ANONYMOUS, scopes=ALL_SCOPES)


class Credentials(Protocol):
    """One kind of bearer credential, recognised by how it begins."""

    prefix: str

    @property
    def exist(self) -> bool:
        """Whether one was ever given out that closes the open gate."""

    def find(self, token: str, digest: bytes) -> Principal | None:
        """Return who holds the token as far as memory knows; None if `look_up` may know more.

        `digest` is the SHA-256 of the token. Raises one of `gate.REFUSALS` for a token that cannot be, or that is no
        longer valid, and `DatabaseUnavailable` when what memory holds is too old to be trusted.
        """

    async def look_up(self, token: str, digest: bytes) -> Principal | None:
        """Ask the database; None for an unknown token. Raises like `find`."""

    def is_valid(self, principal: Principal) -> bool:
        """Return whether the credential is still good, for a response that goes on: a stream. Never waits."""

    def used(self, principal: Principal, client_ip: str) -> None:
        """Note that a request was made with the credential."""


class Agents(Protocol):
    """Agents that call: requests that they sign instead of sending a credential, and whether they may act now."""

    def verify(self, request: SignedRequest) -> tuple[Principal, tuple[Digest, ...]]:
        """Return who signed a request, and the digests that its body must have; raises `SignatureInvalid`."""

    async def check(self, principal: Principal) -> None:
        """Ask the database whether the agent may act at this moment; raises `AgentNotActive`."""


class Sessions(Protocol):
    """Browsers that have signed in to the console."""

    async def find(self, headers: Headers, *, active: bool) -> Principal | None:
        """Return whose session the cookie of a request names, with the scopes it has now; None without a live one.

        `active` is whether a person made the request: only then does it put off the end of an idle session. Raises
        `DatabaseUnavailable`.
        """

    def is_valid(self, principal: Principal) -> bool:
        """Return whether the session was live a moment ago, for a response that goes on: a stream. Never waits."""
