"""An agent that reports for itself changes only what it is a party of (contract, section 20)."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from uuid import UUID

from aitp_cp.db import Connection
from aitp_cp.events.projection import NOT_A_PARTY, Claim, Projection, Refusal, StoredParties, Thing
from aitp_cp.protocol.reports import Report


class Parties:
    """The parties of what a group of reports would change, as the reports before each of them leave it."""

    def __init__(self, projections: Sequence[Projection], reports: Sequence[Report], now: datetime) -> None:
        self._projections = projections
        self._claims: dict[UUID, list[Claim]] = {}
        if any(report.signer is not None for report in reports):
            self._claims = {report.id: self._claims_of(report, now) for report in reports}
        self._new: set[Thing] = set()

    async def refuse(self, conn: Connection, reports: Sequence[Report]) -> list[Refusal]:
        """Return the reports whose signer is no party of something that they would change.

        What is not known belongs to whom its first report names. A token that its issuer has signed says whose it is,
        whatever was reported before.
        """
        if not self._claims:
            return []
        stored = await self._stored(conn, {claim.thing for claims in self._claims.values() for claim in claims})
        known = {thing: row.parties for thing, row in stored.items()}
        refusals = []
        for report in reports:
            claims = self._claims[report.id]
            if not _may_change(report, claims, known):
                refusals.append(Refusal(report.id, *NOT_A_PARTY))
                continue
            for claim in claims:
                known.setdefault(claim.thing, claim.parties)
        self._new = known.keys() - stored.keys()
        return refusals

    async def overtaken(self, conn: Connection, reports: Sequence[Report]) -> bool:
        """Return whether another transaction has stored first what seemed to be new; call it after the projections."""
        if not self._new:
            return False
        callers = {report.caller for report in reports}
        stored = await self._stored(conn, self._new)
        return any(row.reported_by not in callers for row in stored.values())

    def _claims_of(self, report: Report, now: datetime) -> list[Claim]:
        return [
            claim
            for projection in self._projections
            if report.type in projection.types
            for claim in projection.claims(report, now)
        ]

    async def _stored(self, conn: Connection, things: Collection[Thing]) -> Mapping[Thing, StoredParties]:
        stored: dict[Thing, StoredParties] = {}
        for projection in self._projections:
            stored.update(await projection.stored(conn, things))
        return stored


def _may_change(report: Report, claims: Sequence[Claim], known: Mapping[Thing, frozenset[str]]) -> bool:
    signer = report.signer
    if signer is None:
        return True
    if not claims:
        return signer in (report.aid_a, report.aid_b)
    return all(
        signer in claim.parties if claim.proven else signer in (known.get(claim.thing) or claim.parties)
        for claim in claims
    )
