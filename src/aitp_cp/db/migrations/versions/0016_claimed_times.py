"""Add the time that an event claims, where history orders it by its receipt; old rows stay as they are."""

from aitp_cp.db.migrations.steps import build_indexes, execute_apart

revision = "0016_claimed_times"
down_revision = "0015_callers"

STATEMENTS = ("ALTER TABLE audit_events ADD COLUMN IF NOT EXISTS claimed_ts timestamptz",)

# Few rows: a history since a time looks here for those that only claim to be younger.
INDEXES = {"audit_events_claimed_idx": "audit_events (ts) WHERE claimed_ts IS NOT NULL"}


def upgrade() -> None:
    execute_apart(STATEMENTS)
    build_indexes(INDEXES)
