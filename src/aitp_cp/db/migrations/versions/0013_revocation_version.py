"""A version of the deny list. A trigger increments it, so writes of older control planes and by hand count too."""

from aitp_cp.db.migrations.steps import execute

revision = "0013_revocation_version"
down_revision = "0012_keyset_indexes"

STATEMENTS = (
    """
    CREATE TABLE IF NOT EXISTS revocation_version (
        only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
        version bigint NOT NULL DEFAULT 1
    )
    """,
    # The search path is pinned: the writer's may differ.
    """
    CREATE OR REPLACE FUNCTION count_revocation_version() RETURNS trigger LANGUAGE plpgsql
    SET search_path FROM CURRENT AS $$
    BEGIN
        IF EXISTS (SELECT 1 FROM changed) THEN
            INSERT INTO revocation_version AS stored DEFAULT VALUES
            ON CONFLICT (only_row) DO UPDATE SET version = stored.version + 1;
        END IF;
        RETURN NULL;
    END $$
    """,
    """
    CREATE OR REPLACE FUNCTION count_revocation_truncation() RETURNS trigger LANGUAGE plpgsql
    SET search_path FROM CURRENT AS $$
    BEGIN
        INSERT INTO revocation_version AS stored DEFAULT VALUES
        ON CONFLICT (only_row) DO UPDATE SET version = stored.version + 1;
        RETURN NULL;
    END $$
    """,
)
TRIGGERS = {
    "INSERT": ("REFERENCING NEW TABLE AS changed", "count_revocation_version"),
    "UPDATE": ("REFERENCING NEW TABLE AS changed", "count_revocation_version"),
    "DELETE": ("REFERENCING OLD TABLE AS changed", "count_revocation_version"),
    "TRUNCATE": ("", "count_revocation_truncation"),
}


def upgrade() -> None:
    for statement in STATEMENTS:
        execute(statement)
    for event, (rows, function) in TRIGGERS.items():
        name = f"revocation_version_{event.lower()}"
        execute(f"DROP TRIGGER IF EXISTS {name} ON revocation_entries")
        execute(
            f"CREATE TRIGGER {name} AFTER {event} ON revocation_entries {rows} "
            f"FOR EACH STATEMENT EXECUTE FUNCTION {function}()"
        )
