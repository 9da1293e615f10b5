"""Indexes for lists that are read on by place: the events of one run, and trust anchors."""

from aitp_cp.db.migrations.steps import build_indexes

revision = "0012_keyset_indexes"
down_revision = "0011_outbox"

INDEXES = {
    "audit_events_run_ts_seq_idx": "audit_events (run_id, ts, seq)",
    "trust_anchors_created_idx": "trust_anchors (created_at, id)",
}


def upgrade() -> None:
    build_indexes(INDEXES)
