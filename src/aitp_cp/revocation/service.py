"""Revoking tokens, and reading what is revoked (contract, section 11)."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import msgspec

from aitp_cp.audit import service as audit
from aitp_cp.audit.model import Actor
from aitp_cp.clock import iso
from aitp_cp.db import Connection
from aitp_cp.db.keyset import Window
from aitp_cp.errors import BodyInvalid, Conflict
from aitp_cp.events import service as log
from aitp_cp.events.model import NewEvent
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
from aitp_cp.tcts import service as tcts
from aitp_cp_client.wire import aid as aids
from aitp_cp_client.wire import moments

TCT_REVOKED = "tct.revoked"

# A clock may be ahead; a revocation of the far future would never take effect, and the first one stands.
CLOCK_AHEAD = timedelta(minutes=5)


def requested(asked: NewRevocation, now: datetime) -> Request:
    """The entries a client asks for.

    Raises `JtiInvalid`, and `BodyInvalid` for a list that is not one, or a time outside 1970 to five minutes from now.
    """
    if asked.jtis is not None and asked.jti is not None:
        raise BodyInvalid("give either jti or jtis, not both")
    jtis = [read_jti(asked.jti)] if asked.jtis is None else read_jtis(asked.jtis)
    given = asked.as_listed if asked.revoked_at is None else asked.revoked_at
    revoked_at = now if given is None else moments.read(given)
    if revoked_at is None:
        raise BodyInvalid("revokedAt is not a time in the years 1970 to 9999")
    if revoked_at > now + CLOCK_AHEAD:
        raise BodyInvalid("revokedAt is more than five minutes ahead")
    entries = [Revocation(jti, revoked_at, asked.reason) for jti in jtis]
    return Request(entries, bulk=asked.jtis is not None)


async def revoke(conn: Connection, asked: Request, actor: Actor, now: datetime) -> Outcome:
    """Entries, cascade, one audit row and an event per new entry in the caller's transaction.

    A token that is revoked already changes nothing: the stored entry comes back, whatever the caller asked for. A
    constant number of statements, whatever the number of entries.
    """
    inserted = await store.insert_missing(conn, asked.entries, now)
    new = [entry for entry in asked.entries if entry.jti in inserted]
    stored = await _stored(conn, asked.entries, new)
    if not new:
        return Outcome(stored, 0, None)
    await tcts.revoke(conn, {entry.jti: entry.revoked_at for entry in new})
    await _audit(conn, asked, new, actor, now)
    parties = await store.find_parties(conn, [entry.jti for entry in new])
    events = await log.append(conn, [_event(entry, parties.get(entry.jti), now) for entry in new], now)
    return Outcome(stored, len(new), events[-1].seq)


async def page(conn: Connection, jti: UUID | None, window: Window) -> RevocationPage:
    """Newest first; `count` is the number of entries on this page."""
    entries, next_before = await store.page(conn, jti, window)
    return RevocationPage([shown(entry) for entry in entries], len(entries), next_before)


def shown(entry: Revocation) -> RevocationView:
    return RevocationView(entry.jti, iso(entry.revoked_at), entry.reason, entry.jti.version == 4)


def answer(outcome: Outcome, *, bulk: bool) -> RevocationView | BulkRevocation:
    """What the client is told."""
    entries = [shown(entry) for entry in outcome.entries]
    return BulkRevocation(entries, outcome.new, len(entries) - outcome.new) if bulk else entries[0]


async def _stored(conn: Connection, asked: Sequence[Revocation], new: Sequence[Revocation]) -> list[Revocation]:
    known = {entry.jti: entry for entry in new}
    if missing := [entry.jti for entry in asked if entry.jti not in known]:
        known |= await store.find(conn, missing)
    if len(known) < len(asked):  # removed by hand between the two statements: the client may try again
        raise Conflict(headers={"Retry-After": "1"})
    return [known[entry.jti] for entry in asked]


async def _audit(conn: Connection, asked: Request, new: Sequence[Revocation], actor: Actor, now: datetime) -> None:
    details: dict[str, Any] = {"reason": new[0].reason, "revokedAt": iso(new[0].revoked_at)}
    target = str(new[0].jti)
    if asked.bulk:
        target = f"{len(new)} tokens"
        details |= {"count": len(new), "alreadyRevoked": len(asked.entries) - len(new)}
        details["jtis"] = [str(entry.jti) for entry in new]
    await audit.record(conn, "revocation.add", actor, target, details, now)


def _event(entry: Revocation, parties: tuple[str, str] | None, now: datetime) -> NewEvent:
    """Parties come from reports that nobody has verified, so only what can be an agent is named."""
    issuer, subject = (aids.recognise(party) for party in parties or (None, None))
    payload = {"jti": str(entry.jti), "revokedAt": iso(entry.revoked_at), "reason": entry.reason}
    text = msgspec.json.encode(payload).decode()
    return NewEvent(id=uuid4(), type=TCT_REVOKED, ts=now, aid_a=issuer, aid_b=subject, payload=text)
