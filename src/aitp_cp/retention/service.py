"""The retention sweep (contract, section 16)."""

from datetime import datetime, timedelta

from aitp_cp.db import Connection
<<<<<<< HEAD
from aitp_cp.db.locks import try_lock
from aitp_cp.deliveries import outbox
=======
from aitp_cp.db.locks import RETENTION, try_lock
>>>>>>> 730c5b7 (db: list every advisory lock with its order)
from aitp_cp.events import service as log
from aitp_cp.retention.model import Policy, Swept
from aitp_cp.retention.store import count_before, count_events, database_time, date_the_gone, delete_before
from aitp_cp.settings import Settings

FINISHED = " AND status IN ('delivered', 'failed')"
LONG_GONE = " AND status = 'deregistered'"


async def forget_events(conn: Connection, before: datetime, limit: int) -> int:
    """Events whose deliveries are not enqueued yet stay, however old they are."""
    return await log.forget(conn, before, limit, await outbox.position(conn))


# Never swept: revocation_entries, issued_tcts, delegations, trust_anchors, pinned_keys, handshake_sessions, and agents
# that merely expired.
POLICIES = (
    Policy("audit_events", "audit_events_ttl_days", forget_events, count_events),
    Policy(
        "webhook_deliveries",
        "webhook_delivery_ttl_days",
        delete_before("webhook_deliveries", "created_at", FINISHED),
        count_before("webhook_deliveries", "created_at", FINISHED),
    ),
    Policy(
        "admin_audit_log",
        "admin_audit_ttl_days",
        delete_before("admin_audit_log", "created_at"),
        count_before("admin_audit_log", "created_at"),
    ),
    Policy(
        "idempotency_keys",
        "idempotency_key_ttl_days",
        delete_before("idempotency_keys", "created_at"),
        count_before("idempotency_keys", "created_at"),
    ),
    Policy(
        "enrollment_jtis",
        None,
        delete_before("enrollment_jtis", "expires_at"),
        count_before("enrollment_jtis", "expires_at"),
    ),
    Policy(
        "agents",
        "expired_agent_grace_days",
        delete_before("agents", "deregistered_at", LONG_GONE),
        count_before("agents", "deregistered_at", LONG_GONE),
    ),
    # What a report has revoked stays so; of a token that is first reported after the sweep nobody knows it any more.
    # The last one, for a report of a swept jti waits for the sweep's transaction and holds others up.
    Policy(
        "revoked_reports",
        "audit_events_ttl_days",
        delete_before("revoked_reports", "created_at"),
        count_before("revoked_reports", "created_at"),
    ),
)


async def moment(conn: Connection, now: datetime) -> datetime:
    """The earlier of this process's time and the database's: a clock that runs ahead must not make rows due."""
    return min(now, await database_time(conn))


async def sweep(conn: Connection, settings: Settings, now: datetime) -> list[Swept] | None:
    """Delete at most a batch per table in the caller's transaction; None when another process is at it."""
    if not await try_lock(conn, RETENTION):
        return None
    await date_the_gone(conn)
    swept = []
    for policy in POLICIES:
        before = _before(policy, settings, now)
        rows = 0 if before is None else await policy.sweep(conn, before, settings.retention_batch_limit)
        swept.append(Swept(policy.table, rows))
    return swept


async def due(conn: Connection, settings: Settings, now: datetime, limit: int) -> list[Swept]:
    """How many rows of each table wait for a sweep, counted up to `limit`."""
    counted = []
    for policy in POLICIES:
        before = _before(policy, settings, now)
        rows = 0 if before is None else await policy.count_due(conn, before, limit)
        counted.append(Swept(policy.table, rows))
    return counted


def _before(policy: Policy, settings: Settings, now: datetime) -> datetime | None:
    """The moment before which rows of the table are due, None when they are kept for ever."""
    if policy.days is None:
        return now
    days: int = getattr(settings, policy.days)
    return now - timedelta(days=days) if days else None
