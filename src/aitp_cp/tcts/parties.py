"""Whose the tokens and delegations are that an agent reports or revokes with its own signature."""

from collections.abc import Iterator, Sequence
from datetime import datetime

from aitp_cp.db import Connection
from aitp_cp.events.projection import Claim, Refusal
from aitp_cp.protocol.reports import Report
from aitp_cp.protocol.verdicts import Verdict
from aitp_cp.tcts import store
from aitp_cp.tcts.model import Revocation
from aitp_cp.tcts.projection import delegated, issued
from aitp_cp.tcts.store import DELEGATION, TOKEN

NOT_A_PARTY = ("aid_a", "not a party")


def claims(report: Report, now: datetime) -> Iterator[Claim]:
    """Yield the tokens and delegations that a report would change, but for what it revokes."""
    for token in issued(report, now):
        parties = frozenset((token.issuer, token.subject))
        yield Claim((TOKEN, token.jti), parties, proven=token.verdict is Verdict.VERIFIED)
    for delegation in delegated(report, now):
        proven = delegation.verdict is Verdict.VERIFIED
        yield Claim((DELEGATION, delegation.jti), frozenset(delegation.sides), proven)


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
