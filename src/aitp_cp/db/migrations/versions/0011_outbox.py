"""A cursor behind which the log's events have their webhook deliveries, and one delivery per event and webhook."""

from aitp_cp.db.migrations.steps import build_indexes, execute, execute_apart

revision = "0011_outbox"
down_revision = "0010_cascade"

STATEMENTS = (
    """
    CREATE TABLE IF NOT EXISTS webhook_outbox (
        only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
        enqueued_through bigint NOT NULL,
        moved_at timestamptz NOT NULL DEFAULT now()
    )
    """,
    "ALTER TABLE webhooks ADD COLUMN IF NOT EXISTS sees_after bigint",
    # True for an event that an older control plane wrote, with deliveries of its own.
    "ALTER TABLE audit_events ADD COLUMN IF NOT EXISTS adopted boolean NOT NULL DEFAULT false",
)

# What the previous version appends from here on has its deliveries too: the unique index tells them apart.
BEGIN_AT_THE_END = """
INSERT INTO webhook_outbox (enqueued_through) SELECT coalesce(max(seq), 0) FROM audit_events
ON CONFLICT DO NOTHING
"""

# Rows without an event, of tests and of older control planes, stay: nulls are distinct.
INDEXES = {"webhook_deliveries_event_idx": "webhook_deliveries (event_id, webhook_id)"}


def upgrade() -> None:
    execute_apart(STATEMENTS)
    execute(BEGIN_AT_THE_END)
    build_indexes(INDEXES, unique=True)
