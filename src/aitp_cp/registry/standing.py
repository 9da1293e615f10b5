"""How agents stand, many at once: names and statuses, which expire soon, and whose names look alike."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from aitp_cp.db import Connection
from aitp_cp.registry.lookalikes import skeleton
from aitp_cp.registry.model import Namesake
from aitp_cp.registry.store import EFFECTIVE_STATUS, WITH_CONTAINMENT

MARKS = f"""
SELECT aid, display_name, {EFFECTIVE_STATUS.format(now="$2")}
FROM unnest($1::text[]) AS listed (aid) LEFT JOIN agents USING (aid) {WITH_CONTAINMENT}
"""

# The newest ones, so that the cost ends.
REGISTERED_SINCE = """
SELECT date_bin($2, LEAST(registered_at, '9999-12-31'), 'epoch'::timestamptz) AS bucket, count(*) AS count FROM (
    SELECT registered_at FROM agents WHERE registered_at >= $1 ORDER BY registered_at DESC LIMIT 100000
) AS newest
GROUP BY 1
"""
# Up to a limit, as every count that is only shown.
EXPIRING = """
SELECT count(*) AS count, min(manifest_expires_at) AS first FROM (
    SELECT manifest_expires_at FROM agents
    WHERE status = 'active' AND manifest_expires_at > $1 AND manifest_expires_at <= $2
    ORDER BY manifest_expires_at LIMIT 10000
) AS due
"""
NEWEST_ACTIVE = """
SELECT aid FROM (
    SELECT aid, status, manifest_expires_at FROM agents ORDER BY registered_at DESC, aid LIMIT $2
) AS newest
WHERE status = 'active' AND (manifest_expires_at IS NULL OR manifest_expires_at > $1)
"""
# The older of two is the one that is imitated.
LOOKALIKES_AMONG = """
SELECT newer.aid, older.aid AS other
FROM unnest($1::text[]) AS named (aid) JOIN agents AS newer USING (aid) CROSS JOIN LATERAL (
    SELECT aid FROM agents
    WHERE name_skeleton = newer.name_skeleton AND aid <> newer.aid AND status = 'active'
      AND (registered_at, aid) < (newer.registered_at, newer.aid)
    ORDER BY aid LIMIT 1
) AS older
WHERE newer.name_skeleton <> '' ORDER BY newer.registered_at DESC, newer.aid LIMIT $2
"""
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
    ORDER BY aid LIMIT 20
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


class Mark(NamedTuple):
    """What tells an agent from others: the name it claims, and its status; None where it was never registered."""

    display_name: str | None
    status: str | None


UNKNOWN = Mark(None, None)


async def marks(conn: Connection, aids: Sequence[str], now: datetime) -> dict[str, Mark]:
    """Return the names and statuses of agents; one that was never registered may be contained."""
    rows = await conn.fetch(MARKS, aids, now)
    return {row["aid"]: Mark(row["display_name"], row["status"]) for row in rows}


async def expiring(conn: Connection, now: datetime, until: datetime) -> tuple[int, datetime | None]:
    """Count the agents whose manifest expires until then, up to 10,000, and return when the first does."""
    count, first = await conn.fetchrow(EXPIRING, now, until) or (0, None)
    return count, first


async def newest_active(conn: Connection, now: datetime, limit: int) -> list[str]:
    """Return those of the newest agents that are active."""
    return [row["aid"] for row in await conn.fetch(NEWEST_ACTIVE, now, limit)]


async def lookalikes_among(conn: Connection, aids: Sequence[str], limit: int) -> list[tuple[str, str]]:
    """Return which of these agents have a name that looks like that of an older active one, with that one."""
    return [(row["aid"], row["other"]) for row in await conn.fetch(LOOKALIKES_AMONG, aids, limit)]


async def registered_since(conn: Connection, since: datetime, width: timedelta) -> dict[datetime, int]:
    """Count the agents first registered since then, by bucket of that width; the newest 100,000."""
    return {row["bucket"]: row["count"] for row in await conn.fetch(REGISTERED_SINCE, since, width)}


async def unread_names(conn: Connection, limit: int) -> dict[str, str]:
    """Return and lock agents without a skeleton of their name, skipping those that another replica handles."""
    return {row["aid"]: row["display_name"] for row in await conn.fetch(UNREAD_NAMES, limit)}


async def set_skeletons(conn: Connection, skeletons: Mapping[str, str]) -> None:
    await conn.execute(SET_SKELETONS, list(skeletons), list(skeletons.values()))


async def have_namesakes(conn: Connection, aids: Collection[str]) -> set[str]:
    """Return those of the agents whose name looks like that of another one, which has not left."""
    return {row["aid"] for row in await conn.fetch(HAVE_NAMESAKES, list(aids))} if aids else set()


async def namesakes(conn: Connection, name: str, aid: str, now: datetime) -> list[Namesake]:
    """Return the first agents, in the order of AIDs, other than `aid` whose name looks like this one."""
    return [Namesake(**row) for row in await conn.fetch(NAMESAKES, skeleton(name), aid, now)]
