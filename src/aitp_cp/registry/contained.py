"""Whether an agent is contained: it has a row in `containments` that has not ended (contract, section 21).

A transaction that depends on it shares the agent's lock first (`share_agent`).
"""

from datetime import datetime

from aitp_cp.db import Connection
from aitp_cp.errors import AgentContained, AgentDeregistered

CONTAINED = """
SELECT coalesce(bool_or(released_at IS NULL), false), max(released_at) FROM containments WHERE aid = $1
"""


async def check_free(conn: Connection, aid: str) -> datetime | None:
    """Raise `AgentContained` while an agent is contained; return when its last containment ended."""
    contained, released_at = await conn.fetchrow(CONTAINED, aid) or (False, None)
    if contained:
        raise AgentContained
    return released_at


async def check_may_register(conn: Connection, aid: str, published_at: datetime) -> None:
    """Raise `AgentContained`, or `AgentDeregistered` for a manifest from before the end of the last containment.

    The agent's row says the same unless retention has deleted it.
    """
    released_at = await check_free(conn, aid)
    # Manifests are dated in whole seconds: one from the second of the release may be older than that.
    if released_at is not None and published_at <= released_at.replace(microsecond=0):
        raise AgentDeregistered
