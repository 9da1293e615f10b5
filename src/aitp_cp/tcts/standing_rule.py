"""The standing rule: what a report adds to a contained agent is revoked in the same transaction (contract, section 21).

Reports share the locks of the agents whose tokens they write, a containment holds its agent's lock alone. So of a
report and a containment that race, the second one sees what the first did.
"""

from collections.abc import Collection, Mapping
from datetime import datetime
from uuid import UUID

from aitp_cp.db import Connection
from aitp_cp.db.arrays import columns
from aitp_cp.events.projection import Caught
from aitp_cp.protocol.verdicts import Verdict
from aitp_cp.tcts import graph, store, unlisting
from aitp_cp.tcts.exposure import CLOCK_SLACK, IS_SIGNED_BY_OTHERS, VERIFIED
from aitp_cp.tcts.model import Changes, Item, Revocation

# The caller of revocations that follow from a containment, as `revoked_reports` names it.
BY_CONTAINMENT = "cp:containment"

# The tokens are marked as they were; then those are returned that live although their issuer or holder is contained. A
# row may show what somebody else claimed of the id, so the signed parties that came with the report count as well. An
# id under which others have signed a token is theirs, too, and is left alone. Without a containment come the entries
# that had left the signed list.
MARK_REPORTED = f"""
WITH marked AS ({store.MARK_TCTS} RETURNING 1), named AS (
    SELECT jti, issuer_aid, subject_aid, {VERIFIED} AS verified FROM issued_tcts WHERE jti = ANY($1::uuid[])
    UNION ALL
    SELECT jti, issuer_aid, subject_aid, true
    FROM unnest($3::uuid[], $4::text[], $5::text[]) AS signed (jti, issuer_aid, subject_aid)
)
SELECT jti, containment.id AS containment, named.verified, coalesce(expires_at, 'infinity') > $2 AS live,
       named.issuer_aid AS first, named.subject_aid AS second
FROM named JOIN containments AS containment ON containment.aid = ANY(ARRAY[named.issuer_aid, named.subject_aid])
JOIN issued_tcts USING (jti)
WHERE released_at IS NULL
  AND (NOT revoked OR (named.verified AND NOT EXISTS (
      SELECT 1 FROM revocation_entries WHERE revocation_entries.jti = issued_tcts.jti)))
  AND NOT {IS_SIGNED_BY_OTHERS.format(table="issued_tcts", agent="containment.aid")}
UNION ALL
SELECT jti, NULL, false, false, NULL, NULL FROM revocation_entries
WHERE jti = ANY($1::uuid[] || $6::uuid[]) AND unlisted_at IS NOT NULL
ORDER BY jti, verified
"""

CONTAINED_DELEGATIONS = f"""
SELECT jti, containment.id AS containment, {VERIFIED} AS verified, coalesce(expires_at, 'infinity') > $2 AS live,
       delegator_aid AS first, delegatee_aid AS second
FROM delegations JOIN containments AS containment ON containment.aid = ANY(ARRAY[delegator_aid, delegatee_aid])
WHERE jti = ANY($1::uuid[]) AND NOT revoked AND released_at IS NULL
ORDER BY jti
"""


def parties(changes: Changes) -> set[str]:
    """Return everybody whose containment would concern these changes."""
    tokens = {party for reports in changes.tcts.values() for report in reports for party in report.state.parties[:2]}
    return tokens | {side for report in changes.delegations for side in report.state.sides}


async def mark(conn: Connection, changes: Changes, revoked: Collection[UUID], now: datetime) -> list[Caught]:
    """Revoke the tokens that a report or the deny list revokes, and what belongs to a contained agent; return that.

    What is delegated from it is settled by the job, for a report of tokens only shares the graph lock.
    """
    since = now - CLOCK_SLACK
    tokens = sorted({*changes.tcts, *revoked})
    delegations = sorted({report.state.jti for report in changes.delegations})
    states = [report.state for reports in changes.tcts.values() for report in reports]
    signed = [state for state in states if state.verdict is Verdict.VERIFIED]
    rows = await conn.fetch(MARK_REPORTED, tokens, since, *columns(signed, "jti", "issuer", "subject"), delegations)
    if unlisted := [row["jti"] for row in rows if row["containment"] is None]:
        await unlisting.relist(conn, unlisted)
    rows = [row for row in rows if row["containment"] is not None]
    rows += await conn.fetch(CONTAINED_DELEGATIONS, delegations, since) if delegations else []
    if not rows:
        return []
    caught: Mapping[UUID, Caught] = {
        row["jti"]: Caught(row["jti"], row["containment"], row["verified"], row["live"], (row["first"], row["second"]))
        for row in rows
    }
    named = [Revocation(jti, "tct", now, BY_CONTAINMENT) for jti in sorted(caught)]
    await store.remember_revocations(conn, named, now)
    await store.mark_tcts(conn, jtis := sorted(caught))
    await graph.mark_touched(conn, jtis)
    await graph.add_work(conn, [Item(jti, now, urgent=True) for jti in jtis])
    return list(caught.values())
