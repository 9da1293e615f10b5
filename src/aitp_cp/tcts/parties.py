"""Whose tokens and delegations are, for reports that an agent signs; and revocations that such an agent reports."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime
from uuid import UUID

from aitp_cp.db import Connection
from aitp_cp.events.projection import Claim, Refusal, StoredParties, Thing
from aitp_cp.protocol.reports import Report
from aitp_cp.protocol.verdicts import Verdict
from aitp_cp.tcts import store
from aitp_cp.tcts.model import Revocation
from aitp_cp.tcts.projection import delegated, issued

TOKEN, DELEGATION = "tct", "delegation"
NOT_A_PARTY = ("aid_a", "not a party")


def claims(report: Report, now: datetime) -> Iterator[Claim]:
    """Yield the tokens and delegations that a report would change, but for what it revokes."""
    for token in issued(report, now):
        parties = frozenset((token.issuer, token.subject))
        yield Claim((TOKEN, token.jti), parties, proven=token.verdict is Verdict.VERIFIED)
    for delegation in delegated(report, now):
        proven = delegation.verdict is Verdict.VERIFIED
        yield Claim((DELEGATION, delegation.jti), frozenset(delegation.sides), proven)


async def stored_parties(conn: Connection, things: Collection[Thing]) -> Mapping[Thing, StoredParties]:
    """Return the parties of those of the tokens and delegations that are known."""
    jtis = {kind: [key for of, key in things if of == kind and isinstance(key, UUID)] for kind in (TOKEN, DELEGATION)}
    tcts, delegations = await store.parties(conn, jtis[TOKEN], jtis[DELEGATION])
    return {
        **{(TOKEN, jti): parties for jti, parties in tcts.items()},
        **{(DELEGATION, jti): parties for jti, parties in delegations.items()},
    }


async def refuse_revocations(conn: Connection, signed: Sequence[Revocation]) -> list[Refusal]:
    """Refuse what signers revoke and others have issued."""
    if not signed:
        return []
    foreign = await store.issued_by_others(conn, signed)
    return [
        Refusal(revocation.event_id, *NOT_A_PARTY)
        for revocation in signed
        if revocation.event_id is not None and (revocation.jti, revocation.signer) in foreign
    ]
