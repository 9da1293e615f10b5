"""The manifests that an agent registered, the newest twenty of each agent."""

from datetime import datetime

from aitp_cp.db import Connection
from aitp_cp.db.views import View
from aitp_cp.errors import NotFound, existing
from aitp_cp.protocol.manifest import Manifest
from aitp_cp.registry.model import KeptManifest, ManifestList

KEPT = 20

# The stored manifest where the history has none of it: an older control plane registered it.
UNKEPT = """
SELECT aid, digest AS sha256, (SELECT coalesce(max(seq), 0) + 1 FROM agent_manifests WHERE aid = $1) AS seq,
       manifest_published_at AS published_at, coalesce(last_enrolled_at, registered_at) AS received_at,
       manifest_json AS raw
FROM agents, coalesce(manifest_sha256, encode(sha256(convert_to(manifest_json, 'UTF8')), 'hex')) AS digest
WHERE aid = $1 AND NOT EXISTS (SELECT 1 FROM agent_manifests WHERE aid = $1 AND sha256 = digest)
"""

KEEP_STORED = f"""
INSERT INTO agent_manifests (aid, sha256, seq, published_at, received_at, raw) {UNKEPT}
ON CONFLICT (aid, sha256) DO NOTHING
"""

# A manifest that comes back is the newest one again.
KEEP = f"""
WITH kept AS (
    INSERT INTO agent_manifests (aid, sha256, seq, published_at, received_at, raw)
    SELECT $1::text, $2, coalesce(max(seq), 0) + 1, $3, $4, $5 FROM agent_manifests WHERE aid = $1::text
    ON CONFLICT (aid, sha256) DO UPDATE SET seq = excluded.seq, received_at = excluded.received_at, raw = excluded.raw
    RETURNING seq
)
DELETE FROM agent_manifests WHERE aid = $1::text AND seq <= (SELECT seq FROM kept) - {KEPT}
"""

ALL = f"""
SELECT sha256, seq, published_at, received_at, raw FROM agent_manifests WHERE aid = $1
UNION ALL
SELECT sha256, seq, published_at, received_at, raw FROM ({UNKEPT}) AS unkept
"""
MANIFEST = View(KeptManifest, {"bytes": "octet_length(raw)"})
LIST = f"SELECT {MANIFEST.sql} FROM ({ALL}) AS every ORDER BY seq DESC LIMIT {KEPT}"
FIND = f"SELECT seq, sha256, published_at, received_at, raw FROM ({ALL}) AS every WHERE"


async def keep_stored(conn: Connection, aid: str) -> None:
    """Keep the manifest that is about to be replaced, unless the history has it."""
    await conn.execute(KEEP_STORED, aid)


async def keep(conn: Connection, manifest: Manifest, now: datetime) -> None:
    """Keep a manifest that is being registered; the caller's transaction holds the agent's row."""
    await conn.execute(KEEP, manifest.aid, manifest.canonical_sha256, manifest.published_at, now, manifest.raw)


async def list_manifests(conn: Connection, aid: str) -> ManifestList:
    """Return the agent's manifests, newest first; raises `NotFound` for an agent that is not in the registry."""
    rows = await conn.fetch(LIST, aid)
    if not rows:
        raise NotFound("no such agent")
    return ManifestList([MANIFEST.read(row) for row in rows])


async def raw(conn: Connection, aid: str, sha256: str) -> str:
    """Return one of the agent's manifests exactly as registered; raises `NotFound`."""
    row = existing(await conn.fetchrow(f"{FIND} sha256 = $2", aid, sha256), "no such manifest")
    return str(row["raw"])


async def pair(conn: Connection, aid: str, before: int, after: int) -> tuple[str, str]:
    """Return two of the agent's manifests by their numbers; raises `NotFound`."""
    texts = {row["seq"]: row["raw"] for row in await conn.fetch(f"{FIND} seq = ANY($2::int[])", aid, [before, after])}
    if not texts.keys() >= {before, after}:
        raise NotFound("no such manifest")
    return texts[before], texts[after]
