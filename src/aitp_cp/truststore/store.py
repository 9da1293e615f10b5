"""Statements on trust_anchors and pinned_keys."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from aitp_cp.clock import iso_or_none
from aitp_cp.db import Connection, Where
from aitp_cp.db.distinct import distinct
from aitp_cp.db.keyset import Order, Page, Window
from aitp_cp.db.pages import LONG_PAGE_BYTES, json_size
from aitp_cp.db.views import View
from aitp_cp.truststore.model import (
    ANCHOR_ORDER,
    PINNED_ORDER,
    AnchorList,
    AnchorView,
    CachedKeys,
    Due,
    PinnedKey,
    PinnedKeyList,
    PinnedKeyView,
    Source,
)

ANCHOR = View(AnchorView, {"last_error": "jwks_error", "last_error_at": "jwks_error_at"})

# 1500 bytes are the limit of all members but the URLs.
LIST = ANCHOR_ORDER.list(
    ANCHOR.sql,
    "trust_anchors",
    size=f"1500 + {json_size('issuer_url')} + {json_size('jwks_url')}",
)

FIND = f"SELECT {ANCHOR.sql} FROM trust_anchors WHERE id = $1"

LOCK = f"{FIND} FOR UPDATE"

NAMESPACES = (distinct("trust_anchors", "namespace"), distinct("pinned_keys", "namespace"))

FIND_ID = "SELECT id FROM trust_anchors WHERE namespace = $1 AND issuer_url = $2"

INSERT_NEW = """
INSERT INTO trust_anchors (id, namespace, issuer_url, jwks_url, label, added_by, created_at, updated_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $7)
ON CONFLICT (namespace, issuer_url) DO NOTHING
RETURNING true
"""

REPLACE = """
UPDATE trust_anchors SET namespace = $2, issuer_url = $3, jwks_url = $4, label = $5, updated_at = $6 WHERE id = $1
"""

FORGET_KEYS = """
UPDATE trust_anchors
SET jwks_cache = NULL, jwks_cached_at = NULL, jwks_due_at = NULL, jwks_error = NULL, jwks_error_at = NULL
WHERE id = $1
"""

DELETE = f"DELETE FROM trust_anchors WHERE id = $1 RETURNING {ANCHOR.sql}"

DUE_TIMES = "SELECT id, jwks_due_at FROM trust_anchors WHERE id = ANY($1::uuid[])"

FIND_KEYS = "SELECT jwks_cache, jwks_cached_at, updated_at FROM trust_anchors WHERE id = $1"

CLAIM_DUE = """
UPDATE trust_anchors
-- Lease: a claimed anchor falls due again when its lease ends, by the database's clock.
SET jwks_due_at = now() + $1::interval
WHERE id IN (
    SELECT id FROM trust_anchors
    WHERE jwks_due_at IS NULL OR jwks_due_at <= now()
    -- New anchors first, then those that have waited longest.
    ORDER BY jwks_due_at NULLS FIRST, id
    -- Room of this process.
    LIMIT $2
    FOR NO KEY UPDATE SKIP LOCKED
)
RETURNING id, issuer_url, jwks_url
"""

# Neither changes an anchor whose source was changed since it was claimed.
KEEP_KEYS = """
UPDATE trust_anchors
SET jwks_cache = $4::jsonb, jwks_cached_at = now(), jwks_due_at = now() + $5::interval,
    jwks_error = NULL, jwks_error_at = NULL
WHERE id = $1 AND issuer_url = $2 AND jwks_url IS NOT DISTINCT FROM $3
"""

KEEP_FAILURE = """
UPDATE trust_anchors SET jwks_due_at = now() + $5::interval, jwks_error = $4, jwks_error_at = now()
WHERE id = $1 AND issuer_url = $2 AND jwks_url IS NOT DISTINCT FROM $3
"""

PINNED = View(PinnedKeyView)

# 300 bytes are the limit of all other members.
LIST_PINNED = PINNED_ORDER.list(
    PINNED.sql,
    "pinned_keys",
    size=f"300 + {json_size('concat(namespace, aid, pubkey, label, added_by)')}",
    most=LONG_PAGE_BYTES,
)

# An older control plane may have stored the other spelling of an AID.
FIND_PINNED = f"""
SELECT {PINNED.sql} FROM pinned_keys
WHERE namespace = $1 AND aid IN ($2, $3)
ORDER BY aid <> $2
LIMIT 1
"""

UPSERT_PINNED = f"""
INSERT INTO pinned_keys (namespace, aid, pubkey, label, expires_at, added_by, created_at, updated_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $7)
ON CONFLICT (namespace, aid) DO UPDATE
SET pubkey = excluded.pubkey, label = excluded.label, expires_at = excluded.expires_at,
    added_by = excluded.added_by, updated_at = excluded.updated_at
RETURNING {PINNED.sql}
"""

DELETE_PINNED = "DELETE FROM pinned_keys WHERE namespace = $1 AND aid IN ($2, $3) RETURNING aid"


async def list_anchors(conn: Connection, namespace: str | None, window: Window) -> AnchorList:
    """Return a page of the anchors of one namespace or of all, oldest first."""
    page = await _page(conn, LIST, ANCHOR_ORDER, namespace, window)
    return AnchorList([ANCHOR.read(row) for row in page.rows], page.next_before)


async def find(conn: Connection, id: UUID) -> AnchorView | None:
    return ANCHOR.find(await conn.fetchrow(FIND, id))


async def due_times(conn: Connection, ids: Sequence[UUID]) -> dict[UUID, str | None]:
    """Return when the key set of each of these anchors is fetched next, None for at once."""
    return {row["id"]: iso_or_none(row["jwks_due_at"]) for row in await conn.fetch(DUE_TIMES, ids)}


async def lock(conn: Connection, id: UUID) -> AnchorView | None:
    return ANCHOR.find(await conn.fetchrow(LOCK, id))


async def find_id(conn: Connection, namespace: str, issuer_url: str) -> UUID | None:
    """Return the id of the anchor that has this namespace and issuer."""
    id: UUID | None = await conn.fetchval(FIND_ID, namespace, issuer_url)
    return id


async def insert_new(conn: Connection, anchor: AnchorView, now: datetime) -> bool:
    """Insert an anchor; False when the namespace has this issuer already. Waits for a concurrent creation."""
    return bool(await conn.fetchval(INSERT_NEW, *_values(anchor), anchor.added_by, now))


async def replace(conn: Connection, anchor: AnchorView, now: datetime) -> None:
    """Store a locked anchor's members; raises `UniqueViolation` when another has this namespace and issuer."""
    await conn.execute(REPLACE, *_values(anchor), now)


async def forget_keys(conn: Connection, id: UUID) -> None:
    """Drop the key set, so that it is fetched again at once."""
    await conn.execute(FORGET_KEYS, id)


async def delete(conn: Connection, id: UUID) -> AnchorView | None:
    return ANCHOR.find(await conn.fetchrow(DELETE, id))


async def find_keys(conn: Connection, id: UUID) -> CachedKeys | None:
    """Return the key set; an older control plane may have left it without a time."""
    row = await conn.fetchrow(FIND_KEYS, id)
    if row is None or row["jwks_cache"] is None:
        return None
    return CachedKeys(row["jwks_cache"], row["jwks_cached_at"] or row["updated_at"])


async def claim_due(conn: Connection, lease: timedelta, limit: int) -> list[Due]:
    """Claim at most `limit` anchors whose key set is due."""
    rows = await conn.fetch(CLAIM_DUE, lease, limit)
    return [Due(row["id"], Source(row["issuer_url"], row["jwks_url"])) for row in rows]


async def keep_keys(conn: Connection, due: Due, text: str, again_in: timedelta) -> None:
    """Store a key set, due again in `again_in`."""
    await conn.execute(KEEP_KEYS, *_claimed(due), text, again_in)


async def keep_failure(conn: Connection, due: Due, reason: str, again_in: timedelta) -> None:
    """Keep the last key set, and show on the anchor why it could not be renewed."""
    await conn.execute(KEEP_FAILURE, *_claimed(due), reason, again_in)


async def list_pinned(conn: Connection, namespace: str | None, window: Window) -> PinnedKeyList:
    """Return a page of the keys of one namespace or of all, by namespace and AID."""
    page = await _page(conn, LIST_PINNED, PINNED_ORDER, namespace, window)
    return PinnedKeyList([PINNED.read(row) for row in page.rows], page.next_before)


async def find_pinned(conn: Connection, namespace: str, aid: str, spelling: str) -> PinnedKeyView | None:
    """Find a key by the canonical AID, or by the `spelling` that the caller used."""
    return PINNED.find(await conn.fetchrow(FIND_PINNED, namespace, aid, spelling))


async def upsert_pinned(conn: Connection, key: PinnedKey, added_by: str, now: datetime) -> PinnedKeyView:
    values = (key.namespace, key.aid, key.pubkey, key.label, key.expires_at)
    row = await conn.fetchrow(UPSERT_PINNED, *values, added_by, now)
    assert row is not None  # RETURNING gives the row in either case
    return PINNED.read(row)


async def delete_pinned(conn: Connection, namespace: str, aid: str, spelling: str) -> bool:
    """Return whether there was such a key."""
    return await conn.fetchval(DELETE_PINNED, namespace, aid, spelling) is not None


async def namespaces(conn: Connection, limit: int) -> set[str]:
    """Return the first namespaces that anchors and pinned keys are in."""
    rows = [row for statement in NAMESPACES for row in await conn.fetch(statement, limit)]
    return {row["namespace"] for row in rows}


async def _page(conn: Connection, query: str, order: Order, namespace: str | None, window: Window) -> Page:
    where = Where()
    where.add("namespace = {}", namespace)
    return await order.fetch(conn, query, where, window)


def _claimed(due: Due) -> Sequence[object]:
    return due.id, due.source.issuer_url, due.source.jwks_url


def _values(anchor: AnchorView) -> Sequence[object]:
    return anchor.id, anchor.namespace, anchor.issuer_url, anchor.jwks_url, anchor.label
