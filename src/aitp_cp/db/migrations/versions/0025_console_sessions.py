"""Sessions of browsers that have signed in to the console."""

from aitp_cp.db.migrations.steps import build_indexes, execute

revision = "0025_console_sessions"
down_revision = "0024_manifest_history"

TABLE = """
CREATE TABLE IF NOT EXISTS console_sessions (
    id uuid PRIMARY KEY,
    digest bytea NOT NULL,
    subject varchar(255) NOT NULL,
    display varchar(256),
    scopes jsonb NOT NULL,
    method varchar(16) NOT NULL,
    key_family uuid,
    idp_sid varchar(255),
    created_at timestamptz NOT NULL,
    seen_at timestamptz NOT NULL,
    auth_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    ip varchar(64) NOT NULL,
    agent varchar(256) NOT NULL,
    ended_at timestamptz,
    ended_by varchar(255)
)
"""
UNIQUE_INDEXES = {"console_sessions_digest_idx": "console_sessions (digest)"}
INDEXES = {
    "console_sessions_live_idx": "console_sessions (created_at DESC, id DESC) WHERE ended_at IS NULL",
    "console_sessions_subject_idx": "console_sessions (subject, created_at DESC, id DESC) WHERE ended_at IS NULL",
    "console_sessions_sid_idx": "console_sessions (idp_sid) WHERE idp_sid IS NOT NULL",
    "console_sessions_expires_idx": "console_sessions (expires_at)",
}


def upgrade() -> None:
    execute(TABLE)
    build_indexes(UNIQUE_INDEXES, unique=True)
    build_indexes(INDEXES)
