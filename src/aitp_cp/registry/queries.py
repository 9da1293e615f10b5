"""Statements on the names of agents: what they look like, and whose look the same."""

from collections.abc import Collection, Mapping
from datetime import datetime

from aitp_cp.db import Connection
from aitp_cp.registry.lookalikes import skeleton
from aitp_cp.registry.model import Namesake
from aitp_cp.registry.store import EFFECTIVE_STATUS, WITH_CONTAINMENT

# Who has left is no longer mistaken for somebody.
HAVE_NAMESAKES = """
SELECT aid FROM agents WHERE aid = ANY($1::text[]) AND EXISTS (
    SELECT 1 FROM agents AS other
    WHERE other.name_skeleton = agents.name_skeleton AND other.aid <> agents.aid AND other.status <> 'deregistered'
)
"""
NAMESAKES = f"""
SELECT aid, display_name, {EFFECTIVE_STATUS.format(now="$3")} FROM (
    SELECT aid, display_name, status, manifest_expires_at FROM agents WHERE name_skeleton = $1 AND aid <> $2
    ORDER BY aid LIMIT $4
) AS agents {WITH_CONTAINMENT}
ORDER BY aid
"""

UNREAD_NAMES = """
SELECT aid, display_name FROM agents WHERE name_skeleton IS NULL ORDER BY aid LIMIT $1 FOR NO KEY UPDATE SKIP LOCKED
"""
SET_SKELETONS = """
UPDATE agents SET name_skeleton = new.skeleton FROM unnest($1::text[], $2::text[]) AS new (aid, skeleton)
WHERE agents.aid = new.aid
"""


async def unread_names(conn: Connection, limit: int) -> dict[str, str]:
    """Return and lock agents without a skeleton of their name, skipping those that another replica handles."""
    return {row["aid"]: row["display_name"] for row in await conn.fetch(UNREAD_NAMES, limit)}


async def set_skeletons(conn: Connection, skeletons: Mapping[str, str]) -> None:
    await conn.execute(SET_SKELETONS, list(skeletons), list(skeletons.values()))


async def have_namesakes(conn: Connection, aids: Collection[str]) -> set[str]:
    """Return those of the agents whose name looks like that of another one, which has not left."""
    return {row["aid"] for row in await conn.fetch(HAVE_NAMESAKES, list(aids))}


async def namesakes(conn: Connection, name: str, aid: str, now: datetime, limit: int) -> list[Namesake]:
    """Return agents other than `aid` whose name looks like this one."""
    return [Namesake(**row) for row in await conn.fetch(NAMESAKES, skeleton(name), aid, now, limit)]
