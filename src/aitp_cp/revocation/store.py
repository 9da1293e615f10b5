"""Statements on revocation_entries, and the parties of a revoked token."""

from datetime import datetime
from uuid import UUID

from msgspec import UnsetType

from aitp_cp.db import Connection, Record, Where
from aitp_cp.db.keyset import Window
from aitp_cp.revocation.model import ORDER, Revocation

# How many entries one row of READ_ALL holds.
CHUNK_ENTRIES = 1000

INSERT_MISSING = """
INSERT INTO revocation_entries (jti, revoked_at, reason, created_at) VALUES ($1, $2, $3, $4)
ON CONFLICT (jti) DO NOTHING
RETURNING jti
"""

FIND = "SELECT jti, revoked_at, reason FROM revocation_entries WHERE jti = $1"

PAGE = """
SELECT jti, revoked_at, reason FROM revocation_entries
WHERE {where}
ORDER BY {order}
LIMIT {limit} OFFSET {offset}
"""

FIND_PARTIES = "SELECT issuer_aid, subject_aid FROM issued_tcts WHERE jti = $1"

# One statement, so one snapshot. Chunks of text cost the event loop a hundredth of what a record per entry does.
# Times are brought into the years 1970 to 9999: whatever an older control plane stored must not break the list.
READ_ALL = """
SELECT convert_to(
           json_build_array(
               array_agg(jti ORDER BY place), array_agg(secs ORDER BY place), array_agg(reason ORDER BY place)
           )::text, 'UTF8')
FROM (
    SELECT jti, greatest(0, least(253402300799, floor(date_part('epoch', revoked_at))))::bigint AS secs, reason,
           row_number() OVER (ORDER BY revoked_at, jti) - 1 AS place
    FROM revocation_entries
) AS ordered
GROUP BY place / $1
ORDER BY place / $1
"""


async def insert_missing(conn: Connection, entry: Revocation, now: datetime) -> bool:
    """Whether the token was not revoked yet; a concurrent revocation of the same token is waited for."""
    return await conn.fetchval(INSERT_MISSING, entry.jti, entry.revoked_at, entry.reason, now) is not None


async def find(conn: Connection, jti: UUID) -> Revocation | None:
    row = await conn.fetchrow(FIND, jti)
    return None if row is None else _revocation(row)


async def page(conn: Connection, jti: UUID | None, window: Window) -> tuple[list[Revocation], str | UnsetType]:
    """Newest first, and the cursor of the next page."""
    where = Where()
    where.add("jti = {}", jti)
    ORDER.restrict(where, window.before)
    statement = PAGE.format(
        order=ORDER.sql, where=where.sql(), limit=where.bind(window.rows), offset=where.bind(window.offset)
    )
    page = ORDER.page(await conn.fetch(statement, *where.args), window)
    return [_revocation(row) for row in page.rows], page.next_before


async def find_parties(conn: Connection, jti: UUID) -> tuple[str, str] | None:
    """Issuer and subject of a token that was reported."""
    row = await conn.fetchrow(FIND_PARTIES, jti)
    return None if row is None else (row["issuer_aid"], row["subject_aid"])


async def read_all(conn: Connection) -> list[bytes]:
    """Every entry in the list's order, in chunks: JSON arrays of the ids, the epoch seconds and the reasons."""
    return [row[0] for row in await conn.fetch(READ_ALL, CHUNK_ENTRIES)]


def _revocation(row: Record) -> Revocation:
    return Revocation(row["jti"], row["revoked_at"], row["reason"])
