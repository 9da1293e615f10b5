"""Statements on issued_tcts, delegations, delegation_parents and revoked_reports."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import msgspec

from aitp_cp.db import Connection
from aitp_cp.db.locks import lock_key
from aitp_cp.tcts.merging import least_sql, least_text_sql, on_conflict, union_sql
from aitp_cp.tcts.model import DelegationChange, Revocation, TctChange

GRAPH_LOCK_KEY = lock_key("revocation graph")

LOCK_GRAPH = "SELECT pg_advisory_xact_lock($1)"
SHARE_GRAPH = "SELECT pg_advisory_xact_lock_shared($1)"

# A report's parties are taken together. One that names an audience goes before one whose audience is only assumed.
_NEW_PARTIES_FIRST = """
(excluded.audience_aid = excluded.subject_aid, excluded.issuer_aid COLLATE "C", excluded.subject_aid COLLATE "C",
 excluded.audience_aid COLLATE "C")
< (stored.audience_aid = stored.subject_aid, stored.issuer_aid COLLATE "C", stored.subject_aid COLLATE "C",
   stored.audience_aid COLLATE "C")
"""

MERGE_TCTS = f"""
INSERT INTO issued_tcts AS stored
    (jti, issuer_aid, subject_aid, audience_aid, grants, binding_cnf, issued_at, expires_at, session_id, created_at)
SELECT jti, issuer, subject, audience, grants::jsonb, binding_cnf, issued_at, expires_at, session_id, $10
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::timestamptz[],
            $8::timestamptz[], $9::text[])
     AS new (jti, issuer, subject, audience, grants, binding_cnf, issued_at, expires_at, session_id)
{
    on_conflict(
        "jti",
        {
            **{
                column: f"CASE WHEN {_NEW_PARTIES_FIRST} THEN excluded.{column} ELSE stored.{column} END"
                for column in ("issuer_aid", "subject_aid", "audience_aid")
            },
            "grants": union_sql("grants"),
            "binding_cnf": least_text_sql("binding_cnf"),
            "issued_at": least_sql("issued_at"),
            "expires_at": least_sql("expires_at"),
            "session_id": least_text_sql("session_id"),
        },
    )
}
"""

_NEW_SIDES_FIRST = """
(excluded.delegator_aid COLLATE "C", excluded.delegatee_aid COLLATE "C")
< (stored.delegator_aid COLLATE "C", stored.delegatee_aid COLLATE "C")
"""

# Of conflicting parents the least is the one shown; the others are kept, because a revocation must reach the
# delegation through any of them.
MERGE_DELEGATIONS = f"""
WITH new AS MATERIALIZED (
    SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::timestamptz[],
                         $7::timestamptz[])
        AS reported (jti, parent_jti, delegator, delegatee, scope, issued_at, expires_at)
), further_parents AS (
    INSERT INTO delegation_parents (jti, parent_jti)
    SELECT jti, parent_jti FROM unnest($8::uuid[], $9::uuid[]) AS further (jti, parent_jti)
    UNION
    SELECT new.jti, GREATEST(new.parent_jti, known.parent_jti)
    FROM new JOIN delegations AS known ON known.jti = new.jti AND known.parent_jti <> new.parent_jti
    ON CONFLICT DO NOTHING
)
INSERT INTO delegations AS stored
    (jti, parent_jti, delegator_aid, delegatee_aid, scope, issued_at, expires_at, created_at)
SELECT jti, parent_jti, delegator, delegatee, scope::jsonb, issued_at, expires_at, $10 FROM new
{
    on_conflict(
        "jti",
        {
            "parent_jti": least_sql("parent_jti"),
            **{
                column: f"CASE WHEN {_NEW_SIDES_FIRST} THEN excluded.{column} ELSE stored.{column} END"
                for column in ("delegator_aid", "delegatee_aid")
            },
            "scope": union_sql("scope"),
            "issued_at": least_sql("issued_at"),
            "expires_at": least_sql("expires_at"),
        },
    )
}
"""

REMEMBER_REVOCATIONS = f"""
INSERT INTO revoked_reports AS stored (jti, kind, revoked_at, created_at)
SELECT jti, kind, revoked_at, $4
FROM unnest($1::uuid[], $2::text[], $3::timestamptz[]) AS new (jti, kind, revoked_at)
{
    on_conflict(
        "jti",
        {
            "kind": "CASE WHEN 'tct' IN (stored.kind, excluded.kind) THEN 'tct' ELSE stored.kind END",
            "revoked_at": least_sql("revoked_at"),
        },
    )
}
RETURNING jti
"""

MARK_TCTS = """
UPDATE issued_tcts SET revoked = true, revoked_at = LEAST(issued_tcts.revoked_at, cause.revoked_at)
FROM (
    SELECT jti, min(revoked_at) AS revoked_at
    FROM (
        SELECT jti, revoked_at FROM revoked_reports WHERE jti = ANY($1::uuid[]) AND kind = 'tct'
        UNION ALL
        SELECT jti, revoked_at FROM revocation_entries WHERE jti = ANY($1::uuid[])
    ) AS known
    GROUP BY jti
) AS cause
WHERE issued_tcts.jti = cause.jti
  AND (NOT revoked OR issued_tcts.revoked_at IS NULL OR cause.revoked_at < issued_tcts.revoked_at)
"""


async def lock_graph(conn: Connection, *, exclusive: bool) -> None:
    """Wait for the graph of tokens to stand still, before any row is locked and to the end of the transaction.

    Exclusive for whoever writes delegations or revokes: of two transactions of which one adds a child while the other
    revokes the parent, the second must see what the first did. Tokens alone share it among themselves.
    """
    await conn.execute(LOCK_GRAPH if exclusive else SHARE_GRAPH, GRAPH_LOCK_KEY)


async def merge_tcts(conn: Connection, changes: Sequence[TctChange], now: datetime) -> None:
    await conn.execute(
        MERGE_TCTS,
        [change.jti for change in changes],
        [change.issuer for change in changes],
        [change.subject for change in changes],
        [change.audience for change in changes],
        [_text(change.grants) for change in changes],
        [change.binding_cnf for change in changes],
        [change.issued_at for change in changes],
        [change.expires_at for change in changes],
        [change.session_id for change in changes],
        now,
    )


async def merge_delegations(conn: Connection, changes: Sequence[DelegationChange], now: datetime) -> None:
    further = [(change.jti, parent) for change in changes for parent in sorted(change.parents)[1:]]
    await conn.execute(
        MERGE_DELEGATIONS,
        [change.jti for change in changes],
        [min(change.parents) for change in changes],
        [change.delegator for change in changes],
        [change.delegatee for change in changes],
        [_text(change.scope) for change in changes],
        [change.issued_at for change in changes],
        [change.expires_at for change in changes],
        [jti for jti, _ in further],
        [parent for _, parent in further],
        now,
    )


async def remember_revocations(conn: Connection, revocations: Sequence[Revocation], now: datetime) -> list[UUID]:
    """Also of tokens that nobody has reported yet; returns those that are new, or are revoked earlier or further."""
    rows = await conn.fetch(
        REMEMBER_REVOCATIONS,
        [revocation.jti for revocation in revocations],
        [revocation.kind for revocation in revocations],
        [revocation.revoked_at for revocation in revocations],
        now,
    )
    return [row["jti"] for row in rows]


async def mark_tcts(conn: Connection, jtis: Sequence[UUID]) -> None:
    """Revoke those of `jtis` that a report or the deny list names."""
    await conn.execute(MARK_TCTS, jtis)


def _text(names: list[str]) -> str:
    return msgspec.json.encode(names).decode()
