"""Indexes for the retention sweep and the dashboard, and a date for agents that left before dates were kept."""

from aitp_cp.db.migrations.steps import build_indexes, execute

revision = "0006_sweeps_and_figures"
down_revision = "0005_log_horizon"

# Their grace period begins now: when they left is not known.
DATE_THE_GONE = "UPDATE agents SET deregistered_at = now() WHERE status = 'deregistered' AND deregistered_at IS NULL"

INDEXES = {
    "agents_display_name_idx": "agents (display_name)",
    "agents_deregistered_idx": "agents (deregistered_at) WHERE status = 'deregistered'",
    "audit_events_invocations_idx": "audit_events (aid_a) WHERE type = 'capability.invoked'",
}


def upgrade() -> None:
    execute(DATE_THE_GONE)
    build_indexes(INDEXES)
