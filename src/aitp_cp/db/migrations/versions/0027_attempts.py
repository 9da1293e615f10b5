"""Each attempt of a delivery, where a webhook's events begin, and indexes for the filters of the admin audit."""

from aitp_cp.db.migrations.steps import build_indexes, execute_apart

revision = "0027_attempts"
down_revision = "0026_insight"

STATEMENTS = (
    # They go with their delivery, whichever version deletes it.
    """
    CREATE TABLE IF NOT EXISTS webhook_attempts (
        delivery_id uuid NOT NULL REFERENCES webhook_deliveries (id) ON DELETE CASCADE,
        n integer NOT NULL,
        at timestamptz NOT NULL,
        ms integer NOT NULL,
        status integer,
        error text,
        head text,
        cut boolean NOT NULL,
        PRIMARY KEY (delivery_id, n)
    )
    """,
    "ALTER TABLE webhooks ADD COLUMN IF NOT EXISTS created_after bigint",
)
INDEXES = {
    "admin_audit_target_newest_idx": "admin_audit_log (target_id, created_at DESC, id DESC)",
    "admin_audit_actor_newest_idx": "admin_audit_log (actor_id, created_at DESC, id DESC)",
    "admin_audit_action_newest_idx": "admin_audit_log (action, created_at DESC, id DESC)",
    "admin_audit_request_idx": "admin_audit_log (request_id, created_at DESC, id DESC)",
}


def upgrade() -> None:
    execute_apart(STATEMENTS)
    build_indexes(INDEXES)
