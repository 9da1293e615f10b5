"""Containments: cut a compromised agent off, follow how far that has reached, and release it."""

from collections.abc import AsyncIterator
from datetime import datetime
from functools import partial
from typing import Literal, TypedDict
from uuid import UUID

import msgspec

from aitp_cp_client.paging import Rows, rows
from aitp_cp_client.transport import Transport, segment

CONTAINMENTS = "/api/containments"


class ContainmentRecord(msgspec.Struct, frozen=True, rename="camel"):
    """A containment; it is open while `released_at` is None."""

    id: UUID
    aid: str
    reason: str
    ticket: str | None
    held_delegations: str
    include: str
    contained_at: datetime
    contained_by: str
    released_at: datetime | None
    released_by: str | None
    release_reason: str | None
    claimed_only: int
    later_listed: int


class TokenCounts(msgspec.Struct, frozen=True, rename="camel"):
    """Live tokens of the agent; the signed list cannot hold `unlistable` ones, which have no version 4 id.

    Of `shared` ones others have signed a token with the same id, which the list then revokes as well.
    """

    issued: int
    held: int
    unlistable: int
    by_verdict: dict[str, int]
    shared: int = 0


class Collateral(msgspec.Struct, frozen=True, rename="camel"):
    """What stays valid, because revoking it would hurt others."""

    kind: str
    jti: UUID
    source_jti: UUID | None
    aid: str


class DelegationCounts(msgspec.Struct, frozen=True, rename="camel"):
    count: int
    depth: int
    collateral: list[Collateral]


class ExposedPeer(msgspec.Struct, frozen=True, rename="camel"):
    aid: str
    display_name: str | None
    live_tokens: int
    last_session_at: datetime | None


class Containment(msgspec.Struct, frozen=True, rename="camel"):
    """A containment and its plan; `containment` is None in a dry run. `remaining` ids are still to be revoked."""

    containment: ContainmentRecord | None
    tokens: TokenCounts
    delegations: DelegationCounts
    exposed_peers: list[ExposedPeer]
    exposed_peer_count: int
    list_entries_after: int
    plan_digest: str
    revocations: int
    remaining: int


class ReachClient(msgspec.Struct, frozen=True, rename="camel"):
    """A client of the signed list; an address may be a shared cache and confirms no peer."""

    client: str
    kind: str
    holds: str
    seen_at: datetime
    proof: str


class ReachPeers(msgspec.Struct, frozen=True):
    total: int
    confirmed: int
    unknown: int


class ReachWebhooks(msgspec.Struct, frozen=True):
    delivered: int
    pending: int
    failed: int


class Reach(msgspec.Struct, frozen=True, rename="camel"):
    """Who has shown to hold the list with the revocations; `listed_at` is None until it holds them all."""

    listed_at: datetime | None
    clients: list[ReachClient]
    exposed_peers: ReachPeers
    webhooks: ReachWebhooks
    half_confirmed_at: datetime | None
    most_confirmed_at: datetime | None


class ContainOptions(TypedDict, total=False):
    """`include` and `held_delegations` default to `all` and `mark`; `expect` is the `plan_digest` of a dry run."""

    ticket: str | None
    include: Literal["verified", "all"]
    held_delegations: Literal["mark", "revokeSource"]
    expect: str | None


class Containments:
    """`ControlPlane.agents` contains and releases; here is what came of it."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def page(
        self,
        limit: int = 100,
        offset: int = 0,
        before: str | None = None,
        open: bool | None = None,
        aid: str | None = None,
    ) -> Rows[ContainmentRecord]:
        """Return at most 1000 containments, newest first."""
        params = {"open": open, "aid": aid, "limit": limit, "offset": offset, "before": before}
        return await self._transport.page(ContainmentRecord, "containments", CONTAINMENTS, params)

    def each(self, open: bool | None = None, aid: str | None = None) -> AsyncIterator[ContainmentRecord]:
        """Iterate over all containments, page by page."""
        return rows(partial(self.page, open=open, aid=aid))

    async def get(self, id: UUID | str) -> Containment:
        """Return the containment with the plan that it carried out."""
        return await self._transport.ask(Containment, f"{CONTAINMENTS}/{segment(id)}")

    async def reach(self, id: UUID | str) -> Reach:
        """Return how far it has reached. Nobody is ever called safe: a peer is confirmed or unknown."""
        return await self._transport.ask(Reach, f"{CONTAINMENTS}/{segment(id)}/reach")
