"""Totals of the dashboard. Triggers count, so writes of older control planes and by hand count too.

A trigger adds rows to `activity_changes` in the transaction of the change, so writers never wait for each other's
counts. A job folds the changes into `activity_counts`. The sum of both is exact at any moment.
"""

from aitp_cp.db.migrations.steps import execute_apart

revision = "0017_activity_counts"
down_revision = "0016_claimed_times"

TABLES = (
    """
    CREATE TABLE IF NOT EXISTS activity_counts (
        kind varchar(16) NOT NULL,
        name varchar(512) NOT NULL,
        count bigint NOT NULL,
        PRIMARY KEY (kind, name)
    )
    """,
    """
    CREATE TABLE IF NOT EXISTS activity_changes (
        kind varchar(16) NOT NULL,
        name varchar(512) NOT NULL,
        change bigint NOT NULL
    )
    """,
    # Rows come and go all the time; what is dead is read with every question.
    "ALTER TABLE activity_changes SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000)",
)

# What one row of a table counts for: `{rows}` stands for the rows that came or went.
COUNTED = {
    "handshake_sessions": """
        SELECT 'session' AS kind, status AS name FROM {rows}
        UNION ALL SELECT 'initiator', aid_a FROM {rows} WHERE aid_a IS NOT NULL
        UNION ALL SELECT 'responder', aid_b FROM {rows} WHERE aid_b IS NOT NULL
    """,
    "audit_events": "SELECT 'invocation' AS kind, aid_a AS name FROM {rows} WHERE aid_a IS NOT NULL AND {invoked}",
}
INVOKED = "type = 'capability.invoked'"
ROWS = {"insert": {"came": 1}, "update": {"gone": -1, "came": 1}, "delete": {"gone": -1}}

# The search path is pinned: the writer's may differ.
FUNCTION = """
CREATE OR REPLACE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    INSERT INTO activity_changes (kind, name, change)
    SELECT kind, name, sum(change) FROM ({changes}) AS changes GROUP BY kind, name HAVING sum(change) <> 0;
    RETURN NULL;
END $$
"""


def upgrade() -> None:
    execute_apart(TABLES)
    for table in COUNTED:
        execute_apart(_triggers(table))
    execute_apart([recount()])


def recount() -> str:
    """Return the statement that brings the counts in line with the tables.

    It is one statement, so of one moment: what is there, less what is counted. Run again it changes nothing.
    """
    there = " UNION ALL ".join(_counted(table, table, 1) for table in COUNTED)
    return f"""
        INSERT INTO activity_changes (kind, name, change)
        SELECT kind, name, sum(change) FROM (
            {there}
            UNION ALL SELECT kind, name, -count FROM activity_counts
            UNION ALL SELECT kind, name, -change FROM activity_changes
        ) AS changes
        GROUP BY kind, name HAVING sum(change) <> 0
    """  # noqa: S608 - constants of this module


def _triggers(table: str) -> list[str]:
    """A function and a trigger for each way of changing the table."""
    statements = []
    for event, rows in ROWS.items():
        name = f"count_{table}_{event}"
        changes = " UNION ALL ".join(_counted(table, which, change) for which, change in rows.items())
        seen = " ".join(f"{'NEW' if which == 'came' else 'OLD'} TABLE AS {which}" for which in rows)
        statements += [
            FUNCTION.format(name=name, changes=changes),
            f"CREATE OR REPLACE TRIGGER {name} AFTER {event.upper()} ON {table} REFERENCING {seen} "
            f"FOR EACH STATEMENT EXECUTE FUNCTION {name}()",
        ]
    return statements


def _counted(table: str, rows: str, change: int) -> str:
    counted = COUNTED[table].format(rows=rows, invoked=INVOKED)
    return f"SELECT kind, name, {change} AS change FROM ({counted}) AS counted"  # noqa: S608 - constants of this module
