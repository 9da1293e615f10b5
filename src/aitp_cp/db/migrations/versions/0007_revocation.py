"""When each trust anchor's key set is to be fetched again: null, as for every anchor there is, means now."""

from aitp_cp.db.migrations.steps import execute_apart

revision = "0007_revocation"
down_revision = "0006_sweeps_and_figures"

STATEMENTS = ("ALTER TABLE trust_anchors ADD COLUMN IF NOT EXISTS jwks_due_at timestamptz",)


def upgrade() -> None:
    execute_apart(STATEMENTS)
