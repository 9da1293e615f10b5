"""The commit order of the log: `seq`, given to every event that is already there, oldest first.

The column has no default: a TypeScript control plane that is rolled back to goes on inserting rows
without it, and a job gives those theirs later.
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
