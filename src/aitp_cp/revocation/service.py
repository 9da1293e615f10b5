"""Revoking tokens, and reading what is revoked (contract, section 11)."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import msgspec

from aitp_cp.audit import service as audit
from aitp_cp.audit.model import Actor, Change
from aitp_cp.clock import iso, iso_or_none
from aitp_cp.db import Connection
from aitp_cp.db.keyset import Window
from aitp_cp.errors import BodyInvalid, Conflict
from aitp_cp.events import service as log
from aitp_cp.events.model import NewEvent
from aitp_cp.protocol.vocabulary import TCT_REVOKED
from aitp_cp.revocation import store
from aitp_cp.revocation.jti import read_jti, read_jtis
from aitp_cp.revocation.model import (
    BulkRevocation,
    NewRevocation,
    Outcome,
    Request,
    Revocation,
    RevocationPage,
    RevocationView,
)
from aitp_cp.tcts import queries
from aitp_cp.tcts import service as tcts
from aitp_cp_client.wire import aid as aids
from aitp_cp_client.wire import moments

# A clock may be ahead; a revocation of the far future would never take effect, and the first one stands.
CLOCK_AHEAD = timedelta(minutes=5)


def read(body: NewRevocation, actor: Actor, now: datetime) -> Request:
    """Return the entries that a client sends.

    Raises `JtiInvalid`, and `BodyInvalid` for a list that is not one, or a time outside 1970 to five minutes from now.
    """
    if body.jtis is not None and body.jti is not None:
        raise BodyInvalid("give either jti or jtis, not both")
    jtis = [read_jti(body.jti)] if body.jtis is None else read_jtis(body.jtis)
    stated = body.as_listed if body.revoked_at is None else body.revoked_at
    revoked_at = now if stated is None else moments.read(stated)
    if revoked_at is None:
        raise BodyInvalid("revokedAt is not a time in the years 1970 to 9999")
    if revoked_at > now + CLOCK_AHEAD:
        raise BodyInvalid("revokedAt is more than five minutes ahead")
    return Request([Revocation(jti, revoked_at, body.reason) for jti in jtis], actor, bulk=body.jtis is not None)


async def revoke(conn: Connection, requests: Sequence[Request], now: datetime) -> list[Outcome]:
    """Entries, cascade, an audit row per request and an event per new entry, in the caller's transaction.

    A token that is revoked already changes nothing: the stored entry comes back, whatever the request says. Of requests
    for the same token the first one counts. A constant number of statements. Raises `Conflict`.
    """
    first: dict[UUID, Revocation] = {}
    for request in requests:
        for entry in request.entries:
            first.setdefault(entry.jti, entry)
    inserted = await store.insert_missing(conn, first.values(), now)
    known = {jti: first[jti] for jti in inserted}
    if missing := [jti for jti in first if jti not in inserted]:
        known |= await store.find(conn, missing)
    if len(known) < len(first):  # removed by hand between the two statements: the client may try again
        raise Conflict(headers={"Retry-After": "1"})
    new = [[entry for entry in request.entries if known[entry.jti] is entry] for request in requests]
    seqs = await _take_effect(conn, requests, new, now) if inserted else {}
    return [
        Outcome([known[entry.jti] for entry in request.entries], len(mine), seqs[mine[-1].jti] if mine else None)
        for request, mine in zip(requests, new, strict=True)
    ]


async def _take_effect(
    conn: Connection, requests: Sequence[Request], new: Sequence[Sequence[Revocation]], now: datetime
) -> dict[UUID, int]:
    """Return the positions of the events in the log."""
    entries = [entry for mine in new for entry in mine]
    await tcts.revoke(conn, {entry.jti: entry.revoked_at for entry in entries}, len(requests))
    changes = [_change(request, mine) for request, mine in zip(requests, new, strict=True) if mine]
    await audit.record_all(conn, "revocation.add", changes, now)
    parties = await queries.parties(conn, [entry.jti for entry in entries])
    events = {entry.jti: _event(entry, parties.get(entry.jti), now) for entry in entries}
    positions = await log.append(conn, list(events.values()), now)
    return {jti: positions[event.id] for jti, event in events.items()}


async def add(conn: Connection, parties: Mapping[UUID, tuple[str, str]], reason: str, now: datetime) -> list[NewEvent]:
    """Put tokens, given with their parties, on the deny list; return the events of new entries, to be appended last.

    The caller lets them take effect (`tcts.revoke`), or has done so.
    """
    entries = {jti: Revocation(jti, now, reason) for jti in parties}
    inserted = await store.insert_missing(conn, entries.values(), now) if entries else set()
    return [_event(entry, parties[jti], now) for jti, entry in entries.items() if jti in inserted]


async def page(conn: Connection, jti: UUID | None, window: Window) -> RevocationPage:
    """Newest first; `count` is the number of entries on this page."""
    entries, next_before = await store.page(conn, jti, window)
    return RevocationPage([shown(entry) for entry in entries], len(entries), next_before)


def shown(entry: Revocation) -> RevocationView:
    listed = entry.jti.version == 4 and entry.unlisted_at is None
    return RevocationView(
        entry.jti, iso(entry.revoked_at), entry.reason, listed, iso_or_none(entry.unlisted_at) or msgspec.UNSET
    )


def view_of(outcome: Outcome, *, bulk: bool) -> RevocationView | BulkRevocation:
    """Return the body of the response."""
    entries = [shown(entry) for entry in outcome.entries]
    return BulkRevocation(entries, outcome.new, len(entries) - outcome.new) if bulk else entries[0]


def _change(request: Request, new: Sequence[Revocation]) -> Change:
    details: dict[str, Any] = {"reason": new[0].reason, "revokedAt": iso(new[0].revoked_at)}
    if not request.bulk:
        return Change(request.actor, str(new[0].jti), details)
    details |= {"count": len(new), "alreadyRevoked": len(request.entries) - len(new)}
    details["jtis"] = [str(entry.jti) for entry in new]
    return Change(request.actor, f"{len(new)} tokens", details)


def _event(entry: Revocation, parties: tuple[str, str] | None, now: datetime) -> NewEvent:
    """Parties come from reports that nobody has verified, so only what can be an agent is named."""
    issuer, subject = (aids.recognise(party) for party in parties or (None, None))
    payload = {"jti": str(entry.jti), "revokedAt": iso(entry.revoked_at), "reason": entry.reason}
    text = msgspec.json.encode(payload).decode()
    return NewEvent(id=uuid4(), type=TCT_REVOKED, ts=now, aid_a=issuer, aid_b=subject, payload=text)
