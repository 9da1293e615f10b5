"""How far retention has eaten into the log: gaps in `seq` alone do not tell a deletion from a rollback."""

from aitp_cp.db.migrations.steps import execute

revision = "0005_log_horizon"
down_revision = "0004_list_indexes"

TABLE = """
CREATE TABLE IF NOT EXISTS log_horizon (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    deleted_through bigint NOT NULL DEFAULT 0
)
"""


def upgrade() -> None:
    execute(TABLE)
