"""API keys with scopes, and the actor's name in the admin audit log."""

from aitp_cp.db.migrations.steps import build_indexes, execute_apart

revision = "0019_api_keys"
down_revision = "0018_capability_counts"

STATEMENTS = (
    # `family` is the id of its first key. Rows are never deleted, for the audit.
    """
    CREATE TABLE IF NOT EXISTS api_keys (
        id uuid PRIMARY KEY,
        family uuid NOT NULL,
        name varchar(100) NOT NULL,
        shown varchar(8) NOT NULL,
        digest bytea NOT NULL,
        scopes jsonb NOT NULL,
        created_by varchar(255),
        created_at timestamptz NOT NULL,
        expires_at timestamptz,
        revoked_at timestamptz,
        revoked_reason varchar(500),
        replaced_by uuid,
        last_used_at timestamptz,
        last_used_ip varchar(64),
        rate_per_min integer,
        adopts varchar(255)
    )
    """,
    "ALTER TABLE admin_audit_log ADD COLUMN IF NOT EXISTS actor_name varchar(255)",
)
INDEXES = {
    "api_keys_family_idx": "api_keys (family)",
    "api_keys_created_idx": "api_keys (created_at DESC, id DESC)",
}
UNIQUE_INDEXES = {"api_keys_digest_idx": "api_keys (digest)"}


def upgrade() -> None:
    execute_apart(STATEMENTS)
    build_indexes(UNIQUE_INDEXES, unique=True)
    build_indexes(INDEXES)
