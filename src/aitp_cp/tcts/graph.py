"""Statements that walk from revoked tokens and delegations to what is delegated from them."""

from collections.abc import Iterable, Sequence
from uuid import UUID

from aitp_cp.db import Connection
from aitp_cp.db.arrays import columns
from aitp_cp.tcts.model import FIRST, LAST, Children, Item, Reached

# A walk reads this many children of each delegation; one with more becomes an item, which is read page by page.
FAN_OUT = 16
# A delegation that moves to another parent takes this many delegations along that may be revoked no more.
RELEASED_ROWS = 1000
# A list looks this many levels above each row for something unsettled, and assumes that there is some beyond.
PENDING_DEPTH = 32

# Since when a delegation is revoked, as far as its row says.
SETTLED_AT = "CASE WHEN revoked THEN coalesce(revoked_at, 'infinity') ELSE 'infinity' END"

# What revokes a token or delegation and, with it, everything delegated from it. `named` is a revocation of its own.
CAUSES = """
    SELECT revoked_at AS since, true AS named FROM revoked_reports WHERE jti = {source}
    UNION ALL
    SELECT signed.revoked_at, true
    FROM signed_revocations AS signed
    JOIN issued_tcts AS own ON own.jti = signed.jti AND own.issuer_aid = signed.signer
    WHERE signed.jti = {source} AND signed.kind = 'tct'
    UNION ALL
    SELECT signed.revoked_at, true
    FROM signed_revocations AS signed
    JOIN delegations AS own ON own.jti = signed.jti AND own.delegator_aid = signed.signer
    WHERE signed.jti = {source}
    UNION ALL
    SELECT revoked_at, true FROM revocation_entries WHERE jti = {source}
    UNION ALL
    SELECT coalesce(revoked_at, issued_at), false FROM issued_tcts WHERE jti = {source} AND revoked
    UNION ALL
    SELECT coalesce(revoked_at, issued_at), false FROM delegations WHERE jti = {source} AND revoked
"""

# A token that its row does not show has no children of its own in the walk: these are delegations that rest on it by
# their signature, and that its issuer revokes with it.
FIND_DERIVED = """
SELECT derived.jti, min(signed.revoked_at) AS since
FROM signed_revocations AS signed JOIN delegations AS derived
     ON derived.parent_jti = signed.jti AND derived.audience_aid = signed.signer
WHERE signed.jti = ANY($1::uuid[]) AND signed.kind = 'tct'
  AND (NOT derived.revoked OR coalesce(derived.revoked_at, 'infinity') > signed.revoked_at)
GROUP BY derived.jti ORDER BY derived.jti
"""

# The next children in key order, by the parent in their row or another one they were reported with. Comparing pairs
# leaves the planner only the index on both columns. With parent_jti = x it would choose the primary key where most
# delegations have one parent, and walk the whole table for each of the others.
CHILDREN = f"""
    SELECT jti, settled_at FROM (
        (SELECT jti, {SETTLED_AT} AS settled_at FROM delegations
         WHERE (parent_jti, jti) >= ({{parent}}, {{first}}) AND (parent_jti, jti) <= ({{parent}}, '{LAST}'::uuid)
         ORDER BY parent_jti, jti LIMIT {{limit}})
        UNION ALL
        (SELECT known.jti, {SETTLED_AT} FROM (
            SELECT parent_jti, jti FROM delegation_parents
            WHERE (parent_jti, jti) >= ({{parent}}, {{first}}) AND (parent_jti, jti) <= ({{parent}}, '{LAST}'::uuid)
            ORDER BY parent_jti, jti LIMIT {{limit}}
         ) AS further JOIN delegations AS known USING (jti))
    ) AS either ORDER BY jti LIMIT {{limit}}
"""


def _first_children(parent: str, limit: int) -> str:
    return CHILDREN.format(parent=parent, first=f"'{FIRST}'::uuid", limit=limit)


def _is_open(parent: str, since: str) -> str:
    """Return a condition: the parent has unsettled children, or more than a walk reads."""
    return f"""(
    SELECT count(*) > {FAN_OUT} OR bool_or(child.settled_at > {since})
    FROM ({_first_children(parent, FAN_OUT + 1)}) AS child
)"""


MARK_TOUCHED = f"""
WITH origin AS (
    SELECT jti, jti AS source FROM delegations WHERE jti = ANY($1::uuid[])
    UNION
    SELECT jti, parent_jti FROM delegations WHERE jti = ANY($1::uuid[])
    UNION
    SELECT jti, parent_jti FROM delegation_parents WHERE jti = ANY($1::uuid[])
), cause AS (
    SELECT origin.jti, min(causes.since) AS since, bool_or(causes.named AND source = origin.jti) AS explicit
    FROM origin CROSS JOIN LATERAL (
        {CAUSES.format(source="source")}
        UNION ALL
        SELECT signed.revoked_at, false
        FROM delegations AS derived JOIN signed_revocations AS signed
             ON signed.jti = derived.parent_jti AND signed.signer = derived.audience_aid AND signed.kind = 'tct'
        WHERE derived.jti = origin.jti
    ) AS causes
    GROUP BY origin.jti
)
UPDATE delegations AS stored
SET revoked = true, revoked_at = LEAST(stored.revoked_at, cause.since),
    revoked_reason = CASE WHEN cause.explicit THEN 'explicit' ELSE coalesce(stored.revoked_reason, 'parent_revoked') END
FROM cause
WHERE stored.jti = cause.jti
  AND (NOT revoked OR stored.revoked_at IS NULL OR cause.since < stored.revoked_at
       OR (cause.explicit AND revoked_reason IS DISTINCT FROM 'explicit'))
RETURNING stored.jti
"""

# Delegations themselves, and whatever is a parent.
FIND_RELATED = """
SELECT jti FROM unnest($1::uuid[]) AS source (jti)
WHERE EXISTS (SELECT 1 FROM delegations WHERE parent_jti = source.jti)
   OR EXISTS (SELECT 1 FROM delegation_parents WHERE parent_jti = source.jti)
   OR EXISTS (SELECT 1 FROM delegations WHERE delegations.jti = source.jti)
"""

FIND_OPEN = f"""
SELECT source.jti, cause.since
FROM unnest($1::uuid[]) AS source (jti)
CROSS JOIN LATERAL (SELECT min(since) AS since FROM ({CAUSES.format(source="source.jti")}) AS causes) AS cause
WHERE {_is_open("source.jti", "cause.since")}
"""

FIND_WIDE = f"""
SELECT source.jti, source.since
FROM unnest($1::uuid[], $2::timestamptz[]) AS source (jti, since)
WHERE {_is_open("source.jti", "source.since")}
"""

EXPAND = f"""
SELECT item.place, child.jti, child.settled_at > item.since AS open
FROM unnest($1::uuid[], $2::timestamptz[], $3::uuid[]) WITH ORDINALITY AS item (jti, since, first, place)
CROSS JOIN LATERAL ({CHILDREN.format(parent="item.jti", first="item.first", limit="$4")}) AS child
ORDER BY item.place, child.jti
"""

# The LIMIT ends the recursion, level by level. A branch that was revoked early enough already is not entered.
REACH = f"""
WITH RECURSIVE reached AS (
    SELECT jti, since FROM unnest($1::uuid[], $2::timestamptz[]) AS start (jti, since)
    UNION
    SELECT child.jti, reached.since
    FROM reached CROSS JOIN LATERAL ({_first_children("reached.jti", FAN_OUT)}) AS child
    WHERE child.settled_at > reached.since
)
SELECT jti, since FROM reached LIMIT $3
"""

MARK_REACHED = f"""
UPDATE delegations AS stored
SET revoked = true, revoked_at = new.since, revoked_reason = coalesce(stored.revoked_reason, 'parent_revoked')
FROM unnest($1::uuid[], $2::timestamptz[]) AS new (jti, since)
WHERE stored.jti = new.jti AND {SETTLED_AT} > new.since
"""

# What may be revoked only through a parent that a delegation no longer has: the delegations and what hangs below them.
RELEASE = f"""
WITH RECURSIVE below AS (
    SELECT jti FROM unnest($1::uuid[]) AS start (jti)
    UNION
    SELECT child.jti FROM below CROSS JOIN LATERAL ({_first_children("below.jti", FAN_OUT)}) AS child
)
UPDATE delegations AS stored SET revoked = false, revoked_at = NULL, revoked_reason = NULL
FROM (SELECT jti FROM below LIMIT $2) AS released
WHERE stored.jti = released.jti AND revoked
  AND (revoked_reason = 'parent_revoked'
       OR EXISTS (SELECT 1 FROM revoked_reports WHERE jti = released.jti)
       OR EXISTS (SELECT 1 FROM signed_revocations WHERE jti = released.jti)
       OR EXISTS (SELECT 1 FROM revocation_entries WHERE jti = released.jti))
RETURNING stored.jti
"""

HAS_WORK = "SELECT EXISTS (SELECT 1 FROM cascade_work)"

PICK_WORK = """
SELECT jti, since, urgent, from_jti, again FROM cascade_work ORDER BY urgent DESC, since, jti LIMIT $1
"""

DELETE_WORK = "DELETE FROM cascade_work WHERE jti = ANY($1::uuid[])"

ADD_WORK = f"""
INSERT INTO cascade_work AS stored (jti, since, urgent, from_jti, again)
SELECT * FROM unnest($1::uuid[], $2::timestamptz[], $3::boolean[], $4::uuid[], $5::boolean[])
ON CONFLICT (jti) DO UPDATE
SET since = LEAST(stored.since, excluded.since), urgent = stored.urgent OR excluded.urgent,
    again = stored.again OR (excluded.since < stored.since AND stored.from_jti <> '{FIRST}')
WHERE excluded.since < stored.since OR excluded.urgent > stored.urgent
"""

# Whether something above the row `page` of a list, or the row itself, is not settled to the end.
IS_PENDING = f"""
CASE WHEN EXISTS (SELECT 1 FROM cascade_work) THEN (
    WITH RECURSIVE above AS (
        SELECT page.jti AS jti, 0 AS depth
        UNION
        SELECT parent.jti, depth + 1
        FROM above CROSS JOIN LATERAL (
            SELECT parent_jti AS jti FROM delegations WHERE jti = above.jti
            UNION ALL
            SELECT parent_jti FROM delegation_parents WHERE jti = above.jti
        ) AS parent
        WHERE depth < {PENDING_DEPTH}
    )
    SELECT bool_or(depth = {PENDING_DEPTH} OR EXISTS (SELECT 1 FROM cascade_work WHERE jti = above.jti)) FROM above
) ELSE false END
"""


async def mark_touched(conn: Connection, touched: Sequence[UUID]) -> list[UUID]:
    """Revoke those of the delegations that are revoked themselves or through a parent; return those that changed."""
    return [row["jti"] for row in await conn.fetch(MARK_TOUCHED, touched)]


async def release(conn: Connection, moved: Sequence[UUID]) -> list[UUID]:
    """Take back what revokes delegations, and what is below them, and return those to settle again.

    Of what is below, `RELEASED_ROWS` rows at most: the rest stays revoked.
    """
    return [row["jti"] for row in await conn.fetch(RELEASE, moved, RELEASED_ROWS)] if moved else []


async def find_related(conn: Connection, jtis: Sequence[UUID]) -> list[UUID]:
    """Return those of `jtis` that are delegations or have some below them."""
    return [row["jti"] for row in await conn.fetch(FIND_RELATED, jtis)]


async def find_derived(conn: Connection, revoked: Sequence[UUID]) -> list[Item]:
    """Return the delegations from tokens that their issuers revoked, so far as they are not settled."""
    return [Item(row["jti"], row["since"], urgent=False) for row in await conn.fetch(FIND_DERIVED, revoked)]


async def find_open(conn: Connection, sources: Sequence[UUID], *, urgent: bool) -> list[Item]:
    """Return those of `sources` that are revoked and may have unsettled children."""
    return [Item(row["jti"], row["since"], urgent) for row in await conn.fetch(FIND_OPEN, sources)]


async def find_wide(conn: Connection, reached: Sequence[Reached], *, urgent: bool) -> list[Item]:
    """Return those of `reached` with more children than a walk reads, or with unsettled children."""
    rows = await conn.fetch(FIND_WIDE, *columns(reached, "jti", "since")) if reached else []
    return [Item(row["jti"], row["since"], urgent) for row in rows]


async def expand(conn: Connection, items: Sequence[Item], limit: int) -> list[Children]:
    """Return the next `limit` children of each item."""
    rows: list[list[tuple[UUID, bool]]] = [[] for _ in items]
    for row in await conn.fetch(EXPAND, *columns(items, "jti", "since", "from_jti"), limit + 1):
        rows[row["place"] - 1].append((row["jti"], row["open"]))
    return [_children(item, children, limit) for item, children in zip(items, rows, strict=True)]


async def reach(conn: Connection, starts: Sequence[Reached], limit: int) -> list[Reached]:
    """Return `starts` and everything unsettled below them, at most `limit` rows; a delegation may come repeatedly."""
    rows = await conn.fetch(REACH, *columns(starts, "jti", "since"), limit) if starts else []
    return [Reached(row["jti"], row["since"]) for row in rows]


async def mark_reached(conn: Connection, reached: Sequence[Reached]) -> None:
    """Revoke these delegations, each named once."""
    if reached:
        await conn.execute(MARK_REACHED, *columns(reached, "jti", "since"))


async def has_work(conn: Connection) -> bool:
    """Return whether some cascade is not settled to the end."""
    return bool(await conn.fetchval(HAS_WORK))


async def pick_work(conn: Connection, limit: int) -> list[Item]:
    return [Item(**row) for row in await conn.fetch(PICK_WORK, limit)]


async def delete_work(conn: Connection, items: Iterable[Item]) -> None:
    await conn.execute(DELETE_WORK, [item.jti for item in items])


async def add_work(conn: Connection, items: Sequence[Item]) -> None:
    if items:
        await conn.execute(ADD_WORK, *columns(items, "jti", "since", "urgent", "from_jti", "again"))


def _children(item: Item, rows: Sequence[tuple[UUID, bool]], limit: int) -> Children:
    page = rows[:limit]
    open_ = [Reached(jti, item.since) for jti, is_open in page if is_open]
    return Children(item, len(page), open_, rows[limit][0] if len(rows) > limit else None)
