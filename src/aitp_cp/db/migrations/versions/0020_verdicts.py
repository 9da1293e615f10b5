"""What the signature of a reported token is worth (contract, section 19); null where nobody has checked one."""

from aitp_cp.db.migrations.steps import build_indexes, execute_apart

revision = "0020_verdicts"
down_revision = "0019_api_keys"

TABLES = ("issued_tcts", "delegations")
STATEMENTS = tuple(
    f"ALTER TABLE {table} ADD COLUMN IF NOT EXISTS verdict varchar(16), ADD COLUMN IF NOT EXISTS mismatch boolean"
    for table in TABLES
)
# For the lists of one verdict, newest issued first.
INDEXES = {f"{table}_verdict_issued_idx": f"{table} (verdict, issued_at DESC, jti)" for table in TABLES}


def upgrade() -> None:
    execute_apart(STATEMENTS)
    build_indexes(INDEXES)
