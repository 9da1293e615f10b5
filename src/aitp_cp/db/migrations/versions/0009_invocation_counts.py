"""Invocations counted by ten minutes, so that a month on the dashboard does not read a month of the log."""

from aitp_cp.db.migrations.steps import execute

revision = "0009_invocation_counts"
down_revision = "0008_webhooks"

STATEMENTS = (
    """
    CREATE TABLE IF NOT EXISTS invocation_counts (
        bucket timestamptz NOT NULL,
        capability text NOT NULL,
        count bigint NOT NULL,
        PRIMARY KEY (bucket, capability)
    )
    """,
    """
    CREATE TABLE IF NOT EXISTS invocation_progress (
        only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
        counted_through bigint NOT NULL DEFAULT 0
    )
    """,
    "INSERT INTO invocation_progress DEFAULT VALUES ON CONFLICT DO NOTHING",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        execute(statement)
