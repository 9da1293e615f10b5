"""Statements on api_keys."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from uuid import UUID

import msgspec

from aitp_cp.db import Connection, Where
from aitp_cp.db.keyset import Page, Window
from aitp_cp.db.pages import json_size
from aitp_cp.db.views import View
from aitp_cp.keys.model import ORDER, ApiKey, KeyFilter, LiveKey


@lru_cache(1000)
def scopes_in(text: str) -> tuple[str, ...]:
    """Return the scopes that are stored as `text`."""
    return msgspec.json.decode(text, type=tuple[str, ...])


KEY = View(ApiKey, convert={"scopes": scopes_in})

# 1500 bytes are the limit of all members but the two texts.
LIST = ORDER.list(
    KEY.sql,
    "api_keys",
    size=f"1500 + {json_size('name')} + {json_size('revoked_reason')}",
)

FIND = f"SELECT {KEY.sql} FROM api_keys WHERE id = ANY($1::uuid[])"
FIND_BY_DIGEST = f"SELECT {KEY.sql} FROM api_keys WHERE digest = $1"

# In the order of ids, so that two changes of the same keys never deadlock.
LOCK = f"{FIND} ORDER BY id FOR NO KEY UPDATE"

# What stands behind a session of the console: it goes on when its key is rotated, and ends with the last of them.
OF_FAMILIES = f"""
SELECT DISTINCT ON (family) {KEY.sql} FROM api_keys
WHERE family = ANY($1::uuid[]) AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $2)
ORDER BY family, created_at DESC, id
"""

ANY = "SELECT EXISTS (SELECT 1 FROM api_keys)"

# What the gate needs and no more: at the start all keys are read.
LIVE = """
SELECT id, digest, coalesce(adopts, 'key:' || family) AS actor, name, scopes, expires_at, rate_per_min FROM api_keys
WHERE revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $1) AND id > $2
ORDER BY id
LIMIT $3
"""

# Up to a limit, so that a table of any size is examined in time.
COUNT_LIVE = """
SELECT count(*)::int FROM (
    SELECT 1 FROM api_keys WHERE revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now()) LIMIT 100000
) AS live
"""

# The old key of a rotation ends on purpose: its successor stands beside it.
ENDING = """
SELECT id, name, expires_at FROM api_keys
WHERE revoked_at IS NULL AND replaced_by IS NULL
  AND expires_at > now() AND expires_at < now() + make_interval(days => $1)
ORDER BY expires_at, id
LIMIT 1000
"""

HAS_ADMIN = """
SELECT EXISTS (
    SELECT 1 FROM api_keys
    WHERE revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now()) AND scopes ? 'keys:admin'
)
"""

INSERT = """
INSERT INTO api_keys (id, family, name, shown, digest, scopes, created_by, created_at, expires_at, rate_per_min, adopts)
VALUES ($1, $2, $3, $4, $5, $6::jsonb, $7, $8, $9, $10, $11)
"""

UPDATE = "UPDATE api_keys SET name = $2, rate_per_min = $3, replaced_by = $4, expires_at = $5 WHERE id = $1"

REVOKE = f"""
UPDATE api_keys SET revoked_at = $2, revoked_reason = $3
WHERE revoked_at IS NULL AND (id = $1 OR family = $4)
RETURNING {KEY.sql}
"""

# SKIP LOCKED: a key that is being changed is marked with its next use.
MARK_USED = f"""
WITH used AS (
    SELECT stored.id, used_at, ip FROM api_keys AS stored
    JOIN unnest($1::uuid[], $2::timestamptz[], $3::text[]) AS used (id, used_at, ip) ON used.id = stored.id
    WHERE last_used_at IS NULL OR last_used_at < used_at
    ORDER BY stored.id
    FOR NO KEY UPDATE OF stored SKIP LOCKED
), marked AS (
    UPDATE api_keys AS stored SET last_used_at = used.used_at, last_used_ip = used.ip
    FROM used WHERE stored.id = used.id
    RETURNING stored.*
)
SELECT {KEY.sql} FROM marked
"""

COUNT = """
SELECT count(*) FILTER (WHERE revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $1)) AS active,
       count(*) FILTER (WHERE revoked_at IS NULL AND expires_at <= $1) AS expired,
       count(*) FILTER (WHERE revoked_at IS NOT NULL) AS revoked
FROM (SELECT revoked_at, expires_at FROM api_keys LIMIT $2) AS counted
"""


async def page(conn: Connection, state: KeyFilter, window: Window, now: datetime) -> tuple[list[ApiKey], Page]:
    """Return the keys of a page, newest first."""
    where = Where()
    if state is KeyFilter.REVOKED:
        where.always("revoked_at IS NOT NULL")
    elif state is not KeyFilter.ALL:
        where.always("revoked_at IS NULL")
        active = state is KeyFilter.ACTIVE
        where.add("(expires_at IS NULL OR expires_at > {})" if active else "expires_at <= {}", now)
    page = await ORDER.fetch(conn, LIST, where, window)
    return [KEY.read(row) for row in page.rows], page


async def find(conn: Connection, ids: Sequence[UUID]) -> list[ApiKey]:
    return [KEY.read(row) for row in await conn.fetch(FIND, ids)]


async def find_by_digest(conn: Connection, digest: bytes) -> ApiKey | None:
    return KEY.find(await conn.fetchrow(FIND_BY_DIGEST, digest))


async def newest_of_families(conn: Connection, families: Sequence[UUID], now: datetime) -> dict[UUID, ApiKey]:
    """Return the newest live key of each family that has one."""
    return {key.family: key for key in map(KEY.read, await conn.fetch(OF_FAMILIES, families, now))}


async def lock(conn: Connection, ids: Sequence[UUID]) -> Mapping[UUID, ApiKey]:
    """Lock the keys until the transaction ends, and return those that exist."""
    return {key.id: key for key in (KEY.read(row) for row in await conn.fetch(LOCK, ids))}


async def exist(conn: Connection) -> bool:
    """Return whether there is any key, live or not."""
    return bool(await conn.fetchval(ANY))


async def live(conn: Connection, after: UUID, limit: int, now: datetime) -> list[LiveKey]:
    """Return the next keys that are neither revoked nor expired, in the order of ids."""
    return [
        LiveKey(id, digest, actor, name, scopes_in(scopes), expires_at, rate)
        for id, digest, actor, name, scopes, expires_at, rate in await conn.fetch(LIVE, now, after, limit)
    ]


async def count_live(conn: Connection) -> int:
    """Return how many keys are neither revoked nor expired, at most 100,000."""
    return int(await conn.fetchval(COUNT_LIVE))


async def has_admin(conn: Connection) -> bool:
    """Return whether a live key may administer keys."""
    return bool(await conn.fetchval(HAS_ADMIN))


async def ending(conn: Connection, days: int) -> list[tuple[UUID, str, datetime]]:
    """Return id, name and end of the keys that expire within `days`, the first one first."""
    return [(row["id"], row["name"], row["expires_at"]) for row in await conn.fetch(ENDING, days)]


async def insert(conn: Connection, key: ApiKey) -> None:
    scopes = msgspec.json.encode(key.scopes).decode()
    identity = (key.id, key.family, key.name, key.shown, key.digest, scopes, key.created_by)
    await conn.execute(INSERT, *identity, key.created_at, key.expires_at, key.rate_per_min, key.adopts)


async def update(conn: Connection, key: ApiKey) -> None:
    """Write what a change or a rotation may change of a locked key."""
    await conn.execute(UPDATE, key.id, key.name, key.rate_per_min, key.replaced_by, key.expires_at)


async def revoke(conn: Connection, key: ApiKey, reason: str | None, now: datetime, *, family: bool) -> list[ApiKey]:
    """Revoke one key or its family; return those that were not revoked before."""
    rows = await conn.fetch(REVOKE, key.id, now, reason, key.family if family else None)
    return [KEY.read(row) for row in rows]


async def mark_used(conn: Connection, uses: Mapping[UUID, tuple[float, str]]) -> list[ApiKey]:
    """Keep when (epoch seconds) and from where keys were used last; return them as they are now."""
    times = [datetime.fromtimestamp(used_at, UTC) for used_at, _ in uses.values()]
    addresses = [address for _, address in uses.values()]
    return [KEY.read(row) for row in await conn.fetch(MARK_USED, list(uses), times, addresses)]


async def count_by_state(conn: Connection, now: datetime, limit: int) -> dict[str, int]:
    row = await conn.fetchrow(COUNT, now, limit)
    return dict(row or {})
