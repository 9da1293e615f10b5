"""Containments of agents, and indexes for an agent's live tokens."""

from aitp_cp.db.migrations.steps import build_indexes, execute, execute_apart

revision = "0021_containments"
down_revision = "0020_verdicts"

TABLES = (
    # Never swept. `plan` is what the act answered; `remaining` tokens are left to the job while `pending`.
    """
    CREATE TABLE IF NOT EXISTS containments (
        id uuid PRIMARY KEY,
        aid varchar(512) NOT NULL,
        reason text NOT NULL,
        ticket varchar(255),
        held_delegations varchar(16) NOT NULL,
        include varchar(16) NOT NULL,
        contained_at timestamptz NOT NULL,
        contained_by varchar(255) NOT NULL,
        event_id uuid NOT NULL,
        plan jsonb NOT NULL,
        plan_digest varchar(64) NOT NULL,
        remaining integer NOT NULL DEFAULT 0,
        pending boolean NOT NULL DEFAULT false,
        listed_version bigint NOT NULL DEFAULT 0,
        listed_at timestamptz,
        claimed_only integer NOT NULL DEFAULT 0,
        later_listed integer NOT NULL DEFAULT 0,
        released_at timestamptz,
        released_by varchar(255),
        release_reason text
    )
    """,
    "CREATE UNIQUE INDEX IF NOT EXISTS containments_open_idx ON containments (aid) WHERE released_at IS NULL",
    "CREATE INDEX IF NOT EXISTS containments_aid_idx ON containments (aid, released_at)",
    "CREATE INDEX IF NOT EXISTS containments_newest_idx ON containments (contained_at DESC, id DESC)",
    "CREATE INDEX IF NOT EXISTS containments_pending_idx ON containments (contained_at) WHERE pending",
)
COLUMNS = ("ALTER TABLE revocation_entries ADD COLUMN IF NOT EXISTS unlisted_at timestamptz",)
# An older control plane that runs beside this one must not let a contained agent in again. The path is pinned: whoever
# writes may look for tables elsewhere.
GUARD = """
CREATE OR REPLACE FUNCTION refuse_contained_agent() RETURNS trigger LANGUAGE plpgsql
SET search_path FROM CURRENT AS $$
BEGIN
    IF EXISTS (SELECT 1 FROM containments WHERE aid = NEW.aid AND released_at IS NULL) THEN
        RAISE EXCEPTION 'the agent is contained' USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$
"""
GUARDED = {
    "insert": "INSERT ON agents FOR EACH ROW WHEN (NEW.status = 'active')",
    "update": "UPDATE OF manifest_json, status ON agents FOR EACH ROW WHEN (NEW.status = 'active')",
}
# Live tokens by either side. The last one finds a token that its agent signed although the row shows what somebody
# else claimed of the same id; such rows are few.
INDEXES = {
    "issued_tcts_live_issuer_idx": "issued_tcts (issuer_aid, (coalesce(expires_at, 'infinity'::timestamptz)))",
    "issued_tcts_live_subject_idx": "issued_tcts (subject_aid, (coalesce(expires_at, 'infinity'::timestamptz)))",
    "issued_tcts_disputed_idx": "issued_tcts USING gin (caller_states jsonb_path_ops) WHERE conflict",
}


def upgrade() -> None:
    for statement in TABLES:
        execute(statement)
    execute_apart(COLUMNS)
    execute(GUARD)
    for event, when in GUARDED.items():
        execute_apart(
            (
                f"DROP TRIGGER IF EXISTS agents_contained_{event} ON agents",
                f"CREATE TRIGGER agents_contained_{event} BEFORE {when} EXECUTE FUNCTION refuse_contained_agent()",
            )
        )
    build_indexes(INDEXES)
