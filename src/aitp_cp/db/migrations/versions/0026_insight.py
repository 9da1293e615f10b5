"""Replicas and the last run of each job, and indexes for filters of sessions and for tokens that expire next."""

from aitp_cp.db.migrations.steps import build_indexes, execute

revision = "0026_insight"
down_revision = "0025_console_sessions"

STATEMENTS = (
    """
    CREATE TABLE IF NOT EXISTS replicas (
        id uuid PRIMARY KEY,
        version varchar(64) NOT NULL,
        started_at timestamptz NOT NULL,
        seen_at timestamptz NOT NULL,
        position bigint NOT NULL,
        lag_ms integer NOT NULL
    )
    """,
    # `error` is the class of the latest failure, or its code: a text could hold anything.
    """
    CREATE TABLE IF NOT EXISTS job_runs (
        name varchar(100) PRIMARY KEY,
        ran_at timestamptz NOT NULL,
        ms integer NOT NULL,
        replica uuid NOT NULL,
        failed_at timestamptz,
        error varchar(100)
    )
    """,
)
# Of sessions few have an error, and reporters choose its length. The third is for times until which a handshake took
# place, which its row may follow by days.
INDEXES = {
    "sessions_boundary_created_idx": "handshake_sessions (boundary, created_at) WHERE boundary IS NOT NULL",
    "sessions_error_created_idx": "handshake_sessions ((left(error, 100)), created_at) WHERE error IS NOT NULL",
    "sessions_happened_idx": "handshake_sessions ((LEAST(created_at, coalesce(started_at, completed_at))))",
    "issued_tcts_expiring_idx": "issued_tcts (expires_at, jti) WHERE NOT revoked",
}


def upgrade() -> None:
    for statement in STATEMENTS:
        execute(statement)
    build_indexes(INDEXES)
