"""Agents as stored and as shown."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated

import msgspec
from msgspec import Meta

from aitp_cp.db.keyset import Key, Order
from aitp_cp.web.query import AidFilter, Limit, PageQuery

ORDER = Order("agents", Key("registered_at", datetime), Key("aid", str))


class Status(StrEnum):
    """`inactive` is only ever found in rows of older deployments."""

    ACTIVE = "active"
    EXPIRED = "expired"
    DEREGISTERED = "deregistered"
    CONTAINED = "contained"  # never stored: an agent is contained while it has a containment that has not ended


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
    manifest_expires_at: str | None
    contained_at: str | msgspec.UnsetType = msgspec.UNSET  # while it is contained
    manifest_json: str | msgspec.UnsetType = msgspec.UNSET


class AgentList(msgspec.Struct, frozen=True, rename="camel"):
    agents: list[AgentView]
    next_before: str | msgspec.UnsetType = msgspec.UNSET


class AgentSummary(msgspec.Struct, frozen=True):
    """What a table of agents shows."""

    aid: str
    display_name: str
    status: str
    registered_at: datetime
    last_seen_at: datetime | None
    unsigned_reports: int
    last_unsigned_report_at: datetime | None


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


class KeptManifest(msgspec.Struct, frozen=True, rename="camel"):
    """`seq` counts the agent's manifests; `sha256` is of the canonical envelope; `bytes` as it was registered."""

    seq: int
    sha256: str
    published_at: str | None
    received_at: str
    bytes: int


class ManifestList(msgspec.Struct, frozen=True):
    """Newest first."""

    manifests: list[KeptManifest]


class NamespaceWish(msgspec.Struct, frozen=True):
    """The namespace that a registration names, and whether it proved to come from the agent itself."""

    name: str | None
    proven: bool = False


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


class ListFilter(PageQuery, frozen=True, kw_only=True, rename="camel"):
    """A status that no agent has matches none."""

    capability: Annotated[str | None, Meta(description="agents that offer it")] = None
    aid: Annotated[AidFilter | None, Meta(description="one agent")] = None
    display_name: Annotated[str | None, Meta(description="exact display name")] = None
    q: Annotated[
        str | None,
        Meta(
            description="the beginning of the display name in any case, the beginning or the end of the AID, with or"
            " without `aid:pubkey:`, or a whole capability"
        ),
    ] = None
    looks_like: Annotated[
        str | None, Meta(description="agents whose display name looks like this one, in whatever letters")
    ] = None
    expires_after: Annotated[datetime | None, Meta(description="whose manifest expires at this time or later")] = None
    expires_before: Annotated[datetime | None, Meta(description="whose manifest expires before this time")] = None
    namespace: Annotated[str | None, Meta(description="one namespace; all of them without it")] = None
    status: Annotated[str, Meta(description="status", extra_json_schema={"enum": [*Status, "all"]})] = Status.ACTIVE
    include_manifest: Annotated[bool, Meta(description="`true` adds the signed manifest")] = msgspec.field(
        name="include_manifest", default=False
    )
    limit: Limit = 200


class OperatorFilter(ListFilter, frozen=True, kw_only=True, rename="camel"):
    """With what operators note about agents, which discovery does not show."""

    owner: Annotated[str | None, Meta(description="exact owner")] = None
    unowned: Annotated[bool, Meta(description="`true`: agents without an owner")] = False


class Namesake(msgspec.Struct, frozen=True):
    """An agent whose name looks like another one's."""

    aid: str
    display_name: str
    status: str


class ExpiredAgent(msgspec.Struct, frozen=True):
    aid: str
    display_name: str
    namespace: str
