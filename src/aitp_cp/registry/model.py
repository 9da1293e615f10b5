"""Agents as stored and as shown."""

from datetime import datetime
from enum import StrEnum

import msgspec

from aitp_cp.db.keyset import Key, Order

ORDER = Order("agents", Key("registered_at", datetime), Key("aid", str))


class Status(StrEnum):
    """`inactive` is only ever found in rows of older deployments."""

    ACTIVE = "active"
    EXPIRED = "expired"
    DEREGISTERED = "deregistered"


class AgentView(msgspec.Struct, frozen=True, rename="camel"):
    """The record of contract section 8."""

    aid: str
    display_name: str
    handshake_endpoint: str
    offered_caps: msgspec.Raw
    status: str
    namespace: str
    registered_at: str
    last_enrolled_at: str | None
    last_seen_at: str | None
    manifest_url: str
    agent_manifest_hint: str | None
    manifest_json: str | msgspec.UnsetType = msgspec.UNSET


class AgentList(msgspec.Struct, frozen=True, rename="camel"):
    agents: list[AgentView]
    next_before: str | msgspec.UnsetType = msgspec.UNSET


class StoredManifest(msgspec.Struct, frozen=True):
    """What decides whether another manifest of the same agent is newer."""

    status: str
    display_name: str
    namespace: str
    registered_at: datetime
    manifest_json: str
    published_at: datetime | None
    deregistered_at: datetime | None


class StoredText(msgspec.Struct, frozen=True):
    """A manifest exactly as registered, its agent's status, and when it expires."""

    text: str
    status: str
    expires_at: datetime | None


class EnrollmentAnswer(msgspec.Struct, frozen=True, rename="camel"):
    token: str
    expires_in: int
    aid: str
    jti: str
    exp: int


class Registered(msgspec.Struct, frozen=True, rename="camel"):
    aid: str
    display_name: str
    registered_at: str


class AgentUpdate(msgspec.Struct, frozen=True):
    """What an operator may change of an agent."""

    namespace: str


class Deregistered(msgspec.Struct, frozen=True):
    aid: str
    status: str


class ListFilter(msgspec.Struct, frozen=True):
    status: str = Status.ACTIVE
    capability: str | None = None
    aid: str | None = None
    display_name: str | None = None
    namespace: str | None = None
    include_manifest: bool = False


class ExpiredAgent(msgspec.Struct, frozen=True):
    aid: str
    display_name: str
    namespace: str
