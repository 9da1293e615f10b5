"""Statements on agent_nonces."""

from datetime import datetime
from uuid import UUID

from aitp_cp.db import Connection
from aitp_cp.db.sweep import OldRows

USE = "INSERT INTO agent_nonces (id, expires_at) VALUES ($1, $2) ON CONFLICT (id) DO NOTHING RETURNING id"

# A nonce that has expired is refused for its time, so its row says nothing any more.
OLD_NONCES = OldRows("agent_nonces", "expires_at")


async def use_nonce(conn: Connection, id: UUID, expires_at: datetime) -> bool:
    """Return whether the nonce was unused; waits for a concurrent use of the same one."""
    return await conn.fetchval(USE, id, expires_at) is not None
