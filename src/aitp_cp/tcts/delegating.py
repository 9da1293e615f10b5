"""Writing reported delegations, with a bound on what one caller may hang below one parent."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

import msgspec

from aitp_cp.db import Connection
from aitp_cp.events.projection import Refusal
from aitp_cp.tcts import store
from aitp_cp.tcts.callers import Reported, Row, by_key
from aitp_cp.tcts.model import DelegationChange, Link
from aitp_cp.tcts.store import DELEGATIONS

# Delegations that one caller may report with the same parent: far more than agents make, and no load for a revocation.
MAX_CHILDREN = 10_000
TOO_MANY = ("parent_jti", f"has {MAX_CHILDREN} delegations of this caller already")

Reports = Sequence[Reported[DelegationChange]]


class Merged(msgspec.Struct, frozen=True):
    """What a merge could not take, and the delegations that a signed token has moved to another parent."""

    refusals: list[Refusal]
    moved: list[UUID]


async def merge_delegations(conn: Connection, reports: Reports, now: datetime) -> Merged:
    """Merge reports into the table. The caller holds the graph lock."""
    stored = await DELEGATIONS.lock(conn, sorted({report.state.jti for report in reports}))
    children = Counter(
        await store.count_children(conn, sorted({link for report in reports for link in _links(report)}))
    )
    accepted, refusals, added = _with_room(reports, stored, children)
    rows = await DELEGATIONS.merge(conn, by_key((report.state.jti, report) for report in accepted), now)
    # Only a signed token takes a parent away.
    dropped = [
        (jti, parent)
        for jti, before in stored.items()
        if jti in rows
        for parent in before.shown.parents - rows[jti].shown.parents
    ]
    await store.drop_parents(conn, dropped)
    await store.add_parents(conn, rows)
    await store.add_children(conn, added)
    return Merged(refusals, list({jti for jti, _ in dropped}))


def _with_room(
    reports: Reports, stored: Mapping[UUID, Row[DelegationChange]], children: Counter[Link]
) -> tuple[Reports, list[Refusal], Counter[Link]]:
    """Return the reports to merge, the refusals, and how many delegations each parent gains.

    Only the parents that a delegation's first caller names, or a signed token, count, for no others reach it.
    """
    accepted: list[Reported[DelegationChange]] = []
    refusals: list[Refusal] = []
    added: Counter[Link] = Counter()
    owners = {jti: row.owner for jti, row in stored.items()}
    parents = {jti: set(row.shown.parents) for jti, row in stored.items()}
    for report in reports:
        jti = report.state.jti
        owner, known = owners.get(jti, report.caller), parents.get(jti, set())
        counts = report.caller == owner or report.state.slot
        new = {link for link in _links(report) if counts and link[0] not in known}
        if any(children[link] + added[link] >= MAX_CHILDREN for link in new):
            refusals.append(Refusal(report.event_id, *TOO_MANY))
            continue
        accepted.append(report)
        added.update(new)
        owners[jti] = owner
        parents[jti] = known | {parent for parent, _ in new}
    return accepted, refusals, added


def _links(report: Reported[DelegationChange]) -> list[Link]:
    return [(parent, report.caller) for parent in report.state.parents]
