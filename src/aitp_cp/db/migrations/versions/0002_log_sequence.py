"""Add `seq`, the commit order of the log, and number the existing events, oldest first.

The column has no default: after a rollback to the TypeScript control plane it inserts rows without
`seq`, and a job numbers them later.
"""

from aitp_cp.db.migrations.steps import build_indexes, execute_apart, number_events

revision = "0002_log_sequence"
down_revision = "0001_baseline"

COLUMN = (
    "ALTER TABLE audit_events ADD COLUMN IF NOT EXISTS seq bigint",
    "CREATE SEQUENCE IF NOT EXISTS audit_events_seq AS bigint OWNED BY audit_events.seq",
)


def upgrade() -> None:
    execute_apart(COLUMN)
    build_indexes({"audit_events_unsequenced_idx": "audit_events (ts, id) WHERE seq IS NULL"})
    number_events()
    build_indexes({"audit_events_seq_key": "audit_events (seq)"}, unique=True)
