"""Deleted webhooks wait for their rows to be swept; each webhook's queue and log has its own index."""

from aitp_cp.db.migrations.steps import build_indexes, execute

revision = "0008_webhooks"
down_revision = "0007_revocation"

COLUMNS = "ALTER TABLE webhooks ADD COLUMN IF NOT EXISTS deleted_at timestamptz"

INDEXES = {
    # A delivery is due when its lease, its pause or, from an older control plane, its creation is past.
    "webhook_deliveries_queue_idx": (
        "webhook_deliveries (webhook_id, coalesce(lease_until, next_retry_at, created_at)) "
        "WHERE status NOT IN ('delivered', 'failed')"
    ),
    "webhook_deliveries_status_newest_idx": "webhook_deliveries (webhook_id, status, created_at DESC, id)",
}


def upgrade() -> None:
    execute(COLUMNS)
    build_indexes(INDEXES)
