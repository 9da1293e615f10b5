"""What hangs on one agent: its live tokens and delegations, and what is delegated below them (contract, section 21)."""

from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID

import msgspec

from aitp_cp.db import Connection

HeldDelegations = Literal["mark", "revokeSource"]
Include = Literal["verified", "all"]

CLOCK_SLACK = timedelta(minutes=5)  # an expired token still counts as live for this long: clocks differ
MAX_PEERS = 1000  # peers, and collateral entries, that a response names
MAX_BELOW = 10_000  # delegations that are counted below an agent's tokens
MAX_DEPTH = 32

# What a row of issued_tcts or delegations is worth (contract, section 19).
VERDICT = "coalesce(verdict, 'none')"
VERIFIED = "verdict IS NOT DISTINCT FROM 'verified'"

# Whether somebody signed a token with the id of a row that is not the agent's.
IS_SIGNED_BY_OTHERS = """(
    ({table}.verdict IS NOT DISTINCT FROM 'verified' AND {agent} NOT IN ({table}.issuer_aid, {table}.subject_aid))
    OR EXISTS (SELECT 1 FROM hidden_tcts AS hidden
               WHERE hidden.jti = {table}.jti AND {agent} NOT IN (hidden.issuer_aid, hidden.subject_aid)))"""

# A revocation that was only reported counts for nothing here: otherwise an agent could keep a token off the list by
# reporting that it is revoked.
_UNLISTED = "NOT EXISTS (SELECT 1 FROM revocation_entries WHERE revocation_entries.jti = {table}.jti)"
_LIVE = f"coalesce(expires_at, 'infinity') > $2 AND {_UNLISTED.format(table='issued_tcts')}"
_LIVE_DELEGATION = f"""coalesce(expires_at, 'infinity') > $2 AND (NOT revoked OR revoked_reason = 'explicit')
    AND {_UNLISTED.format(table="delegations")}"""

# No EXISTS: the planner could answer that for many rows by reading the whole table.
_IS_OF_OTHERS = f"""coalesce((SELECT {VERIFIED} AND $1 NOT IN (issuer_aid, subject_aid)
               FROM issued_tcts WHERE issued_tcts.jti = delegations.jti), false)"""

# The agent's tokens that their rows do not show.
_OWN = f"""
    SELECT jti, issuer_aid, subject_aid, issued_at FROM hidden_tcts
    WHERE {{side}} = $1 AND coalesce(expires_at, 'infinity') > $2 AND {_UNLISTED.format(table="hidden_tcts")}
"""

# $1 the agent, $2 the time from which tokens are live, $3 `verified` or `all`, $4 `mark` or `revokeSource`.
# `verified` is about the agent's own tokens, `foreign_too` about a token of others under the same id. Such an id is
# collateral, unless the agent has a verified token under it as well: a signature of an accomplice saves no token.
ITEMS = f"""
known AS MATERIALIZED (
    SELECT jti, issuer_aid, subject_aid, issued_at, {VERDICT} AS verdict, {VERIFIED} AS verified, conflict
    FROM issued_tcts
    WHERE issuer_aid = $1 AND {_LIVE}
    UNION ALL
    SELECT jti, issuer_aid, subject_aid, issued_at, {VERDICT}, {VERIFIED}, conflict
    FROM issued_tcts
    WHERE subject_aid = $1 AND issuer_aid <> $1 AND {_LIVE}
), own AS MATERIALIZED (
    {_OWN.format(side="issuer_aid")}
    UNION ALL
    {_OWN.format(side="subject_aid")}
), judged AS MATERIALIZED (
    SELECT jti, issuer_aid, subject_aid, issued_at, verdict,
           verified OR coalesce(conflict AND EXISTS (
               SELECT 1 FROM hidden_tcts AS hidden
               WHERE hidden.jti = known.jti AND $1 IN (hidden.issuer_aid, hidden.subject_aid)), false) AS verified,
           coalesce(conflict AND {IS_SIGNED_BY_OTHERS.format(table="known", agent="$1")}, false) AS foreign_too,
           CASE WHEN issuer_aid = $1 THEN subject_aid ELSE issuer_aid END AS peer
    FROM known
    UNION ALL
    (SELECT DISTINCT ON (own.jti) own.jti, own.issuer_aid, own.subject_aid, own.issued_at, 'verified', true,
            {IS_SIGNED_BY_OTHERS.format(table="shown", agent="$1")},
            CASE WHEN own.issuer_aid = $1 THEN own.subject_aid ELSE own.issuer_aid END
     FROM own JOIN issued_tcts AS shown USING (jti)
     WHERE NOT EXISTS (SELECT 1 FROM known WHERE known.jti = own.jti)
     ORDER BY own.jti, own.issuer_aid <> $1)
), token AS MATERIALIZED (
    SELECT * FROM judged WHERE verified OR ($3 = 'all' AND NOT foreign_too)
), known_delegation AS MATERIALIZED (
    SELECT jti, parent_jti, delegator_aid, delegatee_aid, issued_at, {VERIFIED} AS verified,
           {_IS_OF_OTHERS} AS foreign_too
    FROM delegations
    WHERE delegatee_aid = $1 AND {_LIVE_DELEGATION}
    UNION ALL
    SELECT jti, parent_jti, delegator_aid, delegatee_aid, issued_at, {VERIFIED},
           {_IS_OF_OTHERS}
    FROM delegations
    WHERE delegator_aid = $1 AND delegatee_aid <> $1 AND {_LIVE_DELEGATION}
      AND NOT EXISTS (SELECT 1 FROM token WHERE token.jti = parent_jti)
), delegation AS MATERIALIZED (
    SELECT * FROM known_delegation WHERE NOT foreign_too AND ($3 = 'all' OR verified)
), held AS MATERIALIZED (
    -- Received ones that only their source can cut: the signed list holds version 4 ids alone.
    SELECT delegation.*, source.jti IS NOT NULL AS has_source
    FROM delegation LEFT JOIN issued_tcts AS source ON source.jti = parent_jti AND {_UNLISTED.format(table="source")}
    WHERE delegatee_aid = $1 AND substr(delegation.jti::text, 15, 1) <> '4'
      AND NOT EXISTS (SELECT 1 FROM token WHERE token.jti = parent_jti)
), item AS MATERIALIZED (
    SELECT DISTINCT ON (jti) jti, place, verified, peer, issued_at, issuer, subject
    FROM (
        SELECT jti, 0 AS place, verified, peer, issued_at, issuer_aid AS issuer, subject_aid AS subject FROM token
        UNION ALL
        SELECT jti, 1, verified, CASE WHEN delegatee_aid = $1 THEN delegator_aid ELSE delegatee_aid END, issued_at,
               delegator_aid, delegatee_aid
        FROM delegation
        UNION ALL
        SELECT parent_jti, 2, held.verified, delegator_aid, held.issued_at, issuer_aid, subject_aid
        FROM held JOIN issued_tcts ON issued_tcts.jti = parent_jti
        WHERE has_source AND $4 = 'revokeSource'
    ) AS every
    ORDER BY jti, place
)
"""

PLAN = f"""
WITH RECURSIVE {ITEMS}, below AS (
    SELECT jti, 0 AS depth FROM item
    UNION
    SELECT child.jti, depth + 1
    FROM below CROSS JOIN LATERAL (
        SELECT jti FROM delegations WHERE parent_jti = below.jti AND NOT revoked
        UNION ALL
        SELECT further.jti FROM delegation_parents AS further JOIN delegations AS known ON known.jti = further.jti
        WHERE further.parent_jti = below.jti AND NOT known.revoked
    ) AS child
    WHERE depth < {MAX_DEPTH}
), reached AS (
    SELECT jti, depth FROM below WHERE depth > 0
    UNION ALL
    SELECT jti, 1 FROM item WHERE place = 1
    LIMIT {MAX_BELOW}
)
SELECT
    (SELECT count(*) FROM token WHERE issuer_aid = $1) AS issued,
    (SELECT count(*) FROM token WHERE issuer_aid <> $1) AS held,
    (SELECT count(*) FROM token WHERE substr(jti::text, 15, 1) <> '4') AS unlistable,
    (SELECT count(*) FROM token WHERE foreign_too) AS shared,
    (SELECT coalesce(jsonb_object_agg(verdict, count), '{{}}')::text
     FROM (SELECT verdict, count(*) AS count FROM token GROUP BY verdict) AS counts) AS by_verdict,
    (SELECT count(DISTINCT jti) FROM reached) AS below,
    (SELECT coalesce(max(depth), 0) FROM reached) AS depth,
    (SELECT count(*) FROM item) AS items,
    (SELECT count(*) FROM item WHERE substr(jti::text, 15, 1) = '4') AS listable,
    (SELECT encode(sha256(convert_to(concat_ws(',', $3, $4, string_agg(jti::text, ',' ORDER BY jti)), 'UTF8')), 'hex')
     FROM item) AS digest,
    (SELECT count(DISTINCT peer) FROM token WHERE peer <> $1) AS peer_count,
    (SELECT coalesce(jsonb_agg(jsonb_build_array(peer, count)), '[]')::text
     FROM (SELECT peer, count(*) AS count FROM token WHERE peer <> $1
           GROUP BY peer ORDER BY count DESC, peer LIMIT {MAX_PEERS}) AS peers) AS peers,
    (SELECT coalesce(jsonb_agg(jsonb_build_object('kind', kind, 'jti', jti, 'sourceJti', source, 'aid', aid)), '[]')
            ::text
     FROM (SELECT 'delegation' AS kind, jti, parent_jti AS source, delegator_aid AS aid FROM held
           UNION ALL
           SELECT 'token', jti, NULL, peer FROM judged WHERE foreign_too AND NOT verified
           UNION ALL
           SELECT 'token', jti, NULL, delegator_aid FROM known_delegation WHERE foreign_too
           ORDER BY kind, jti LIMIT {MAX_PEERS}) AS hurt) AS collateral
"""

# Verified ones first, then by turns from each peer, oldest first: a flood of false reports delays nothing that is real.
PICK = f"""
WITH {ITEMS}, turned AS (
    SELECT *, row_number() OVER (PARTITION BY place, verified, peer ORDER BY issued_at, jti) AS turn FROM item
)
SELECT jti, issuer, subject FROM turned ORDER BY place, verified DESC, turn, issued_at, jti LIMIT $5
"""


class Selection(msgspec.Struct, frozen=True):
    """Whose tokens, at what time, and which of them."""

    aid: str
    now: datetime
    include: Include
    held: HeldDelegations

    @property
    def arguments(self) -> tuple[object, ...]:
        return self.aid, self.now - CLOCK_SLACK, self.include, self.held


class Collateral(msgspec.Struct, frozen=True, rename="camel"):
    """What is not revoked, because that hurts somebody else: a received delegation, or a token of others."""

    kind: Literal["delegation", "token"]
    jti: UUID
    source_jti: UUID | None  # revoking this token ends the delegation, and everything else that rests on it
    aid: str  # the delegator, or a party of the token


class Exposure(msgspec.Struct, frozen=True):
    """Counts of what a containment revokes; `items` are the ids it enters into the deny list."""

    issued: int
    held: int
    unlistable: int
    shared: int
    by_verdict: dict[str, int]
    below: int
    depth: int
    items: int
    listable: int
    digest: str
    peer_count: int
    peers: list[tuple[str, int]]
    collateral: list[Collateral]


_JSON = {"by_verdict": dict[str, int], "peers": list[tuple[str, int]], "collateral": list[Collateral]}


async def measure(conn: Connection, scope: Selection) -> Exposure:
    """Return what a containment within `scope` revokes; one statement, so one moment."""
    row = await conn.fetchrow(PLAN, *scope.arguments)
    assert row is not None
    return Exposure(**{**row, **{name: msgspec.json.decode(row[name], type=kind) for name, kind in _JSON.items()}})


async def pick(conn: Connection, scope: Selection, limit: int) -> dict[UUID, tuple[str, str]]:
    """Return the next ids to revoke with their two parties, at most `limit`, the most urgent first."""
    return {row["jti"]: (row["issuer"], row["subject"]) for row in await conn.fetch(PICK, *scope.arguments, limit)}
