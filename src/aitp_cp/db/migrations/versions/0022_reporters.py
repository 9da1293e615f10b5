"""Who reported an event and how that is known; reports with shared keys; what agents revoke; nonces they used."""

from aitp_cp.db.migrations.steps import build_indexes, execute_apart

revision = "0022_reporters"
down_revision = "0021_containments"

STATEMENTS = (
    """
    ALTER TABLE audit_events
        ADD COLUMN IF NOT EXISTS reported_by varchar(512),
        ADD COLUMN IF NOT EXISTS proof varchar(16)
    """,
    """
    ALTER TABLE agents
        ADD COLUMN IF NOT EXISTS unsigned_reports bigint NOT NULL DEFAULT 0,
        ADD COLUMN IF NOT EXISTS last_unsigned_report_at timestamptz
    """,
    """
    CREATE TABLE IF NOT EXISTS signed_revocations (
        jti uuid NOT NULL,
        signer varchar(512) NOT NULL,
        kind varchar(16) NOT NULL,
        revoked_at timestamptz NOT NULL,
        created_at timestamptz NOT NULL,
        PRIMARY KEY (jti, signer, kind)
    )
    """,
    """
    CREATE TABLE IF NOT EXISTS agent_nonces (
        id uuid PRIMARY KEY,
        expires_at timestamptz NOT NULL
    )
    """,
)

# Only what agents report themselves has an entry: reports with a key cost nothing more than before.
INDEXES = {
    "agent_nonces_expires_idx": "agent_nonces (expires_at)",
    "signed_revocations_created_idx": "signed_revocations (created_at)",
    "audit_events_reported_by_idx": "audit_events (reported_by, ts) WHERE reported_by IS NOT NULL",
    "audit_events_agent_token_idx": "audit_events (ts) WHERE proof = 'agent-token'",
    "audit_events_signature_idx": "audit_events (ts) WHERE proof = 'signature'",
}


def upgrade() -> None:
    execute_apart(STATEMENTS)
    build_indexes(INDEXES)
