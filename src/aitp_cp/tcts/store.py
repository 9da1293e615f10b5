"""Statements on issued_tcts, hidden_tcts, delegations, delegation_parents and revoked_reports."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from aitp_cp.db import Connection, Record
from aitp_cp.db.arrays import columns
from aitp_cp.db.sweep import OldRows
from aitp_cp.events.projection import StoredParties, Thing
from aitp_cp.protocol.verdicts import Verdict
from aitp_cp.tcts.callers import Row
from aitp_cp.tcts.model import DELEGATION, TCT, DelegationChange, Link, Revocation, TctChange
from aitp_cp.tcts.rows import Table, as_json, as_names

# A token is revoked since the earliest report of its first reporter; a report of kind `tct` reaches further than one of
# kind `delegation`, whoever sends it. `place` decides who is first in a batch. A repeated report delays the sweep.
REMEMBER_REVOCATIONS = """
WITH reported AS (
    SELECT new.*, CASE WHEN known.jti IS NULL
                       THEN first_value(caller) OVER (PARTITION BY new.jti ORDER BY place)
                       ELSE known.reported_by END AS owner,
           known.revoked_at AS known_since
    FROM unnest($1::uuid[], $2::text[], $3::timestamptz[], $4::text[])
         WITH ORDINALITY AS new (jti, kind, since, caller, place)
    LEFT JOIN revoked_reports AS known ON known.jti = new.jti
), summed AS (
    SELECT jti, owner, CASE WHEN bool_or(kind = 'tct') THEN 'tct' ELSE 'delegation' END AS kind,
           LEAST(min(since) FILTER (WHERE caller = owner), min(known_since)) AS since
    FROM reported GROUP BY jti, owner
)
INSERT INTO revoked_reports AS stored (jti, kind, revoked_at, reported_by, created_at)
SELECT jti, kind, since, owner, $5 FROM summed ORDER BY jti
ON CONFLICT (jti) DO UPDATE
SET kind = CASE WHEN 'tct' IN (stored.kind, excluded.kind) THEN 'tct' ELSE stored.kind END,
    revoked_at = excluded.revoked_at, created_at = GREATEST(stored.created_at, excluded.created_at)
WHERE excluded.revoked_at < stored.revoked_at OR (excluded.kind = 'tct' AND stored.kind <> 'tct')
   OR stored.created_at < excluded.created_at - interval '1 day'
RETURNING jti
"""

# Kept for each signer, so that nobody takes the place of the issuer, and before the token is known.
REMEMBER_SIGNED = """
INSERT INTO signed_revocations AS stored (jti, signer, kind, revoked_at, created_at)
SELECT jti, signer, kind, min(since), $5
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::timestamptz[]) AS new (jti, signer, kind, since)
GROUP BY jti, signer, kind ORDER BY jti, signer, kind
ON CONFLICT (jti, signer, kind) DO UPDATE
SET revoked_at = LEAST(stored.revoked_at, excluded.revoked_at),
    created_at = GREATEST(stored.created_at, excluded.created_at)
WHERE excluded.revoked_at < stored.revoked_at OR stored.created_at < excluded.created_at - interval '1 day'
RETURNING jti
"""

# A token that the row does not show, because others have reported the id, is its issuer's all the same.
ISSUED_BY_OTHERS = """
SELECT jti, signer FROM unnest($1::uuid[], $2::text[], $3::text[]) AS signed (jti, signer, kind)
WHERE (EXISTS (SELECT 1 FROM delegations AS known WHERE known.jti = signed.jti)
       OR (kind = 'tct' AND EXISTS (SELECT 1 FROM issued_tcts AS known WHERE known.jti = signed.jti)))
  AND NOT EXISTS (SELECT 1 FROM delegations AS own WHERE own.jti = signed.jti AND delegator_aid = signer)
  AND NOT (kind = 'tct' AND (
      EXISTS (SELECT 1 FROM issued_tcts AS own WHERE own.jti = signed.jti AND issuer_aid = signer)
      OR EXISTS (SELECT 1 FROM hidden_tcts AS own WHERE own.jti = signed.jti AND issuer_aid = signer)))
"""

# A trigger copies the hidden tokens for which a row has room.
KEEP_HIDDEN = """
SELECT keep_hidden_tcts(jti, nullif(shown, ''), callers::jsonb)
FROM unnest($1::uuid[], $2::text[], $3::text[]) AS left_out (jti, shown, callers)
"""

PARTIES = {
    TCT: "SELECT jti, issuer_aid, subject_aid, reported_by FROM issued_tcts WHERE jti = ANY($1::uuid[])",
    DELEGATION: "SELECT jti, delegator_aid, delegatee_aid, reported_by FROM delegations WHERE jti = ANY($1::uuid[])",
}

ADD_PARENTS = """
INSERT INTO delegation_parents (jti, parent_jti)
SELECT jti, parent_jti FROM unnest($1::uuid[], $2::uuid[]) AS new (jti, parent_jti)
ON CONFLICT DO NOTHING
"""

DROP_PARENTS = """
DELETE FROM delegation_parents USING unnest($1::uuid[], $2::uuid[]) AS gone (jti, parent_jti)
WHERE delegation_parents.jti = gone.jti AND delegation_parents.parent_jti = gone.parent_jti
"""

COUNT_CHILDREN = """
SELECT parent_jti, caller, children
FROM delegation_children JOIN unnest($1::uuid[], $2::text[]) AS link (parent_jti, caller) USING (parent_jti, caller)
"""

ADD_CHILDREN = """
INSERT INTO delegation_children AS stored (parent_jti, caller, children)
SELECT * FROM unnest($1::uuid[], $2::text[], $3::integer[])
ON CONFLICT (parent_jti, caller) DO UPDATE SET children = stored.children + excluded.children
"""

LOCK_TCTS = "SELECT FROM issued_tcts WHERE jti = ANY($1::uuid[]) ORDER BY jti FOR NO KEY UPDATE"

MARK_TCTS = """
UPDATE issued_tcts SET revoked = true, revoked_at = LEAST(issued_tcts.revoked_at, cause.revoked_at)
FROM (
    SELECT jti, min(revoked_at) AS revoked_at
    FROM (
        SELECT jti, revoked_at FROM revoked_reports WHERE jti = ANY($1::uuid[]) AND kind = 'tct'
        UNION ALL
        SELECT signed.jti, signed.revoked_at
        FROM signed_revocations AS signed
        JOIN issued_tcts AS own ON own.jti = signed.jti AND own.issuer_aid = signed.signer
        WHERE signed.jti = ANY($1::uuid[]) AND signed.kind = 'tct'
        UNION ALL
        SELECT jti, revoked_at FROM revocation_entries WHERE jti = ANY($1::uuid[])
    ) AS known
    GROUP BY jti
) AS cause
WHERE issued_tcts.jti = cause.jti
  AND (NOT revoked OR issued_tcts.revoked_at IS NULL OR cause.revoked_at < issued_tcts.revoked_at)
"""


OLD_REPORTS = OldRows("revoked_reports", "created_at")
# Rows are marked, but a token that its row does not show is revoked for as long as this says so.
OLD_SIGNED = OldRows(
    "signed_revocations",
    "created_at",
    "NOT EXISTS (SELECT 1 FROM hidden_tcts AS own WHERE own.jti = signed_revocations.jti AND issuer_aid = signer)",
)


async def drop_parents(conn: Connection, links: Sequence[tuple[UUID, UUID]]) -> None:
    """Forget parents of delegations, as (delegation, parent)."""
    if links:
        await conn.execute(DROP_PARENTS, [jti for jti, _ in links], [parent for _, parent in links])


async def add_parents(conn: Connection, rows: Mapping[UUID, Row[DelegationChange]]) -> None:
    """Store the parents beside the one in a delegation's row."""
    further = [(jti, parent) for jti, row in rows.items() for parent in sorted(row.shown.parents)[1:]]
    if further:
        await conn.execute(ADD_PARENTS, [jti for jti, _ in further], [parent for _, parent in further])


async def keep_hidden(conn: Connection, rows: Mapping[UUID, Row[TctChange]]) -> None:
    """Store the signed tokens for which their rows, just written, have no room."""
    full = [(row.shown, row.left_out) for row in rows.values() if row.left_out]
    if full:
        callers = [msgspec.json.encode(left).decode() for _, left in full]
        await conn.execute(KEEP_HIDDEN, [shown.jti for shown, _ in full], [shown.slot for shown, _ in full], callers)


async def count_children(conn: Connection, pairs: Sequence[Link]) -> dict[Link, int]:
    """Return how many delegations each caller has reported with each parent, by (parent, caller)."""
    rows = await conn.fetch(COUNT_CHILDREN, [parent for parent, _ in pairs], [caller for _, caller in pairs])
    return {(row["parent_jti"], row["caller"]): row["children"] for row in rows}


async def add_children(conn: Connection, counts: Mapping[Link, int]) -> None:
    if counts:
        links = list(counts)
        arrays = [parent for parent, _ in links], [caller for _, caller in links]
        await conn.execute(ADD_CHILDREN, *arrays, [counts[link] for link in links])


async def remember_revocations(conn: Connection, revocations: Sequence[Revocation], now: datetime) -> list[UUID]:
    """Store them, also for unreported tokens; return those that may be new, or be revoked earlier or further."""
    arrays = columns(revocations, "jti", "kind", "revoked_at", "caller")
    return [row["jti"] for row in await conn.fetch(REMEMBER_REVOCATIONS, *arrays, now)]


async def remember_signed(conn: Connection, signed: Sequence[Revocation], now: datetime) -> list[UUID]:
    """Store what agents revoke themselves, also for unreported tokens; return those that are new or earlier."""
    arrays = columns(signed, "jti", "signer", "kind", "revoked_at")
    return [row["jti"] for row in await conn.fetch(REMEMBER_SIGNED, *arrays, now)]


async def issued_by_others(conn: Connection, signed: Sequence[Revocation]) -> set[tuple[UUID, str]]:
    """Return which of these name something known that their signer has neither issued nor delegated."""
    rows = await conn.fetch(ISSUED_BY_OTHERS, *columns(signed, "jti", "signer", "kind"))
    return {(row["jti"], row["signer"]) for row in rows}


async def stored_parties(conn: Connection, things: Collection[Thing]) -> dict[Thing, StoredParties]:
    """Return issuer and subject, or delegator and delegatee, of those of the tokens and delegations that are known."""
    known: dict[Thing, StoredParties] = {}
    for kind, statement in PARTIES.items():
        jtis = [key for of, key in things if of == kind]
        for row in await conn.fetch(statement, jtis) if jtis else []:
            known[kind, row["jti"]] = StoredParties(frozenset((row[1], row[2])), row["reported_by"])
    return known


async def lock_tcts(conn: Connection, jtis: Sequence[UUID]) -> None:
    """Lock rows to the end of the transaction, in key order."""
    await conn.execute(LOCK_TCTS, jtis)


async def mark_tcts(conn: Connection, jtis: Sequence[UUID]) -> None:
    """Revoke those of `jtis` that a report or the deny list revokes."""
    await conn.execute(MARK_TCTS, jtis)


def _tct_values(change: TctChange) -> Sequence[Any]:
    return (
        change.jti,
        change.issuer,
        change.subject,
        change.audience,
        as_json(change.grants),
        change.binding_cnf,
        change.issued_at,
        change.expires_at,
        change.session_id,
        *_judged(change),
    )


def _tct_state(row: Record) -> TctChange:
    return TctChange(
        jti=row["jti"],
        issuer=row["issuer_aid"],
        subject=row["subject_aid"],
        audience=row["audience_aid"],
        grants=as_names(row["grants"]),
        binding_cnf=row["binding_cnf"],
        issued_at=row["issued_at"],
        expires_at=row["expires_at"],
        session_id=row["session_id"],
        verdict=Verdict(row["verdict"] or Verdict.NONE),
        mismatch=bool(row["mismatch"]),
    )


def _delegation_values(change: DelegationChange) -> Sequence[Any]:
    """Return the columns; of several parents the row shows the least."""
    scope = as_json(change.scope)
    times = change.issued_at, change.expires_at
    return change.jti, min(change.parents), *change.sides, scope, *times, *_judged(change), change.audience


def _judged(change: TctChange | DelegationChange) -> tuple[str | None, bool]:
    """Return verdict and mismatch; what nobody could verify has no verdict, like a row of another control plane."""
    return None if change.verdict is Verdict.NONE else change.verdict.value, change.mismatch


def _delegation_state(row: Record) -> DelegationChange:
    return DelegationChange(
        jti=row["jti"],
        parents=frozenset({row["parent_jti"], *row["further"]}),
        delegator=row["delegator_aid"],
        delegatee=row["delegatee_aid"],
        scope=as_names(row["scope"]),
        issued_at=row["issued_at"],
        expires_at=row["expires_at"],
        verdict=Verdict(row["verdict"] or Verdict.NONE),
        mismatch=bool(row["mismatch"]),
        audience=row["audience_aid"],
    )


TCTS = Table[UUID, TctChange](
    name="issued_tcts",
    columns={
        "jti": "uuid",
        "issuer_aid": "text",
        "subject_aid": "text",
        "audience_aid": "text",
        "grants": "jsonb",
        "binding_cnf": "text",
        "issued_at": "timestamptz",
        "expires_at": "timestamptz",
        "session_id": "text",
        "verdict": "text",
        "mismatch": "boolean",
    },
    values=_tct_values,
    state=_tct_state,
    decoder=msgspec.json.Decoder(Row[TctChange]),
)

DELEGATIONS = Table[UUID, DelegationChange](
    name="delegations",
    columns={
        "jti": "uuid",
        "parent_jti": "uuid",
        "delegator_aid": "text",
        "delegatee_aid": "text",
        "scope": "jsonb",
        "issued_at": "timestamptz",
        "expires_at": "timestamptz",
        "verdict": "text",
        "mismatch": "boolean",
        "audience_aid": "text",
    },
    values=_delegation_values,
    state=_delegation_state,
    decoder=msgspec.json.Decoder(Row[DelegationChange]),
    also_read="ARRAY(SELECT parent_jti FROM delegation_parents WHERE jti = delegations.jti) AS further",
)
