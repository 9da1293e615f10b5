"""What a revocation has still to settle, and the order in which children are walked."""

from aitp_cp.db.migrations.steps import build_indexes, execute

revision = "0010_cascade"
down_revision = "0009_invocation_counts"

STATEMENTS = (
    # Revoked tokens and delegations whose children are not all settled yet. `from_jti` is the next child, `again`
    # asks for one more pass because `since` became earlier in the middle of one.
    """
    CREATE TABLE IF NOT EXISTS cascade_work (
        jti uuid PRIMARY KEY,
        since timestamptz NOT NULL,
        urgent boolean NOT NULL,
        from_jti uuid NOT NULL,
        again boolean NOT NULL DEFAULT false,
        created_at timestamptz NOT NULL DEFAULT now()
    )
    """,
    "CREATE INDEX IF NOT EXISTS cascade_work_order_idx ON cascade_work (urgent DESC, since, jti)",
)

INDEXES = {
    "delegations_parent_jti_idx": "delegations (parent_jti, jti)",
    "delegation_parents_order_idx": "delegation_parents (parent_jti, jti)",
}


def upgrade() -> None:
    for statement in STATEMENTS:
        execute(statement)
    build_indexes(INDEXES)
