"""Pages of the console that people keep under a name of their own."""

from aitp_cp.db.migrations.steps import execute

revision = "0028_console_views"
down_revision = "0027_attempts"

TABLE = """
CREATE TABLE IF NOT EXISTS console_views (
    subject varchar(255) NOT NULL,
    name varchar(100) NOT NULL,
    url varchar(2048) NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (subject, name)
)
"""


def upgrade() -> None:
    execute(TABLE)
