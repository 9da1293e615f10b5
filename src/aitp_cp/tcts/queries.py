"""Statements that read issued_tcts and delegations for the API."""

from datetime import datetime
from uuid import UUID

from aitp_cp.clock import iso, iso_or_none
from aitp_cp.db import Connection, Record, Where, shown
from aitp_cp.db.arrays import stored_array
from aitp_cp.db.keyset import Place, Window
from aitp_cp.tcts.graph import IS_PENDING
from aitp_cp.tcts.model import (
    DELEGATION_ORDER,
    TCT_ORDER,
    DelegationFilter,
    DelegationList,
    DelegationView,
    TctFilter,
    TctList,
    TctView,
)

MAX_TREE_ROWS = 1000
MAX_TREE_DEPTH = 32

TCT_COLUMNS = """jti, issuer_aid, subject_aid, audience_aid, grants, binding_cnf, issued_at, expires_at, session_id,
    revoked, revoked_at, conflict"""

# In the order of `TctView`.
TCT_SHOWN = f"""jti, issuer_aid, subject_aid, audience_aid, grants, binding_cnf, {shown("issued_at")},
    {shown("expires_at")}, session_id, revoked, {shown("revoked_at")},
    coalesce(conflict, false) AS disputed"""

DELEGATION_COLUMNS = """jti, parent_jti, delegator_aid, delegatee_aid, scope, issued_at, expires_at, revoked,
    revoked_at, revoked_reason, conflict"""

LIST_TCTS = """
SELECT {shown}, issued_at FROM issued_tcts
WHERE {where}
ORDER BY {order}
LIMIT {limit} OFFSET {offset}
"""

TCTS_OF_SESSION = """
SELECT {shown}, issued_at FROM issued_tcts
WHERE session_id = $1 AND {after}
ORDER BY {order}
LIMIT {limit}
"""

# Each side on its own index; an OR over both would read and sort everything a busy agent ever issued or held.
TCTS_OF_AGENT = """
SELECT {shown}, issued_at FROM (
    (SELECT {columns} FROM issued_tcts WHERE issuer_aid = $1 AND {after} ORDER BY {order} LIMIT {limit})
    UNION ALL
    (SELECT {columns} FROM issued_tcts WHERE subject_aid = $1 AND issuer_aid <> $1 AND {after}
     ORDER BY {order} LIMIT {limit})
) AS either
ORDER BY {order}
LIMIT {limit}
"""

LIST_DELEGATIONS = """
SELECT {columns}, {pending} AS pending FROM (
    SELECT {columns} FROM delegations
    WHERE {where}
    ORDER BY {order}
    LIMIT {limit} OFFSET {offset}
) AS page
ORDER BY {order}
"""

# A delegation has one parent here, so only the root can close a cycle. The inner LIMIT ends the walk, level by level.
TREE = """
WITH RECURSIVE tree AS (
    SELECT jti, 0 AS depth FROM delegations WHERE jti = $1
    UNION ALL
    SELECT jti, 1 FROM delegations WHERE parent_jti = $1 AND jti <> $1
    UNION ALL
    SELECT child.jti, tree.depth + 1
    FROM tree JOIN delegations AS child ON child.parent_jti = tree.jti
    WHERE tree.depth BETWEEN 1 AND {depth} - 1 AND child.jti <> $1
)
SELECT {columns}, {pending} AS pending
FROM delegations AS page JOIN (SELECT jti FROM tree LIMIT {rows}) AS found USING (jti)
WHERE {where}
ORDER BY issued_at, jti
"""

TctPage = tuple[list[TctView], Place | None]


async def list_tcts(conn: Connection, filter: TctFilter, window: Window, now: datetime) -> TctList:
    where = Where()
    where.add("issuer_aid = {}", filter.issuer)
    where.add("subject_aid = {}", filter.subject)
    where.add("audience_aid = {}", filter.audience)
    where.add("grants @> jsonb_build_array({}::text)", filter.capability)
    where.add("session_id = {}", filter.session_id)
    _add_active(where, now if filter.active else None)
    TCT_ORDER.restrict(where, window.before)
    statement = LIST_TCTS.format(
        shown=TCT_SHOWN,
        order=TCT_ORDER.sql,
        where=where.sql(),
        limit=where.rows(window.rows),
        offset=where.rows(window.offset),
    )
    page = TCT_ORDER.page(await conn.fetch(statement, *where.args), window)
    return TctList([_tct(row) for row in page.rows], page.next_before)


async def tcts_of_session(conn: Connection, session_id: str, after: Place | None, limit: int) -> TctPage:
    return await _tct_page(conn, TCTS_OF_SESSION, session_id, after, limit)


async def tcts_of_agent(conn: Connection, aid: str, after: Place | None, limit: int) -> TctPage:
    """Those it issued and those it holds."""
    return await _tct_page(conn, TCTS_OF_AGENT, aid, after, limit)


async def list_delegations(conn: Connection, filter: DelegationFilter, window: Window, now: datetime) -> DelegationList:
    where = Where()
    where.add("parent_jti = {}", filter.parent_jti)
    where.add("delegator_aid = {}", filter.delegator)
    where.add("delegatee_aid = {}", filter.delegatee)
    _add_active(where, now if filter.active else None)
    DELEGATION_ORDER.restrict(where, window.before)
    statement = LIST_DELEGATIONS.format(
        columns=DELEGATION_COLUMNS,
        pending=IS_PENDING,
        order=DELEGATION_ORDER.sql,
        where=where.sql(),
        limit=where.rows(window.rows),
        offset=where.rows(window.offset),
    )
    page = DELEGATION_ORDER.page(await conn.fetch(statement, *where.args), window)
    return DelegationList([_delegation(row) for row in page.rows], page.next_before)


async def tree(conn: Connection, root: UUID, active_at: datetime | None) -> list[DelegationView]:
    """The delegation itself, if it is one, and what is delegated from it; oldest first."""
    where = Where()
    where.bind(root)
    _add_active(where, active_at)
    parts = {"columns": DELEGATION_COLUMNS, "pending": IS_PENDING, "where": where.sql()}
    statement = TREE.format(depth=MAX_TREE_DEPTH, rows=MAX_TREE_ROWS, **parts)
    return [_delegation(row) for row in await conn.fetch(statement, *where.args)]


def _add_active(where: Where, at: datetime | None) -> None:
    if at is not None:
        where.always("NOT revoked")
        where.add("(expires_at IS NULL OR expires_at > {})", at)


async def _tct_page(conn: Connection, query: str, key: str, after: Place | None, limit: int) -> TctPage:
    where = Where()
    where.bind(key)
    TCT_ORDER.restrict(where, after)
    parts = {"columns": TCT_COLUMNS, "shown": TCT_SHOWN, "order": TCT_ORDER.sql, "after": where.sql()}
    statement = query.format(limit=where.bind(limit), **parts)
    rows = await conn.fetch(statement, *where.args)
    full = len(rows) == limit
    return [_tct(row) for row in rows], TCT_ORDER.place(rows[-1]) if full else None


def _tct(row: Record) -> TctView:
    jti, issuer, subject, audience, grants, *rest = row
    return TctView(jti, issuer, subject, audience, stored_array(grants), *rest[:7])


def _delegation(row: Record) -> DelegationView:
    return DelegationView(
        jti=row["jti"],
        parent_jti=row["parent_jti"],
        delegator=row["delegator_aid"],
        delegatee=row["delegatee_aid"],
        scope=stored_array(row["scope"]),
        issued_at=iso(row["issued_at"]),
        expires_at=iso_or_none(row["expires_at"]),
        revoked=row["revoked"],
        revoked_at=iso_or_none(row["revoked_at"]),
        revoked_reason=row["revoked_reason"],
        conflict=bool(row["conflict"]),
        pending_cascade=row["pending"],
    )
