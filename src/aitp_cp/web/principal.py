"""Who a valid credential belongs to, and how the gate finds out."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol
from uuid import UUID

from aitp_cp.protocol.scopes import ALL_SCOPES, Scope

BEARER = {"WWW-Authenticate": "Bearer"}  # with every 401


class Kind(StrEnum):
    """`anonymous` only where the gate is open: in development, without any key."""

    ENVIRONMENT = "environment"
    KEY = "key"
    AGENT = "agent"
    SESSION = "session"
    ANONYMOUS = "anonymous"


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """The holder of a credential.

    `actor` names him in audit rows, event ids, idempotency scopes and buckets. `is_valid` tells a response that goes
    on for long, a stream, whether the credential is still good; it must be cheap and never wait.
    """

    actor: str
    kind: Kind
    name: str | None = None
    scopes: frozenset[Scope] = frozenset()
    expires_at: datetime | None = None
    rate_per_min: int | None = None  # None for the limit of the bucket
    key_id: UUID | None = None  # the row of a key in the database
    is_valid: Callable[[], bool] = lambda: True


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
