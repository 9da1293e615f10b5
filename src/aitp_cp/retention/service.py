"""The retention sweep (contract, section 16)."""

from collections.abc import Awaitable, Callable
from datetime import datetime

from aitp_cp.accounts import store as accounts
from aitp_cp.agent_auth import store as agent_auth
from aitp_cp.audit import store as audit
from aitp_cp.clock import kept_from
from aitp_cp.db import Connection, server_time
from aitp_cp.db.locks import RETENTION, try_lock
from aitp_cp.db.sweep import OldRows
from aitp_cp.deliveries import outbox
from aitp_cp.deliveries import store as deliveries
from aitp_cp.events import counts as events
from aitp_cp.events import service as log
from aitp_cp.idempotency import store as idempotency
from aitp_cp.registry import store as registry
from aitp_cp.retention.model import Policy
from aitp_cp.settings import Settings
from aitp_cp.tcts import store as tcts


async def forget_events(conn: Connection, before: datetime, limit: int) -> int:
    """Events whose deliveries are not enqueued yet stay, however old they are."""
    return await log.forget(conn, before, limit, await outbox.position(conn))


def _policy(table: str, days: str | None, rows: OldRows) -> Policy:
    return Policy(table, days, rows.delete, rows.count)


# Never swept: revocation_entries, issued_tcts, delegations, trust_anchors, pinned_keys, handshake_sessions,
# agent_notes, console_views, and agents that merely expired.
POLICIES = (
    Policy("audit_events", "audit_events_ttl_days", forget_events, events.count_due),
    _policy("webhook_deliveries", "webhook_delivery_ttl_days", deliveries.FINISHED),
    _policy("admin_audit_log", "admin_audit_ttl_days", audit.OLD),
    _policy("idempotency_keys", "idempotency_key_ttl_days", idempotency.OLD),
    _policy("enrollment_jtis", None, registry.OLD_TOKENS),
    _policy("agent_nonces", None, agent_auth.OLD_NONCES),
    _policy("console_sessions", None, accounts.OLD),
    _policy("agents", "expired_agent_grace_days", registry.LONG_GONE),
    # What a report has revoked stays revoked; a token that is first reported after the sweep does not.
    # Last, because a report of a swept jti waits for the sweep's transaction and holds up others.
    _policy("revoked_reports", "audit_events_ttl_days", tcts.OLD_REPORTS),
    _policy("signed_revocations", "audit_events_ttl_days", tcts.OLD_SIGNED),
)


async def moment(conn: Connection, now: datetime) -> datetime:
    """Return the earlier of this process's time and the database's: a clock that is ahead must not make rows due."""
    return min(now, await server_time(conn))


async def sweep(conn: Connection, settings: Settings, now: datetime) -> dict[str, int] | None:
    """Delete at most a batch per table in the caller's transaction; return the number of rows by table.

    None when another process sweeps.
    """
    if not await try_lock(conn, RETENTION):
        return None
    await registry.date_the_gone(conn)
    limit = settings.retention_batch_limit
    return await _each(settings, now, lambda policy, before: policy.delete(conn, before, limit))


async def due(conn: Connection, settings: Settings, now: datetime, limit: int) -> dict[str, int]:
    """Count the rows of each table that wait for a sweep, up to `limit`."""
    return await _each(settings, now, lambda policy, before: policy.count(conn, before, limit))


async def _each(
    settings: Settings, now: datetime, step: Callable[[Policy, datetime], Awaitable[int]]
) -> dict[str, int]:
    """Take a step for each table, with the time before which its rows are due, unless they are kept for ever."""
    rows = {}
    for policy in POLICIES:
        before = now if policy.days is None else kept_from(now, getattr(settings, policy.days))
        rows[policy.table] = 0 if before is None else await step(policy, before)
    return rows
