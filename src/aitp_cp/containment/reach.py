"""How far a containment has reached: which clients hold a signed list with its revocations (contract, section 21).

A list's ETag names its version, and a conditional request shows which one a client holds. Nothing is ever called safe:
a peer is confirmed or unknown. An address confirms no peer, for a shared cache hides its clients.
"""

from datetime import datetime
from typing import Literal
from uuid import UUID

import msgspec

from aitp_cp.clock import iso, iso_or_none
from aitp_cp.containment import service, store
from aitp_cp.containment.model import ExposedPeer, Stored
from aitp_cp.db import Connection
from aitp_cp.deliveries import store as deliveries
from aitp_cp.revocation import holders
from aitp_cp.revocation.holders import NONE, Holder

MAX_CLIENTS = 1000  # that a response names, those seen last
MAX_WATCHED = 100  # newest open containments whose progress is noted
HALF, MOST = 0.5, 0.95


class ReachClient(msgspec.Struct, frozen=True, rename="camel"):
    """`unknown` holds a list of which it has shown nothing; a 200 says only that it was sent."""

    client: str
    kind: Literal["agent", "address"]
    holds: Literal["current", "older", "unknown"]
    seen_at: str
    proof: Literal["conditional-get", "fetched"]


class ReachPeers(msgspec.Struct, frozen=True):
    """Confirmed are the exposed peers that proved their key with a request that proved their list."""

    total: int
    confirmed: int
    unknown: int


class ReachWebhooks(msgspec.Struct, frozen=True):
    """Deliveries of `agent.contained`."""

    delivered: int
    pending: int
    failed: int


class Reach(msgspec.Struct, frozen=True, rename="camel"):
    """`listed_at` is None until the list holds every revocation of the containment."""

    listed_at: str | None
    clients: list[ReachClient]
    exposed_peers: ReachPeers
    webhooks: ReachWebhooks
    half_confirmed_at: str | None
    most_confirmed_at: str | None


class PeerReach(msgspec.Struct, frozen=True):
    """A peer that was `sent` the list has not shown that it holds it: only `confirmed` says so."""

    peer: ExposedPeer
    known: Literal["confirmed", "sent", "unknown"]
    seen_at: str | None


class Progress(msgspec.Struct, frozen=True):
    """How far the newest containment has reached, for the gauges, which show no NaN: seconds are 0 until then."""

    confirmed_ratio: float
    secs_to_half: float
    secs_to_most: float


class Unreached(msgspec.Struct, frozen=True):
    """An open containment, and how many of its peers have confirmed."""

    id: UUID
    aid: str
    act_at: datetime
    peers: ReachPeers


async def reach(conn: Connection, id: UUID) -> Reach:
    """Return how far a containment has reached; raises `NotFound`."""
    stored = await service.get(conn, id)
    sent = await deliveries.count_of_event(conn, stored.event_id)
    return Reach(
        listed_at=iso_or_none(stored.listed_at),
        clients=[_client(holder, stored) for holder in await holders.newest(conn, MAX_CLIENTS)],
        exposed_peers=await _peers(conn, stored),
        webhooks=ReachWebhooks(
            delivered=sent.get("delivered", 0),
            failed=sent.get("failed", 0),
            pending=sum(count for status, count in sent.items() if status not in {"delivered", "failed"}),
        ),
        half_confirmed_at=iso_or_none(stored.half_confirmed_at),
        most_confirmed_at=iso_or_none(stored.most_confirmed_at),
    )


async def watch(conn: Connection, now: datetime) -> Progress:
    """Note which open containments have reached half, or nearly all, of their peers.

    Return how far the newest one has; without one, nobody is left to reach.
    """
    newest: Progress | None = None
    for stored in await store.newest_open(conn, MAX_WATCHED):
        peers = await _peers(conn, stored)
        ratio = peers.confirmed / peers.total if peers.total else 1.0
        half, most = (
            known or (now if stored.listed_at is not None and ratio >= share else None)
            for known, share in ((stored.half_confirmed_at, HALF), (stored.most_confirmed_at, MOST))
        )
        if (half, most) != (stored.half_confirmed_at, stored.most_confirmed_at):
            await store.confirm(conn, stored.view.id, half, most)
        if newest is None:
            newest = Progress(ratio, _secs(stored, half), _secs(stored, most))
    return newest or Progress(1.0, 0.0, 0.0)


async def unreached(conn: Connection, limit: int) -> list[Unreached]:
    """Return the newest open containments of which nearly all peers have not confirmed yet, at most `limit`."""
    open_ = await store.newest_open(conn, MAX_WATCHED)
    waiting = [stored for stored in open_ if stored.most_confirmed_at is None and stored.plan.exposed_peer_count]
    return [
        Unreached(stored.view.id, stored.view.aid, stored.act_at, await _peers(conn, stored))
        for stored in waiting[:limit]
    ]


async def peers(conn: Connection, stored: Stored) -> list[PeerReach]:
    """Return how far a containment has reached each exposed peer that its plan names."""
    held = await holders.of_agents(conn, [peer.aid for peer in stored.plan.exposed_peers])
    return [_peer(peer, held.get(peer.aid), stored) for peer in stored.plan.exposed_peers]


def _peer(peer: ExposedPeer, holder: Holder | None, stored: Stored) -> PeerReach:
    known: Literal["confirmed", "sent", "unknown"] = "unknown"
    if holder is not None and _is_current(holder.holds, stored):
        known = "confirmed"
    elif holder is not None and _is_current(holder.sent, stored):
        known = "sent"
    return PeerReach(peer, known, None if holder is None else iso(holder.seen_at))


async def _peers(conn: Connection, stored: Stored) -> ReachPeers:
    held = await holders.of_agents(conn, [peer.aid for peer in stored.plan.exposed_peers])
    confirmed = sum(_is_current(holder.holds, stored) for holder in held.values())
    total = stored.plan.exposed_peer_count
    return ReachPeers(total, confirmed, total - confirmed)


def _client(holder: Holder, stored: Stored) -> ReachClient:
    shown: Literal["current", "older", "unknown"] = "unknown"
    if holder.holds != NONE:
        shown = "current" if _is_current(holder.holds, stored) else "older"
    proof: Literal["conditional-get", "fetched"] = "fetched" if holder.holds == NONE else "conditional-get"
    return ReachClient(holder.client, holder.kind, shown, iso(holder.seen_at), proof)


def _is_current(version: int, stored: Stored) -> bool:
    return stored.listed_at is not None and version >= stored.listed_version


def _secs(stored: Stored, at: datetime | None) -> float:
    return 0.0 if at is None else max(0.0, (at - stored.act_at).total_seconds())
