"""The schema that deployments already have: creates what is missing, leaves what is there.

A database made by the TypeScript control plane is adopted in place, whole or half-made.
"""

from aitp_cp.db.migrations.steps import build_indexes, execute, fetch

revision = "0001_baseline"
down_revision: str | None = None

TABLES: dict[str, tuple[str, ...]] = {
    "admin_audit_log": (
        "id uuid NOT NULL",
        "action varchar(128) NOT NULL",
        "actor_id varchar(255)",
        "target_id varchar(512)",
        "details jsonb DEFAULT '{}'",
        "request_id varchar(255)",
        "created_at timestamptz NOT NULL DEFAULT now()",
    ),
    "agents": (
        "aid varchar(512) NOT NULL",
        "display_name varchar(256) NOT NULL",
        "handshake_endpoint text NOT NULL",
        "offered_caps jsonb NOT NULL DEFAULT '[]'",
        "manifest_json text NOT NULL",
        "manifest_expires_at timestamptz",
        "status varchar(32) NOT NULL DEFAULT 'active'",
        "registered_at timestamptz NOT NULL DEFAULT now()",
        "last_seen_at timestamptz",
        "org varchar(128)",
        "cloud varchar(128)",
        "metadata jsonb NOT NULL DEFAULT '{}'",
        "last_enrolled_at timestamptz",
        "namespace varchar(128) NOT NULL DEFAULT 'default'",
    ),
    "audit_events": (
        "id uuid NOT NULL",
        "type varchar(128) NOT NULL",
        "ts timestamptz NOT NULL",
        "aid_a varchar(512)",
        "aid_b varchar(512)",
        "session_id varchar(255)",
        "run_id varchar(255)",
        "grants jsonb",
        "payload jsonb NOT NULL DEFAULT '{}'",
        "source varchar(128)",
        "created_at timestamptz NOT NULL DEFAULT now()",
    ),
    "delegations": (
        "jti uuid NOT NULL",
        "parent_jti uuid NOT NULL",
        "delegator_aid varchar(512) NOT NULL",
        "delegatee_aid varchar(512) NOT NULL",
        "scope jsonb NOT NULL DEFAULT '[]'",
        "issued_at timestamptz NOT NULL",
        "expires_at timestamptz",
        "revoked boolean NOT NULL DEFAULT false",
        "revoked_at timestamptz",
        "revoked_reason varchar(64)",
        "created_at timestamptz NOT NULL DEFAULT now()",
    ),
    "enrollment_jtis": (
        "jti varchar(64) NOT NULL",
        "expires_at timestamptz NOT NULL",
        "created_at timestamptz NOT NULL DEFAULT now()",
    ),
    "handshake_sessions": (
        "session_id varchar(255) NOT NULL",
        "aid_a varchar(512)",
        "aid_b varchar(512)",
        "status varchar(32) NOT NULL DEFAULT 'started'",
        "grants jsonb NOT NULL DEFAULT '[]'",
        "run_id varchar(255)",
        "boundary varchar(32)",
        "error text",
        "started_at timestamptz",
        "completed_at timestamptz",
        "created_at timestamptz NOT NULL DEFAULT now()",
        "updated_at timestamptz NOT NULL DEFAULT now()",
    ),
    "idempotency_keys": (
        "scope varchar(64) NOT NULL",
        "key varchar(255) NOT NULL",
        "response_status integer NOT NULL",
        "response_body jsonb NOT NULL",
        "created_at timestamptz NOT NULL DEFAULT now()",
    ),
    "issued_tcts": (
        "jti uuid NOT NULL",
        "issuer_aid varchar(512) NOT NULL",
        "subject_aid varchar(512) NOT NULL",
        "audience_aid varchar(512) NOT NULL",
        "grants jsonb NOT NULL DEFAULT '[]'",
        "binding_cnf varchar(128)",
        "issued_at timestamptz NOT NULL",
        "expires_at timestamptz",
        "session_id varchar(255)",
        "revoked boolean NOT NULL DEFAULT false",
        "revoked_at timestamptz",
        "created_at timestamptz NOT NULL DEFAULT now()",
    ),
    "pinned_keys": (
        "namespace varchar(128) NOT NULL DEFAULT 'default'",
        "aid varchar(512) NOT NULL",
        "pubkey varchar(128) NOT NULL",
        "label varchar(128)",
        "added_by varchar(255)",
        "expires_at timestamptz",
        "created_at timestamptz NOT NULL DEFAULT now()",
        "updated_at timestamptz NOT NULL DEFAULT now()",
    ),
    "revocation_entries": (
        "jti uuid NOT NULL",
        "revoked_at timestamptz NOT NULL DEFAULT now()",
        "reason text",
        "created_at timestamptz NOT NULL DEFAULT now()",
    ),
    "trust_anchors": (
        "id uuid NOT NULL",
        "namespace varchar(128) NOT NULL DEFAULT 'default'",
        "issuer_url text NOT NULL",
        "jwks_url text",
        "jwks_cache jsonb",
        "jwks_cached_at timestamptz",
        "label varchar(128)",
        "added_by varchar(255)",
        "created_at timestamptz NOT NULL DEFAULT now()",
        "updated_at timestamptz NOT NULL DEFAULT now()",
    ),
    "webhook_deliveries": (
        "id uuid NOT NULL",
        "webhook_id uuid NOT NULL",
        "event_type varchar(128) NOT NULL",
        "payload jsonb NOT NULL",
        "status varchar(32) NOT NULL DEFAULT 'pending'",
        "attempts integer NOT NULL DEFAULT 0",
        "status_code integer",
        "error text",
        "delivered_at timestamptz",
        "next_retry_at timestamptz",
        "created_at timestamptz NOT NULL DEFAULT now()",
        "body text",
        "signature varchar(64)",
    ),
    "webhooks": (
        "id uuid NOT NULL",
        "url text NOT NULL",
        "events jsonb NOT NULL DEFAULT '[]'",
        "secret varchar(255) NOT NULL",
        "active boolean NOT NULL DEFAULT true",
        "created_at timestamptz NOT NULL DEFAULT now()",
        "updated_at timestamptz NOT NULL DEFAULT now()",
    ),
}

PRIMARY_KEYS = {
    "admin_audit_log": ("admin_audit_log_pkey", "id"),
    "agents": ("agents_pkey", "aid"),
    "audit_events": ("audit_events_pkey", "id"),
    "delegations": ("delegations_pkey", "jti"),
    "enrollment_jtis": ("enrollment_jtis_pkey", "jti"),
    "handshake_sessions": ("handshake_sessions_pkey", "session_id"),
    "idempotency_keys": ("idempotency_keys_scope_key_pk", "scope, key"),
    "issued_tcts": ("issued_tcts_pkey", "jti"),
    "pinned_keys": ("pinned_keys_namespace_aid_pk", "namespace, aid"),
    "revocation_entries": ("revocation_entries_pkey", "jti"),
    "trust_anchors": ("trust_anchors_pkey", "id"),
    "webhook_deliveries": ("webhook_deliveries_pkey", "id"),
    "webhooks": ("webhooks_pkey", "id"),
}

INDEXES = {
    "admin_audit_actor_idx": "admin_audit_log (actor_id)",
    "admin_audit_created_idx": "admin_audit_log (created_at)",
    "agents_namespace_idx": "agents (namespace)",
    "agents_offered_caps_gin": "agents USING gin (offered_caps)",
    "agents_registered_at_idx": "agents (registered_at)",
    "agents_status_idx": "agents (status)",
    "audit_events_aid_a_idx": "audit_events (aid_a)",
    "audit_events_run_id_idx": "audit_events (run_id)",
    "audit_events_session_idx": "audit_events (session_id)",
    "audit_events_ts_idx": "audit_events (ts)",
    "audit_events_type_idx": "audit_events (type)",
    "delegations_delegatee_idx": "delegations (delegatee_aid)",
    "delegations_delegator_idx": "delegations (delegator_aid)",
    "delegations_parent_idx": "delegations (parent_jti)",
    "enrollment_jtis_expires_at_idx": "enrollment_jtis (expires_at)",
    "sessions_aid_a_idx": "handshake_sessions (aid_a)",
    "sessions_aid_b_idx": "handshake_sessions (aid_b)",
    "sessions_run_id_idx": "handshake_sessions (run_id)",
    "sessions_status_idx": "handshake_sessions (status)",
    "idempotency_keys_created_at_idx": "idempotency_keys (created_at)",
    "issued_tcts_audience_idx": "issued_tcts (audience_aid)",
    "issued_tcts_grants_gin": "issued_tcts USING gin (grants)",
    "issued_tcts_issuer_idx": "issued_tcts (issuer_aid)",
    "issued_tcts_session_idx": "issued_tcts (session_id)",
    "issued_tcts_subject_idx": "issued_tcts (subject_aid)",
    "pinned_keys_aid_idx": "pinned_keys (aid)",
    "trust_anchors_namespace_idx": "trust_anchors (namespace)",
    "webhook_deliveries_status_idx": "webhook_deliveries (status)",
    "webhook_deliveries_webhook_idx": "webhook_deliveries (webhook_id)",
    "webhooks_active_idx": "webhooks (active)",
}

# Of these, the indexes that a later one begins with, and which. A database that begins here has no use for both: each
# costs every report time. An adopted database keeps them for the control plane that it came from.
EXTENDED_BY = {
    "admin_audit_actor_idx": "admin_audit_actor_newest_idx",
    "admin_audit_created_idx": "admin_audit_newest_idx",
    "agents_status_idx": "agents_status_expiry_idx",
    "audit_events_aid_a_idx": "audit_events_aid_a_ts_idx",
    "audit_events_run_id_idx": "audit_events_run_ts_seq_idx",
    "audit_events_session_idx": "audit_events_session_ts_idx",
    "audit_events_type_idx": "audit_events_type_ts_idx",
    "delegations_delegatee_idx": "delegations_delegatee_issued_idx",
    "delegations_delegator_idx": "delegations_delegator_issued_idx",
    "delegations_parent_idx": "delegations_parent_jti_idx",
    "issued_tcts_audience_idx": "issued_tcts_audience_issued_idx",
    "issued_tcts_issuer_idx": "issued_tcts_issuer_issued_idx",
    "issued_tcts_session_idx": "issued_tcts_session_issued_idx",
    "issued_tcts_subject_idx": "issued_tcts_subject_issued_idx",
    "sessions_aid_a_idx": "sessions_aid_a_created_idx",
    "sessions_aid_b_idx": "sessions_aid_b_created_idx",
    "sessions_run_id_idx": "sessions_run_created_idx",
    "sessions_status_idx": "sessions_status_created_idx",
    "trust_anchors_namespace_idx": "trust_anchors_namespace_issuer_uniq",
    "webhook_deliveries_webhook_idx": "webhook_deliveries_newest_idx",
}

UNIQUE_INDEXES = {"trust_anchors_namespace_issuer_uniq": "trust_anchors (namespace, issuer_url)"}

_COLUMNS = """
SELECT attname FROM pg_attribute WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped
"""
_EXISTS = "SELECT 1 WHERE to_regclass($1) IS NOT NULL"
_HAS_CONSTRAINT = "SELECT 1 FROM pg_constraint WHERE conrelid = to_regclass($1) AND contype::text = $2"
_ADD_FOREIGN_KEY = """
ALTER TABLE webhook_deliveries ADD CONSTRAINT webhook_deliveries_webhook_id_webhooks_id_fk
FOREIGN KEY (webhook_id) REFERENCES webhooks (id) ON DELETE CASCADE NOT VALID
"""
_ORPHANS = """
SELECT 1 FROM webhook_deliveries WHERE NOT EXISTS (SELECT 1 FROM webhooks WHERE webhooks.id = webhook_id) LIMIT 1
"""
_VALIDATE_FOREIGN_KEY = """
ALTER TABLE webhook_deliveries VALIDATE CONSTRAINT webhook_deliveries_webhook_id_webhooks_id_fk
"""


def upgrade() -> None:
    begins_here = not any(fetch(_EXISTS, table) for table in TABLES)
    for table in TABLES:
        _complete_table(table)
    missing = [name for name in EXTENDED_BY if not fetch(_EXISTS, name)]  # what is there may have to be built again
    unneeded = {name for name in missing if begins_here or fetch(_EXISTS, EXTENDED_BY[name])}
    build_indexes({name: target for name, target in INDEXES.items() if name not in unneeded})
    build_indexes(UNIQUE_INDEXES, unique=True)
    if not fetch(_HAS_CONSTRAINT, "webhook_deliveries", "f"):
        _add_foreign_key()


def _complete_table(table: str) -> None:
    present = {name for (name,) in fetch(_COLUMNS, table)}
    constraint, key = PRIMARY_KEYS[table]
    if not present:
        execute(f"CREATE TABLE {table} ({', '.join(TABLES[table])}, CONSTRAINT {constraint} PRIMARY KEY ({key}))")
        return
    for column in TABLES[table]:
        if column.split(" ", 1)[0] not in present:
            execute(f"ALTER TABLE {table} ADD COLUMN {column}")
    if not fetch(_HAS_CONSTRAINT, table, "p"):
        execute(f"ALTER TABLE {table} ADD CONSTRAINT {constraint} PRIMARY KEY ({key})")


def _add_foreign_key() -> None:
    execute(_ADD_FOREIGN_KEY)
    # Rows are kept whatever they say: with orphans among them the constraint binds new rows only.
    if not fetch(_ORPHANS):
        execute(_VALIDATE_FOREIGN_KEY)
