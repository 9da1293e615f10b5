"""Statements that read issued_tcts and delegations for the API."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import msgspec

from aitp_cp.db import Connection, Where, shown
from aitp_cp.db.either_side import EitherSide
from aitp_cp.db.keyset import Place, Window
from aitp_cp.db.views import Json, View
from aitp_cp.protocol.verdicts import Verdict
from aitp_cp.tcts.graph import IS_PENDING
from aitp_cp.tcts.model import DELEGATION_ORDER, EXPIRING_ORDER, TCT_ORDER
from aitp_cp.tcts.views import (
    DelegationFilter,
    DelegationList,
    DelegationView,
    TctFilter,
    TctList,
    TctView,
)

MAX_TREE_ROWS = 1000
MAX_TREE_DEPTH = 32
MAX_STATEMENTS = 20  # signed tokens that a row names beside its own; the list of their issuer or holder has them all

_TIMES = {name: shown(name) for name in ("issued_at", "expires_at", "revoked_at")}


def agent_of(caller: str) -> str:
    """Return SQL for the AID of a caller that is an agent, null for another."""
    return f"CASE WHEN {caller} LIKE 'agent:%' THEN substr({caller}, {len('agent:') + 1}) END"


_TRUST = {
    "verdict": "coalesce(verdict, 'none')",
    "mismatch": "coalesce(mismatch, false)",
    "conflict": "coalesce(conflict, false)",
}
TCT_COLUMNS = """jti, issuer_aid, subject_aid, audience_aid, grants, binding_cnf, issued_at, expires_at, session_id,
    revoked, revoked_at, verdict, mismatch, conflict, reported_by, caller_states"""

# Signed tokens that their rows do not show, in columns like theirs. The deny list revokes the id, the issuer the token.
_HIDDEN_COLUMNS = """
    hidden.*, since IS NOT NULL AS revoked, since AS revoked_at, 'verified' AS verdict, true AS conflict,
    (SELECT caller_states FROM issued_tcts WHERE issued_tcts.jti = hidden.jti) AS caller_states
"""
_SINCE = """
CROSS JOIN LATERAL (
    SELECT min(revoked_at) AS since FROM (
        SELECT revoked_at FROM signed_revocations
        WHERE jti = hidden.jti AND kind = 'tct' AND signer = hidden.issuer_aid
        UNION ALL
        SELECT revoked_at FROM revocation_entries WHERE jti = hidden.jti
    ) AS cause
) AS own
"""
_HIDDEN = f"SELECT {_HIDDEN_COLUMNS} FROM hidden_tcts AS hidden {_SINCE}"
# By key, so that a page costs the same however many tokens have one id.
_HIDDEN_OF_ROW = f"""
SELECT {_HIDDEN_COLUMNS} FROM (
    SELECT * FROM hidden_tcts WHERE hidden_tcts.jti = page.jti
    ORDER BY issuer_aid, subject_aid, reported_by LIMIT {MAX_STATEMENTS}
) AS hidden {_SINCE}
"""

# What the row shows, with what others claim of it, and then what it does not show.
_STATEMENTS = f"""
coalesce(CASE WHEN caller_states IS NOT NULL THEN (
    SELECT jsonb_agg(jsonb_build_object(
        'reportedBy', {agent_of("caller")}, 'issuer', issuer, 'subject', subject, 'verdict', verdict,
        'expiresAt', {shown("stated.expires_at")}, 'revoked', since IS NOT NULL, 'revokedAt', {shown("since")})
        ORDER BY place, stated.created_at, issuer, subject, caller)
    FROM (
        SELECT place, each ->> 'caller' AS caller, state ->> 'issuer' AS issuer, state ->> 'subject' AS subject,
               coalesce(state ->> 'verdict', 'none') AS verdict, (state ->> 'expires_at')::timestamptz AS expires_at,
               NULL::timestamptz AS created_at,
               CASE WHEN is_shown AND main.revoked THEN coalesce(main.revoked_at, main.issued_at)
                    ELSE (SELECT revoked_at FROM revocation_entries WHERE jti = main.jti) END AS since
        FROM issued_tcts AS main
        CROSS JOIN LATERAL jsonb_array_elements(main.caller_states -> 'callers') WITH ORDINALITY AS every (each, place)
        CROSS JOIN LATERAL (SELECT each -> 'state') AS kept (state)
        CROSS JOIN LATERAL (
            SELECT (state ->> 'issuer', state ->> 'subject') = (main.issuer_aid, main.subject_aid)) AS same (is_shown)
        WHERE main.jti = page.jti AND (is_shown OR state ->> 'verdict' IS DISTINCT FROM 'verified')
        UNION ALL
        SELECT NULL, reported_by, issuer_aid, subject_aid, verdict, expires_at, created_at, revoked_at
        FROM ({_HIDDEN_OF_ROW}) AS hidden
    ) AS stated
) END, '[]')"""
TCT = View(
    TctView,
    {
        "issuer": "issuer_aid",
        "subject": "subject_aid",
        "audience": "audience_aid",
        "reported_by": agent_of("reported_by"),
        "statements": _STATEMENTS,
        **_TIMES,
        **_TRUST,
    },
    arrays=("grants",),
)
DELEGATION = View(
    DelegationView,
    {
        "delegator": "delegator_aid",
        "delegatee": "delegatee_aid",
        "pending_cascade": IS_PENDING,
        **_TIMES,
        **_TRUST,
    },
    arrays=("scope",),
)

DELEGATION_COLUMNS = """jti, parent_jti, delegator_aid, delegatee_aid, scope, issued_at, expires_at, revoked,
    revoked_at, revoked_reason, verdict, mismatch, conflict"""

LIST_TCTS = {
    order.name: TCT.page(order.select(TCT_COLUMNS, "issued_tcts"), order.sql) for order in (TCT_ORDER, EXPIRING_ORDER)
}

# By their issuer or holder also the tokens that their rows do not show. Each branch reads one row for each place in the
# order, for a cursor says no more.
LIST_TCTS_OF_PARTY = {
    order.name: TCT.page(
        f"""
        SELECT DISTINCT ON ({order.columns}) {TCT_COLUMNS} FROM (
            (SELECT {TCT_COLUMNS}, 0 AS place FROM issued_tcts
             WHERE {{where}} ORDER BY {order.sql} LIMIT {{most}})
            UNION ALL
            (SELECT DISTINCT ON ({order.columns}) {TCT_COLUMNS}, 1 FROM ({_HIDDEN}) AS hidden
             WHERE {{where}} ORDER BY {order.sql} LIMIT {{most}})
        ) AS either
        ORDER BY {order.sql}, place
        LIMIT {{limit}} OFFSET {{offset}}
        """,
        order.sql,
    )
    for order in (TCT_ORDER, EXPIRING_ORDER)
}

TCTS_OF_AGENT = EitherSide(TCT, f"SELECT {TCT_COLUMNS} FROM issued_tcts", ("issuer_aid", "subject_aid"), TCT_ORDER)

DELEGATIONS_OF_AGENT = EitherSide(
    DELEGATION, f"SELECT {DELEGATION_COLUMNS} FROM delegations", ("delegator_aid", "delegatee_aid"), DELEGATION_ORDER
)
LIST_DELEGATIONS = DELEGATION.page(DELEGATION_ORDER.select(DELEGATION_COLUMNS, "delegations"), DELEGATION_ORDER.sql)

# A delegation has one parent here, so only the root can close a cycle. The inner LIMIT ends the walk, level by level.
TREE = DELEGATION.page(
    f"""
    WITH RECURSIVE tree AS (
        SELECT jti, 0 AS depth FROM delegations WHERE jti = $1
        UNION ALL
        SELECT jti, 1 FROM delegations WHERE parent_jti = $1 AND jti <> $1
        UNION ALL
        SELECT child.jti, tree.depth + 1
        FROM tree JOIN delegations AS child ON child.parent_jti = tree.jti
        WHERE tree.depth BETWEEN 1 AND {MAX_TREE_DEPTH} - 1 AND child.jti <> $1
    )
    SELECT {DELEGATION_COLUMNS} FROM delegations JOIN (SELECT jti FROM tree LIMIT {MAX_TREE_ROWS}) AS listed USING (jti)
    WHERE {{where}}
    ORDER BY issued_at, jti
    """,
    "issued_at, jti",
)

FIND_TCT = TCT.page(f"SELECT {TCT_COLUMNS} FROM issued_tcts WHERE jti = $1", "jti")

PARTIES = "SELECT jti, issuer_aid, subject_aid FROM issued_tcts WHERE jti = ANY($1::uuid[])"

DELEGATOR = "SELECT delegator_aid FROM delegations WHERE jti = $1"

RawPage = tuple[list[msgspec.Raw], Place | None]  # the JSON of each row, and where to go on


async def list_tcts(conn: Connection, filter: TctFilter, window: Window, now: datetime) -> Json[TctList]:
    """Return one page, newest issued first, or the next to expire first."""
    where = Where()
    where.add("issuer_aid = {}", filter.issuer)
    where.add("subject_aid = {}", filter.subject)
    where.add("audience_aid = {}", filter.audience)
    where.add("grants @> jsonb_build_array({}::text)", filter.capability)
    where.add("session_id = {}", filter.session_id)
    _add_verdict(where, filter.verdict)
    order = filter.order
    if filter.expires_before is None:
        _add_active(where, now if filter.active else None)
    else:
        where.always("NOT revoked")
        where.add("expires_at > {}", now)
        where.add("expires_at <= {}", filter.expires_before)
    if filter.issuer is None and filter.subject is None:
        page = await order.fetch(conn, LIST_TCTS[order.name], where, window)
    else:
        most = where.bind(window.offset + window.rows)
        page = await order.fetch(conn, LIST_TCTS_OF_PARTY[order.name], where, window, most=most)
    return Json(TctList, tcts=TCT.raw(page.rows), next_before=page.next_before)


async def find_tct(conn: Connection, jti: UUID) -> TctView | None:
    """Return a token that was reported."""
    return next(iter(TCT.decode(TCT.raw(await conn.fetch(FIND_TCT, jti)))), None)


async def tcts_of_session(conn: Connection, session_id: str, after: Place | None, limit: int) -> RawPage:
    """Return the next tokens reported with a session, newest issued first, and where to go on."""
    where = Where()
    where.add("session_id = {}", session_id)
    page = await TCT_ORDER.fetch(conn, LIST_TCTS[TCT_ORDER.name], where, Window(limit, before=after))
    return TCT.raw(page.rows), page.next


async def tcts_of_agent(conn: Connection, aid: str, after: Place | None, limit: int) -> RawPage:
    """Return the next tokens that an agent issued or holds, newest issued first, and where to go on."""
    page = await TCTS_OF_AGENT.fetch(conn, Where(), aid, Window(limit, before=after))
    return TCT.raw(page.rows), page.next


async def delegations_of_agent(conn: Connection, aid: str, after: Place | None, limit: int) -> RawPage:
    """Return the next delegations by an agent or to it, newest issued first, and where to go on."""
    page = await DELEGATIONS_OF_AGENT.fetch(conn, Where(), aid, Window(limit, before=after))
    return DELEGATION.raw(page.rows), page.next


async def list_delegations(
    conn: Connection, filter: DelegationFilter, window: Window, now: datetime
) -> Json[DelegationList]:
    """Return one page, newest issued first."""
    where = Where()
    where.add("parent_jti = {}", filter.parent_jti)
    where.add("delegator_aid = {}", filter.delegator)
    where.add("delegatee_aid = {}", filter.delegatee)
    _add_verdict(where, filter.verdict)
    _add_active(where, now if filter.active else None)
    page = await DELEGATION_ORDER.fetch(conn, LIST_DELEGATIONS, where, window)
    return Json(DelegationList, delegations=DELEGATION.raw(page.rows), next_before=page.next_before)


async def tree(conn: Connection, root: UUID, active_at: datetime | None) -> Json[DelegationList]:
    """Return everything delegated from a token or delegation, the latter included, oldest first.

    At most 1000 rows and 32 levels, the upper levels first, and of those 16 MiB, the oldest first; `active_at` leaves
    out what is revoked or expired then.
    """
    where = Where()
    where.bind(root)
    _add_active(where, active_at)
    rows = await conn.fetch(TREE.format(where=where.sql()), *where.args)
    return Json(DelegationList, delegations=DELEGATION.raw(rows))


async def parties(conn: Connection, jtis: Sequence[UUID]) -> dict[UUID, tuple[str, str]]:
    """Return issuer and subject of those tokens that were reported."""
    rows = await conn.fetch(PARTIES, jtis)
    return {row["jti"]: (row["issuer_aid"], row["subject_aid"]) for row in rows}


async def delegator(conn: Connection, jti: UUID) -> str | None:
    """Return who gave a delegation, None for an unknown one."""
    aid: str | None = await conn.fetchval(DELEGATOR, jti)
    return aid


def _add_verdict(where: Where, verdict: str | None) -> None:
    if verdict == Verdict.NONE:
        where.always("verdict IS NULL")
    else:
        where.add("verdict = {}", verdict)


def _add_active(where: Where, at: datetime | None) -> None:
    if at is not None:
        where.always("NOT revoked")
        where.add("(expires_at IS NULL OR expires_at > {})", at)
