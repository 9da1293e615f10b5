"""A browser's session as stored and shown, and what a person has proven."""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from uuid import UUID

import msgspec

from aitp_cp.db.keyset import Key, Order

ORDER = Order("console-sessions", Key("created_at", datetime, descending=True), Key("id", UUID, descending=True))

MAX_SUBJECT = 255  # characters, those of an actor
MAX_DISPLAY = 255  # those of an actor's name in audit rows
MAX_AGENT = 256


class Method(StrEnum):
    KEY = "key"
    OIDC = "oidc"


class SignIn(msgspec.Struct, frozen=True, kw_only=True):
    """Who a valid credential belongs to, before there is a session.

    `scopes` are the most the session may ever have. `key_family` is None for a key of the environment, `idp_sid` the
    provider's own name of its session.
    """

    subject: str
    display: str | None
    scopes: tuple[str, ...]
    method: Method
    auth_at: datetime
    key_family: UUID | None = None
    idp_sid: str | None = None


class LoginRefused(Exception):
    """The credential does not open the console; `reason` is for the audit only."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class NoRole(LoginRefused):
    """The provider knows the person, and no group of the person has a role here."""

    def __init__(self, groups: Sequence[str]) -> None:
        super().__init__("no role")
        self.groups = groups


class ProviderAway(Exception):
    """The identity provider does not answer, or not as one; the text is short and holds no secret."""


class Which(msgspec.Struct, frozen=True):
    """Sessions that meet every condition that is given; without one, all."""

    id: UUID | None = None
    subject: str | None = None
    besides: UUID | None = None
    idp_sid: str | None = None


class ConsoleSession(msgspec.Struct, frozen=True):
    """A row. `seen_at` is the last request that a person made, `expires_at` the end however busy the session is."""

    id: UUID
    digest: bytes
    subject: str
    display: str | None
    scopes: tuple[str, ...]
    method: str
    key_family: UUID | None
    idp_sid: str | None
    created_at: datetime
    seen_at: datetime
    auth_at: datetime
    expires_at: datetime
    ip: str
    agent: str
    ended_at: datetime | None = None
    ended_by: str | None = None

    @property
    def shown(self) -> str:
        """What lists and audit rows show of the id."""
        return self.id.hex[:8]
