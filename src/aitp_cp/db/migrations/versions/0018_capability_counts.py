"""Count invocations in the statement that gives an event its position in the log (decision 18).

Triggers keep `capability_counts` equal to the log at any moment: an older control plane, retention and a person are
counted too. The older version counted with a job into `invocation_counts`, up to a position in `invocation_progress`.
Both are emptied, and stay for it: without its row there it counts nothing and reads its figures off the log.
"""

from aitp_cp.db.migrations.steps import drop_indexes, execute_apart

revision = "0018_capability_counts"
down_revision = "0017_activity_counts"

TABLES = (
    """
    CREATE TABLE IF NOT EXISTS capability_counts (
        bucket timestamptz NOT NULL,
        capability text NOT NULL,
        count bigint NOT NULL,
        PRIMARY KEY (bucket, capability)
    )
    """,
    # Reporters differ in where they name the capability. No more than an index takes; none is the empty name.
    """
    CREATE OR REPLACE FUNCTION invoked_capability(payload jsonb, grants jsonb) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
        SELECT left(coalesce(
            payload -> 'capability' ->> 'name', payload ->> 'capability', payload ->> 'capability_name',
            payload ->> 'capabilityName', payload ->> 'cap', payload ->> 'grant', grants ->> 0, ''
        ), 500)
    $$
    """,
    # A time far away, or an infinite one, counts in the first or the last bucket.
    """
    CREATE OR REPLACE FUNCTION invocation_bucket(ts timestamptz) RETURNS timestamptz
    LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
        SELECT date_bin(interval '10 minutes',
                        greatest('0001-01-02T00:00:00Z'::timestamptz, least(ts, '9999-12-31T00:00:00Z'::timestamptz)),
                        '1970-01-01T00:00:00Z'::timestamptz)
    $$
    """,
)

COUNTED = """
    SELECT invocation_bucket(ts) AS bucket, invoked_capability(payload, grants) AS capability, {change} AS change
    FROM {rows} WHERE type = 'capability.invoked' AND seq IS NOT NULL
"""
# In key order, so that two writers never wait for each other.
ADD = """
    INSERT INTO capability_counts AS stored (bucket, capability, count)
    SELECT bucket, capability, sum(change) FROM ({changes}) AS changes
    GROUP BY bucket, capability HAVING sum(change) <> 0 ORDER BY bucket, capability
    ON CONFLICT (bucket, capability) DO UPDATE SET count = stored.count + excluded.count
"""
DROP_EMPTY = """
    DELETE FROM capability_counts WHERE count = 0 AND bucket IN (
        SELECT invocation_bucket(ts) FROM gone WHERE type = 'capability.invoked' AND seq IS NOT NULL
    );
"""
# The search path is pinned: the writer's may differ.
FUNCTION = """
CREATE OR REPLACE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    {add};
    {drop_empty}
    RETURN NULL;
END $$
"""
TRIGGER = """
CREATE OR REPLACE TRIGGER {name} AFTER {event} ON audit_events REFERENCING {seen}
FOR EACH STATEMENT EXECUTE FUNCTION {name}()
"""
CHANGES = {"insert": {"came": 1}, "update": {"gone": -1, "came": 1}, "delete": {"gone": -1}}

# In one transaction, so that a reader of the older version counts each event once. Repeated, it changes nothing.
RETIRE_THE_JOB = "WITH gone AS (DELETE FROM invocation_progress) DELETE FROM invocation_counts"
# The dashboard no longer counts with the first (0017); another index begins with the column of the second (0010).
UNUSED = ("audit_events_invocations_idx", "delegation_parents_parent_idx")


def upgrade() -> None:
    execute_apart(TABLES)
    for event, rows in CHANGES.items():
        execute_apart(_trigger(event, rows))
    execute_apart([recount(), RETIRE_THE_JOB])
    drop_indexes(UNUSED)


def recount() -> str:
    """Return the statement that adds what the log holds, less what is counted. Repeated, it adds nothing."""
    there = COUNTED.format(rows="audit_events", change=1)
    counted = "SELECT bucket, capability, -count FROM capability_counts"
    return ADD.format(changes=f"{there} UNION ALL {counted}")


def _trigger(event: str, rows: dict[str, int]) -> list[str]:
    name = f"count_capabilities_{event}"
    changes = " UNION ALL ".join(COUNTED.format(rows=which, change=change) for which, change in rows.items())
    seen = " ".join(f"{'NEW' if which == 'came' else 'OLD'} TABLE AS {which}" for which in rows)
    drop_empty = DROP_EMPTY if "gone" in rows else ""
    return [
        FUNCTION.format(name=name, add=ADD.format(changes=changes), drop_empty=drop_empty),
        TRIGGER.format(name=name, event=event.upper(), seen=seen),
    ]
