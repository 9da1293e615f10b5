"""Statements on agents and enrollment_jtis."""

from collections.abc import Iterable
from datetime import datetime
from urllib.parse import quote, urlsplit

import msgspec

from aitp_cp.clock import iso, iso_or_none
from aitp_cp.db import Connection, Record, Where
from aitp_cp.db.arrays import stored_array
from aitp_cp.db.distinct import distinct
from aitp_cp.db.keyset import Window
from aitp_cp.db.pages import json_size, within_bytes
from aitp_cp.db.sweep import OldRows
from aitp_cp.db.views import View
from aitp_cp.protocol.manifest import Manifest
from aitp_cp.registry.lookalikes import skeleton
from aitp_cp.registry.model import (
    ORDER,
    AgentList,
    AgentSummary,
    AgentView,
    ExpiredAgent,
    ListFilter,
    OperatorFilter,
    Status,
    StoredManifest,
    StoredText,
)

INSERT_NEW = """
INSERT INTO agents (aid, display_name, handshake_endpoint, offered_caps, manifest_json, manifest_expires_at,
                    manifest_published_at, manifest_sha256, namespace, name_skeleton, status, registered_at,
                    last_enrolled_at)
VALUES ($1, $2, $3, $4::jsonb, $5, $6, $7, $8, $9, $10, 'active', $11, $11)
ON CONFLICT (aid) DO NOTHING
RETURNING aid
"""

LOCK = """
SELECT status, display_name, namespace, registered_at, manifest_json, manifest_published_at AS published_at,
       deregistered_at
FROM agents WHERE aid = $1 FOR NO KEY UPDATE
"""

LOCK_PRESENT = """
SELECT aid, display_name FROM agents WHERE aid = ANY($1::text[]) AND status <> 'deregistered'
ORDER BY aid FOR NO KEY UPDATE
"""

REPLACE = """
UPDATE agents
SET display_name = $2, handshake_endpoint = $3, offered_caps = $4::jsonb, manifest_json = $5,
    manifest_expires_at = $6, manifest_published_at = $7, manifest_sha256 = $8, namespace = $9,
    name_skeleton = $10, status = 'active', deregistered_at = NULL, last_enrolled_at = $11
WHERE aid = $1
"""

# No event tells the caches of other processes that an agent has moved, so a notification does.
MOVED_CHANNEL = "aitp_cp_agents_moved"
MOVE = f"""
WITH moved AS (UPDATE agents SET namespace = $2 WHERE aid = $1 RETURNING aid)
SELECT pg_notify('{MOVED_CHANNEL}', aid) FROM moved
"""

TOUCH = "UPDATE agents SET last_enrolled_at = $2 WHERE aid = $1"

CONSUME = """
INSERT INTO enrollment_jtis (jti, expires_at, created_at) VALUES ($1, $2, $3)
ON CONFLICT (jti) DO NOTHING
RETURNING jti
"""

# A containment that has not ended goes before any status. Between two runs of the expiry job an agent past its
# manifest's expiry already counts as expired.
EFFECTIVE_STATUS = """
CASE WHEN contained_at IS NOT NULL THEN 'contained'
     WHEN status = 'active' AND manifest_expires_at <= {now} THEN 'expired' ELSE status END AS status"""

WITH_CONTAINMENT = """LEFT JOIN (
    SELECT aid AS contained_aid, contained_at FROM containments WHERE released_at IS NULL
) AS open ON contained_aid = aid"""
# Evaluated once for a statement, and then looked up for each row.
CONTAINED = "aid IN (SELECT aid FROM containments WHERE released_at IS NULL)"

COLUMNS = """aid, display_name, handshake_endpoint, offered_caps, {status}, namespace, registered_at, last_enrolled_at,
last_seen_at, manifest_expires_at, {contained}"""
SHOWN = COLUMNS.format(status="status", contained="contained_at")
SELECT = f"SELECT {COLUMNS}{{manifest}} FROM agents {{open}}"

_ANY = {"open": WITH_CONTAINMENT, "contained": "contained_at"}
# Where the filter leaves active agents only, no containment needs to be looked up.
_ACTIVE = {"open": "", "contained": "NULL::timestamptz AS contained_at", "status": "status"}

_AT = SELECT.format(status=EFFECTIVE_STATUS.format(now="$2"), manifest="", **_ANY)
FIND = f"{_AT} WHERE aid = $1"
FIND_ALL = f"{_AT} WHERE aid = ANY($1::text[]) ORDER BY aid"
STATUS_OF = f"SELECT {EFFECTIVE_STATUS.format(now='$2')} FROM agents {WITH_CONTAINMENT} WHERE aid = $1"

# What begins with a text lies between it and the same with the last character there is: an index serves that whatever
# the text holds, and LIKE only while the server knows the text.
_BEGINS = "({} ~>=~ ({}) AND {} ~<~ ({} || chr(1114111)))"
_SPELLINGS = ("''", "'aid:pubkey:'", "'aid:pubkey:p256:'")
_MATCHES = " OR ".join(
    [
        _BEGINS.format("lower(display_name)", "lower({})", "lower(display_name)", "lower({})"),
        *(_BEGINS.format("aid", f"{start} || {{}}", "aid", f"{start} || {{}}") for start in _SPELLINGS),
        _BEGINS.format("reverse(aid)", "reverse({})", "reverse(aid)", "reverse({})"),
        "offered_caps @> jsonb_build_array({}::text)",
    ]
)
PAGE = f"{SELECT} WHERE {{where}} ORDER BY {ORDER.sql} LIMIT {{limit}} OFFSET {{offset}}"

# An upper bound that is cheap to compute. The AID appears twice, once percent-encoded, and so does the endpoint, in the
# hint. Escapes at most double an endpoint and take six bytes for a character of a name. 650 bytes hold the rest: names
# of members, times, status and namespace.
RECORD_BYTES = """650 + 4 * octet_length(aid) + 6 * octet_length(display_name) + 4 * octet_length(handshake_endpoint)
+ octet_length(offered_caps::text)"""

LIST = within_bytes(PAGE, columns=SHOWN, size=RECORD_BYTES, order=ORDER.sql)

# Manifests are measured as stored first, which needs only their lengths, and then as they are sent.
LIST_WITH_MANIFESTS = within_bytes(
    within_bytes(PAGE, columns=f"{SHOWN}, manifest_json", size="octet_length(manifest_json)", order=ORDER.sql),
    columns=f"{SHOWN}, manifest_json",
    size=f"{RECORD_BYTES} + {json_size('manifest_json')}",
    order=ORDER.sql,
    more="more",
)

MANIFEST_TEXT = f"""
SELECT manifest_json AS text, {EFFECTIVE_STATUS.format(now="$2")}, manifest_expires_at AS expires_at
FROM agents {WITH_CONTAINMENT} WHERE aid = $1
"""

DEREGISTER = """
UPDATE agents SET status = 'deregistered', deregistered_at = $2 WHERE aid = ANY($1::text[])
"""

# An older control plane beside this one writes no date: the grace period begins when a sweep notices.
DATE_THE_GONE = """
UPDATE agents SET deregistered_at = now() WHERE status = 'deregistered' AND deregistered_at IS NULL
"""

NAMES = "SELECT aid, display_name FROM agents WHERE aid = ANY($1::text[])"

# Row by row, until the page is full.
UNOWNED = "(SELECT owner FROM agent_notes WHERE agent_notes.aid = agents.aid) IS NULL"

COUNT_ACTIVE = f"""
SELECT count(*) FROM agents
WHERE status = 'active' AND (manifest_expires_at IS NULL OR manifest_expires_at > $1) AND NOT {CONTAINED}
"""

COUNT_BY_STATUS = f"""
SELECT count(*) FILTER (WHERE status = 'active'), count(*) FILTER (WHERE status = 'expired')
FROM (SELECT CASE WHEN {CONTAINED} THEN 'contained' ELSE status END AS status FROM agents LIMIT $1) AS sample
"""

SUMMARY = View(AgentSummary)
SUMMARIES = within_bytes(
    ORDER.select(SUMMARY.sql.replace("status", "{status}"), f"agents {WITH_CONTAINMENT}"),
    columns=SUMMARY.sql,
    size=f"300 + {json_size('aid')} + {json_size('display_name')}",
    order=ORDER.sql,
)

NAMESPACES = distinct("agents", "namespace")

LONG_GONE = OldRows("agents", "deregistered_at", "status = 'deregistered'")
OLD_TOKENS = OldRows("enrollment_jtis", "expires_at")

EXPIRE_DUE = f"""
UPDATE agents SET status = 'expired'
WHERE aid IN (
    SELECT aid FROM agents
    WHERE status = 'active' AND manifest_expires_at <= $1 AND NOT {CONTAINED}
    ORDER BY aid
    LIMIT $2
    FOR NO KEY UPDATE SKIP LOCKED
)
RETURNING aid, display_name, namespace
"""


async def insert_new(conn: Connection, manifest: Manifest, namespace: str, now: datetime) -> bool:
    """Return whether the agent was unknown; waits for a concurrent registration of the same agent."""
    return await conn.fetchval(INSERT_NEW, *_columns(manifest, namespace), now) is not None


async def lock(conn: Connection, aid: str) -> StoredManifest | None:
    row = await conn.fetchrow(LOCK, aid)
    return None if row is None else StoredManifest(**row)


async def replace(conn: Connection, manifest: Manifest, namespace: str, now: datetime) -> None:
    await conn.execute(REPLACE, *_columns(manifest, namespace), now)


async def move(conn: Connection, aid: str, namespace: str) -> None:
    await conn.execute(MOVE, aid, namespace)


async def touch(conn: Connection, aid: str, now: datetime) -> None:
    await conn.execute(TOUCH, aid, now)


async def consume_token(conn: Connection, jti: str, expires_at: datetime, now: datetime) -> bool:
    """Return whether the token was unused; waits for a concurrent use of the same token."""
    return await conn.fetchval(CONSUME, jti, expires_at, now) is not None


async def find(conn: Connection, aid: str, now: datetime) -> tuple[AgentView, datetime | None] | None:
    """Return the agent, and when its manifest expires."""
    row = await conn.fetchrow(FIND, aid, now)
    return None if row is None else (_view(row, msgspec.UNSET), row["manifest_expires_at"])


async def find_all(conn: Connection, aids: list[str], now: datetime) -> list[AgentView]:
    """Return those of the agents that are known, in the order of AIDs."""
    return [_view(row, msgspec.UNSET) for row in await conn.fetch(FIND_ALL, aids, now)]


async def status_of(conn: Connection, aid: str, now: datetime) -> str | None:
    """Return the agent's status, None for an agent that never registered."""
    status: str | None = await conn.fetchval(STATUS_OF, aid, now)
    return status


async def list_agents(
    conn: Connection, filter: ListFilter, now: datetime, window: Window
) -> tuple[AgentList, datetime | None]:
    """Return a page, and when the first of its manifests expires.

    It ends at its limit or at `PAGE_BYTES`, whichever comes first.
    """
    where = Where()
    moment = where.bind(now)
    _add_status(where, filter.status, moment)
    where.add("offered_caps @> jsonb_build_array({}::text)", filter.capability)
    where.add("aid = {}", filter.aid)
    where.add("display_name = {}", filter.display_name)
    where.add("namespace = {}", filter.namespace)
    where.add(f"({_MATCHES})", filter.q)
    where.add("name_skeleton = {}", None if filter.looks_like is None else skeleton(filter.looks_like))
    where.add("manifest_expires_at >= {}", filter.expires_after)
    where.add("manifest_expires_at < {}", filter.expires_before)
    if isinstance(filter, OperatorFilter):
        where.add("aid IN (SELECT aid FROM agent_notes WHERE owner = {})", filter.owner)
        if filter.unowned:
            where.always(UNOWNED)
    any_status = {"status": EFFECTIVE_STATUS.format(now=moment), **_ANY}
    page = await ORDER.fetch(
        conn,
        LIST_WITH_MANIFESTS if filter.include_manifest else LIST,
        where,
        window,
        manifest=", manifest_json" if filter.include_manifest else "",
        **(_ACTIVE if filter.status == Status.ACTIVE else any_status),
    )
    shown = [_view(row, row["manifest_json"] if filter.include_manifest else msgspec.UNSET) for row in page.rows]
    expiries = [row["manifest_expires_at"] for row in page.rows if row["manifest_expires_at"] is not None]
    return AgentList(shown, page.next_before), min(expiries, default=None)


async def manifest_text(conn: Connection, aid: str, now: datetime) -> StoredText | None:
    row = await conn.fetchrow(MANIFEST_TEXT, aid, now)
    return None if row is None else StoredText(**row)


async def lock_present(conn: Connection, aids: list[str]) -> dict[str, str]:
    """Lock those of the agents that have not left, in key order; return their names."""
    return {row["aid"]: row["display_name"] for row in await conn.fetch(LOCK_PRESENT, aids)}


async def deregister(conn: Connection, aids: list[str], now: datetime) -> None:
    await conn.execute(DEREGISTER, aids, now)


async def expire_due(conn: Connection, now: datetime, limit: int) -> list[ExpiredAgent]:
    """Expire up to `limit` agents, skipping those that another replica is expiring; return them by AID."""
    rows = await conn.fetch(EXPIRE_DUE, now, limit)
    return sorted((ExpiredAgent(**row) for row in rows), key=lambda agent: agent.aid)


async def date_the_gone(conn: Connection) -> None:
    """Give agents that left without a date one."""
    await conn.execute(DATE_THE_GONE)


async def names_of(conn: Connection, aids: Iterable[str | None]) -> dict[str, str]:
    """Return the display names of those of the agents that are registered."""
    named = sorted({aid for aid in aids if aid})
    return {row["aid"]: row["display_name"] for row in await conn.fetch(NAMES, named)} if named else {}


async def count_active(conn: Connection, now: datetime) -> int:
    return int(await conn.fetchval(COUNT_ACTIVE, now))


async def count_by_status(conn: Connection, limit: int) -> tuple[int, int]:
    """Return how many are active and how many expired, among the first `limit` of the table."""
    active, expired = await conn.fetchrow(COUNT_BY_STATUS, limit) or (0, 0)
    return active, expired


async def namespaces(conn: Connection, limit: int) -> list[str]:
    """Return the first namespaces that agents are or were in."""
    return [row["namespace"] for row in await conn.fetch(NAMESPACES, limit)]


async def summaries(
    conn: Connection, now: datetime, window: Window
) -> tuple[list[AgentSummary], str | msgspec.UnsetType]:
    """Return a page of all agents, in the order of registration, and the cursor of the next one."""
    where = Where()
    page = await ORDER.fetch(conn, SUMMARIES, where, window, status=EFFECTIVE_STATUS.format(now=where.bind(now)))
    return [SUMMARY.read(row) for row in page.rows], page.next_before


def _add_status(where: Where, status: str, moment: str) -> None:
    if status == "all":
        return
    if status == Status.ACTIVE:
        where.always(f"status = 'active' AND (manifest_expires_at IS NULL OR manifest_expires_at > {moment})")
        where.always(f"NOT {CONTAINED}")
        return
    where.always(f"contained_at IS {'NOT ' if status == Status.CONTAINED else ''}NULL")
    if status == Status.EXPIRED:
        where.always(f"(status = 'expired' OR (status = 'active' AND manifest_expires_at <= {moment}))")
    elif status != Status.CONTAINED:
        where.add("status = {}", status)


def _columns(manifest: Manifest, namespace: str) -> tuple[object, ...]:
    return (
        manifest.aid,
        manifest.display_name,
        manifest.handshake_endpoint,
        msgspec.json.encode(manifest.offered_caps).decode(),
        manifest.raw,
        manifest.expires_at,
        manifest.published_at,
        manifest.canonical_sha256,
        namespace,
        skeleton(manifest.display_name),
    )


def _view(row: Record, manifest_json: str | msgspec.UnsetType) -> AgentView:
    return AgentView(
        aid=row["aid"],
        display_name=row["display_name"],
        handshake_endpoint=row["handshake_endpoint"],
        offered_caps=stored_array(row["offered_caps"]),
        status=row["status"],
        namespace=row["namespace"],
        registered_at=iso(row["registered_at"]),
        last_enrolled_at=iso_or_none(row["last_enrolled_at"]),
        last_seen_at=iso_or_none(row["last_seen_at"]),
        manifest_url=f"/api/registry/agents/{quote(row['aid'], safe='')}/manifest",
        agent_manifest_hint=_manifest_hint(row["handshake_endpoint"]),
        manifest_expires_at=iso_or_none(row["manifest_expires_at"]),
        contained_at=iso_or_none(row["contained_at"]) or msgspec.UNSET,
        manifest_json=manifest_json,
    )


def _manifest_hint(endpoint: str) -> str | None:
    """Return where the agent probably serves its manifest: at the origin of its handshake endpoint."""
    try:
        parts = urlsplit(endpoint)
    except ValueError:
        return None
    if parts.scheme not in {"http", "https"} or not parts.netloc:
        return None
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}/.well-known/aitp-manifest"
