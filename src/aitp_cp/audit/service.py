"""Record administrative changes (contract, section 13)."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

from aitp_cp.audit import store
from aitp_cp.audit.model import Actor, Change
from aitp_cp.db import Connection

Action = Literal[
    "agent.register",
    "agent.update",
    "agent.deregister",
    "agent.contain",
    "agent.release",
    "agent.enroll",
    "agents.export",
    "agent.export",
    "agent-notes.update",
    "agent-notes.delete",
    "revocation.add",
    "webhook.create",
    "webhook.update",
    "webhook.delete",
    "webhook.test",
    "webhook.redeliver",
    "webhook.recover",
    "webhook.replay-missing",
    "webhook.resend",
    "webhook.circuit-breaker.reset",
    "trust-anchor.create",
    "trust-anchor.update",
    "trust-anchor.delete",
    "pinned-key.upsert",
    "pinned-key.delete",
    "key.create",
    "key.update",
    "key.rotate",
    "key.revoke",
    "console.login",
    "console.login-failed",
    "console.step-up",
    "console.logout",
    "console.session.end",
    "console.sessions.view",
    "console.export",
    "audit.export",
]


async def record(
    conn: Connection, action: Action, actor: Actor, target: str, details: Mapping[str, Any], now: datetime
) -> None:
    """Write one row in the caller's transaction: if it cannot be written, the change does not happen."""
    await record_all(conn, action, [Change(actor, target, details)], now)


async def record_all(conn: Connection, action: Action, changes: Sequence[Change], now: datetime) -> None:
    """Write a row for each change, in one statement."""
    try:
        await store.insert(conn, action, changes, now)
    except Exception:
        for change in changes:
            change.actor.on_failure()
        raise
