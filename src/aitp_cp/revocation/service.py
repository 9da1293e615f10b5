"""Revoking tokens, and reading what is revoked (contract, section 11)."""

from datetime import datetime
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
from aitp_cp.protocol import moments
from aitp_cp.revocation import store
from aitp_cp.revocation.jti import read_jti
from aitp_cp.revocation.model import NewRevocation, Outcome, Revocation, RevocationPage, RevocationView
from aitp_cp.tcts import service as tcts

TCT_REVOKED = "tct.revoked"


def requested(asked: NewRevocation, now: datetime) -> Revocation:
    """The entry a client asks for; raises `JtiInvalid`, or `BodyInvalid` for a time outside 1970 to 9999."""
    jti = read_jti(asked.jti)
    given = asked.as_listed if asked.revoked_at is None else asked.revoked_at
    revoked_at = now if given is None else moments.read(given)
    if revoked_at is None:
        raise BodyInvalid("revokedAt is not a time in the years 1970 to 9999")
    return Revocation(jti, revoked_at, asked.reason)


async def revoke(conn: Connection, entry: Revocation, actor: Actor, now: datetime) -> Outcome:
    """Entry, cascade, audit row, event and deliveries in the caller's transaction; the first revocation stands.

    A token that is revoked already changes nothing: the stored entry comes back, whatever the caller asked for.
    """
    if not await store.insert_missing(conn, entry, now):
        stored = await store.find(conn, entry.jti)
        if stored is None:  # removed by hand between the two statements: the client may try again
            raise Conflict(headers={"Retry-After": "1"})
        return Outcome(stored, None)
    await tcts.revoke(conn, {entry.jti: entry.revoked_at})
    details = {"reason": entry.reason, "revokedAt": iso(entry.revoked_at)}
    await audit.record(conn, "revocation.add", actor, str(entry.jti), details, now)
    parties = await store.find_parties(conn, entry.jti)
    events = await log.append(conn, [_event(entry, parties, now)], now)
    return Outcome(entry, events[0].seq)


async def page(conn: Connection, jti: UUID | None, window: Window) -> RevocationPage:
    """Newest first; `count` is the number of entries on this page."""
    entries, next_before = await store.page(conn, jti, window)
    return RevocationPage([shown(entry) for entry in entries], len(entries), next_before)


def shown(entry: Revocation) -> RevocationView:
    return RevocationView(entry.jti, iso(entry.revoked_at), entry.reason)


def _event(entry: Revocation, parties: tuple[str, str] | None, now: datetime) -> NewEvent:
    issuer, subject = parties or (None, None)
    payload = msgspec.json.encode(shown(entry)).decode()
    return NewEvent(id=uuid4(), type=TCT_REVOKED, ts=now, aid_a=issuer, aid_b=subject, payload=payload)
