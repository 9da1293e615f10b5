"""Columns and a table of this control plane, all of them invisible to an older one."""

from aitp_cp.db.migrations.steps import execute_apart

revision = "0003_columns"
down_revision = "0002_log_sequence"

STATEMENTS = (
    """
    ALTER TABLE agents
        ADD COLUMN IF NOT EXISTS manifest_published_at timestamptz,
        ADD COLUMN IF NOT EXISTS deregistered_at timestamptz,
        ADD COLUMN IF NOT EXISTS manifest_sha256 varchar(64)
    """,
    "ALTER TABLE idempotency_keys ADD COLUMN IF NOT EXISTS request_sha256 bytea",
    """
    ALTER TABLE webhooks
        ADD COLUMN IF NOT EXISTS breaker_state varchar(16) NOT NULL DEFAULT 'closed',
        ADD COLUMN IF NOT EXISTS breaker_failures integer NOT NULL DEFAULT 0,
        ADD COLUMN IF NOT EXISTS breaker_successes integer NOT NULL DEFAULT 0,
        ADD COLUMN IF NOT EXISTS breaker_opened_at timestamptz,
        ADD COLUMN IF NOT EXISTS breaker_next_probe_at timestamptz,
        ADD COLUMN IF NOT EXISTS deactivated_reason varchar(64)
    """,
    """
    ALTER TABLE webhook_deliveries
        ADD COLUMN IF NOT EXISTS lease_until timestamptz,
        ADD COLUMN IF NOT EXISTS lease_token uuid,
        ADD COLUMN IF NOT EXISTS event_seq bigint,
        ADD COLUMN IF NOT EXISTS event_id uuid
    """,
    # Reported revocations, also of tokens that are not reported yet.
    """
    CREATE TABLE IF NOT EXISTS revoked_reports (
        jti uuid PRIMARY KEY,
        kind varchar(32) NOT NULL,
        revoked_at timestamptz NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now()
    )
    """,
    # Where reports disagree about the parent of a delegation: those beside the one in its row. Almost always empty.
    """
    CREATE TABLE IF NOT EXISTS delegation_parents (
        parent_jti uuid NOT NULL,
        jti uuid NOT NULL,
        PRIMARY KEY (jti, parent_jti)
    )
    """,
    "CREATE INDEX IF NOT EXISTS delegation_parents_parent_idx ON delegation_parents (parent_jti)",
)


def upgrade() -> None:
    execute_apart(STATEMENTS)
