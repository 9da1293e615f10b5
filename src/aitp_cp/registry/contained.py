"""Whether an agent is contained: it has a row in `containments` that has not ended (contract, section 21)."""

from datetime import datetime

from aitp_cp.db import Connection
from aitp_cp.errors import AgentContained, AgentDeregistered
from aitp_cp.registry.model import Bound

BOUND = """
SELECT coalesce(bool_or(released_at IS NULL), false) AS contained, max(released_at) AS released_at
FROM containments WHERE aid = $1
"""


async def bound(conn: Connection, aid: str) -> Bound:
    """Return what containments say about an AID.

    A transaction that depends on it shares the agent's lock first (`share_agent`).
    """
    row = await conn.fetchrow(BOUND, aid)
    assert row is not None
    return Bound(**row)


async def check_free(conn: Connection, aid: str) -> None:
    """Raise `AgentContained` while an agent is contained."""
    if (await bound(conn, aid)).contained:
        raise AgentContained


async def check_may_register(conn: Connection, aid: str, published_at: datetime) -> None:
    """Raise `AgentContained`, or `AgentDeregistered` for a manifest from before the end of the last containment.

    The agent's row says the same unless retention has deleted it.
    """
    known = await bound(conn, aid)
    if known.contained:
        raise AgentContained
    # Manifests are dated in whole seconds: one from the second of the release may be older than that.
    if known.released_at is not None and published_at <= known.released_at.replace(microsecond=0):
        raise AgentDeregistered
