"""A containment as asked for, planned, stored and shown (contract, section 21)."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

import msgspec
from msgspec import Meta

from aitp_cp.db.keyset import Key, Order
from aitp_cp.tcts.exposure import Collateral, HeldDelegations, Include
from aitp_cp.web.query import AidFilter, PageQuery

MAX_REASON = 500
ORDER = Order("containments", Key("contained_at", datetime, descending=True), Key("id", UUID, descending=True))

# A blank one tells the audit nothing.
Reason = Annotated[str, Meta(min_length=1, max_length=MAX_REASON, pattern=r"\S")]


class NewContainment(msgspec.Struct, frozen=True, rename="camel"):
    """The request body; `expect` is the `planDigest` of a dry run."""

    reason: Reason
    ticket: Annotated[str, Meta(min_length=1, max_length=255)] | None = None
    held_delegations: HeldDelegations = "mark"
    include: Include = "all"
    expect: Annotated[str, Meta(max_length=64)] | None = None


class NewRelease(msgspec.Struct, frozen=True):
    reason: Reason


class ContainQuery(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    dry_run: Annotated[bool, Meta(description="`true` shows what would be done, and does nothing")] = False


class ContainmentQuery(PageQuery, frozen=True, kw_only=True, rename="camel"):
    open: Annotated[
        bool | None, Meta(description="`true` for those that have not ended, `false` for those that have")
    ] = None
    aid: Annotated[AidFilter | None, Meta(description="those of one agent")] = None


class ContainmentView(msgspec.Struct, frozen=True, rename="camel"):
    """`claimedOnly` and `laterListed` count what was reported since: claims, and tokens that their issuer signed."""

    id: UUID
    aid: str
    reason: str
    ticket: str | None
    held_delegations: str
    include: str
    contained_at: str
    contained_by: str
    released_at: str | None
    released_by: str | None
    release_reason: str | None
    claimed_only: int
    later_listed: int


class ContainmentPage(msgspec.Struct, frozen=True, rename="camel"):
    containments: list[ContainmentView]
    next_before: str | msgspec.UnsetType = msgspec.UNSET


class TokenPlan(msgspec.Struct, frozen=True, rename="camel"):
    """`unlistable` tokens have no version 4 id, which the signed list cannot hold.

    Of `shared` ones others have signed a token with the same id, which the list then revokes as well.
    """

    issued: int
    held: int
    unlistable: int
    by_verdict: dict[str, int]
    shared: int = 0  # none in plans that are stored by older versions


class DelegationPlan(msgspec.Struct, frozen=True, rename="camel"):
    """`count` ends at 10,000; what lies below that is revoked all the same."""

    count: int
    depth: int
    collateral: list[Collateral]


class ExposedPeer(msgspec.Struct, frozen=True, rename="camel"):
    aid: str
    display_name: str | None
    live_tokens: int
    last_session_at: str | None


class Plan(msgspec.Struct, frozen=True, rename="camel"):
    """What a containment does; `exposed_peers` are the 1000 with most tokens of `exposed_peer_count`."""

    tokens: TokenPlan
    delegations: DelegationPlan
    exposed_peers: list[ExposedPeer]
    exposed_peer_count: int
    list_entries_after: int
    plan_digest: str
    revocations: int  # ids that go into the deny list


class Containment(Plan, frozen=True, rename="camel"):
    """The response: the plan, its containment, None in a dry run, and how many ids are left to the job."""

    containment: ContainmentView | None
    remaining: int


class Act(msgspec.Struct, frozen=True):
    """A containment on its way into the database."""

    id: UUID
    aid: str
    body: NewContainment
    by: str
    event_id: UUID
    plan: Plan
    remaining: int


class Stored(msgspec.Struct, frozen=True):
    """A row of containments, for services that show or continue it."""

    view: ContainmentView
    plan: Plan
    event_id: UUID
    remaining: int
    pending: bool
    listed_version: int
    listed_at: datetime | None
    half_confirmed_at: datetime | None
    most_confirmed_at: datetime | None
    act_at: datetime


class Pending(msgspec.Struct, frozen=True):
    """A containment that is not done."""

    id: UUID
    aid: str
    include: Include
    held_delegations: HeldDelegations
