"""Why an anchor's key set could not be fetched last: null since a fetch went well."""

from aitp_cp.db.migrations.steps import execute_apart

revision = "0014_anchor_errors"
down_revision = "0013_revocation_version"

STATEMENTS = (
    """
    ALTER TABLE trust_anchors
        ADD COLUMN IF NOT EXISTS jwks_error text,
        ADD COLUMN IF NOT EXISTS jwks_error_at timestamptz
    """,
)


def upgrade() -> None:
    execute_apart(STATEMENTS)
