"""Which version of the signed list each client has shown to hold, and how far containments have reached."""

from aitp_cp.db.migrations.steps import execute, execute_apart

revision = "0023_list_holders"
down_revision = "0022_reporters"

STATEMENTS = (
    # `holds` is the newest version that a client has proven to hold, `sent` the newest one that it was sent.
    """
    CREATE TABLE IF NOT EXISTS list_holders (
        kind varchar(16) NOT NULL,
        client varchar(512) NOT NULL,
        holds bigint NOT NULL,
        sent bigint NOT NULL,
        seen_at timestamptz NOT NULL,
        PRIMARY KEY (kind, client)
    )
    """,
    "CREATE INDEX IF NOT EXISTS list_holders_seen_idx ON list_holders (seen_at)",
)
COLUMNS = (
    """
    ALTER TABLE containments
        ADD COLUMN IF NOT EXISTS half_confirmed_at timestamptz,
        ADD COLUMN IF NOT EXISTS most_confirmed_at timestamptz
    """,
)


def upgrade() -> None:
    for statement in STATEMENTS:
        execute(statement)
    execute_apart(COLUMNS)
