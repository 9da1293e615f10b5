"""An index for every list, claim and sweep, so that none of them reads a whole table."""

from aitp_cp.db.migrations.steps import build_indexes

revision = "0004_list_indexes"
down_revision = "0003_columns"

INDEXES = {
    "audit_events_type_ts_idx": "audit_events (type, ts)",
    "audit_events_aid_a_ts_idx": "audit_events (aid_a, ts)",
    "audit_events_aid_b_ts_idx": "audit_events (aid_b, ts)",
    "audit_events_session_ts_idx": "audit_events (session_id, ts)",
    "sessions_newest_idx": "handshake_sessions (created_at DESC, session_id)",
    "sessions_status_created_idx": "handshake_sessions (status, created_at)",
    "sessions_run_created_idx": "handshake_sessions (run_id, created_at)",
    "sessions_aid_a_created_idx": "handshake_sessions (aid_a, created_at)",
    "sessions_aid_b_created_idx": "handshake_sessions (aid_b, created_at)",
    "issued_tcts_newest_idx": "issued_tcts (issued_at DESC, jti)",
    "issued_tcts_issuer_issued_idx": "issued_tcts (issuer_aid, issued_at)",
    "issued_tcts_subject_issued_idx": "issued_tcts (subject_aid, issued_at)",
    "issued_tcts_audience_issued_idx": "issued_tcts (audience_aid, issued_at)",
    "issued_tcts_session_issued_idx": "issued_tcts (session_id, issued_at)",
    "delegations_newest_idx": "delegations (issued_at DESC, jti)",
    "delegations_delegator_issued_idx": "delegations (delegator_aid, issued_at)",
    "delegations_delegatee_issued_idx": "delegations (delegatee_aid, issued_at)",
    "agents_active_idx": "agents (registered_at, aid) WHERE status = 'active'",
    "agents_status_expiry_idx": "agents (status, manifest_expires_at)",
    "webhook_deliveries_newest_idx": "webhook_deliveries (webhook_id, created_at DESC, id)",
    "webhook_deliveries_done_idx": "webhook_deliveries (created_at) WHERE status IN ('delivered', 'failed')",
    "admin_audit_newest_idx": "admin_audit_log (created_at DESC, id)",
    "revocation_entries_order_idx": "revocation_entries (revoked_at, jti)",
}


def upgrade() -> None:
    build_indexes(INDEXES)
