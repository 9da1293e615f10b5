"""The callers that reported a session, token or delegation, their differing reports, and delegation parents."""

from aitp_cp.db.migrations.steps import build_indexes, execute_apart

revision = "0015_callers"
down_revision = "0014_anchor_errors"

STATEMENTS = (
    *(
        f"""
        ALTER TABLE {table}
            ADD COLUMN IF NOT EXISTS reported_by varchar(255),
            ADD COLUMN IF NOT EXISTS conflict boolean,
            ADD COLUMN IF NOT EXISTS caller_states jsonb
        """
        for table in ("handshake_sessions", "issued_tcts", "delegations")
    ),
    "ALTER TABLE revoked_reports ADD COLUMN IF NOT EXISTS reported_by varchar(255)",
    """
    CREATE TABLE IF NOT EXISTS delegation_children (
        parent_jti uuid NOT NULL,
        caller varchar(255) NOT NULL,
        children integer NOT NULL,
        PRIMARY KEY (parent_jti, caller)
    )
    """,
)
# For the sweep.
INDEXES = {"revoked_reports_created_idx": "revoked_reports (created_at)"}


def upgrade() -> None:
    execute_apart(STATEMENTS)
    build_indexes(INDEXES)
