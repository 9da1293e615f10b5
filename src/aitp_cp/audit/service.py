"""Recording and listing administrative changes (contract, section 13)."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal
from uuid import uuid4

import msgspec

from aitp_cp.audit import store
from aitp_cp.audit.model import Actor, AuditPage
from aitp_cp.db import Connection
from aitp_cp.db.keyset import Window

Action = Literal[
    "agent.register",
    "agent.update",
    "agent.deregister",
    "revocation.add",
    "webhook.create",
    "webhook.update",
    "webhook.delete",
    "webhook.test",
    "webhook.redeliver",
    "webhook.circuit-breaker.reset",
    "trust-anchor.create",
    "trust-anchor.update",
    "trust-anchor.delete",
    "pinned-key.upsert",
    "pinned-key.delete",
]


async def record(
    conn: Connection, action: Action, actor: Actor, target: str, details: Mapping[str, Any], now: datetime
) -> None:
    """Write one row in the caller's transaction: if it cannot be written, the change does not happen."""
    text = msgspec.json.encode(details).decode()
    try:
        await store.insert(conn, uuid4(), now, (action, actor.id, target[:512], text, actor.request_id))
    except Exception:
        actor.on_failure()
        raise


async def page(conn: Connection, window: Window) -> AuditPage:
    """Newest first; `count` is the number of rows on this page."""
    return await store.page(conn, window)
