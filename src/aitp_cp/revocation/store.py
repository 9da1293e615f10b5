"""Statements on revocation_entries and revocation_version."""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from uuid import UUID

from msgspec import UnsetType

from aitp_cp.db import Connection, Where
from aitp_cp.db.keyset import Window
from aitp_cp.db.pages import LONG_PAGE_BYTES, json_size
from aitp_cp.db.views import View
from aitp_cp.revocation.model import ORDER, Revocation, Stored

# How many entries one row of READ_ALL holds.
CHUNK_ENTRIES = 1000

INSERT_MISSING = """
INSERT INTO revocation_entries (jti, revoked_at, reason, created_at)
SELECT jti, revoked_at, reason, $4
FROM unnest($1::uuid[], $2::timestamptz[], $3::text[]) AS new (jti, revoked_at, reason)
ORDER BY jti
ON CONFLICT (jti) DO NOTHING
RETURNING jti
"""

REVOCATION = View(Revocation)

# 200 bytes are the limit of all members but the reason.
PAGE = ORDER.list(
    REVOCATION.sql,
    "revocation_entries",
    size=f"200 + {json_size('reason')}",
    most=LONG_PAGE_BYTES,
)

FIND = f"SELECT {REVOCATION.sql} FROM revocation_entries WHERE jti = ANY($1::uuid[])"

# Triggers increment it, for every writer.
VERSION = "SELECT coalesce(max(version), 0) FROM revocation_version"

# The SDK signs version 4 ids only.
COUNT_LISTED = "SELECT count(*) FROM revocation_entries WHERE unlisted_at IS NULL AND substr(jti::text, 15, 1) = '4'"

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
    WHERE unlisted_at IS NULL
) AS ordered
GROUP BY place / $1
ORDER BY place / $1
"""


# The newest ones, so that the cost ends.
REVOKED_SINCE = """
SELECT date_bin($2, LEAST(revoked_at, '9999-12-31'), 'epoch'::timestamptz) AS bucket, count(*) AS count FROM (
    SELECT revoked_at FROM revocation_entries WHERE revoked_at >= $1 ORDER BY revoked_at DESC LIMIT 100000
) AS newest
GROUP BY 1
"""


async def insert_missing(conn: Connection, entries: Collection[Revocation], now: datetime) -> set[UUID]:
    """Return those that were not revoked yet; concurrent revocations of the same tokens are waited for."""
    columns = [entry.jti for entry in entries], [entry.revoked_at for entry in entries]
    rows = await conn.fetch(INSERT_MISSING, *columns, [entry.reason for entry in entries], now)
    return {row["jti"] for row in rows}


async def find(conn: Connection, jtis: Sequence[UUID]) -> dict[UUID, Revocation]:
    return {row["jti"]: REVOCATION.read(row) for row in await conn.fetch(FIND, jtis)}


async def page(conn: Connection, jti: UUID | None, window: Window) -> tuple[list[Revocation], str | UnsetType]:
    """Newest first, and the cursor of the next page."""
    where = Where()
    where.add("jti = {}", jti)
    page = await ORDER.fetch(conn, PAGE, where, window)
    return [REVOCATION.read(row) for row in page.rows], page.next_before


async def revoked_since(conn: Connection, since: datetime, width: timedelta) -> dict[datetime, int]:
    """Count what was revoked since then, by bucket of that width; the newest 100,000."""
    return {row["bucket"]: row["count"] for row in await conn.fetch(REVOKED_SINCE, since, width)}


async def version(conn: Connection) -> int:
    """Return the version of the table; another one means that entries were added, changed or removed."""
    return int(await conn.fetchval(VERSION))


async def count_listed(conn: Connection) -> int:
    """Return how many entries the signed list holds."""
    return int(await conn.fetchval(COUNT_LISTED))


async def read_all(conn: Connection) -> Stored:
    """Return every entry in the list's order, in chunks: JSON arrays of the ids, the epoch seconds and the reasons."""
    at_least = await version(conn)
    return Stored(at_least, [row[0] for row in await conn.fetch(READ_ALL, CHUNK_ENTRIES)])
