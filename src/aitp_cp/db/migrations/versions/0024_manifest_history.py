"""The manifests an agent had, what operators note about an agent, and what its name looks like."""

from aitp_cp.db.migrations.steps import build_indexes, execute, execute_apart

revision = "0024_manifest_history"
down_revision = "0023_list_holders"

TABLES = (
    # Goes with its agent. `seq` counts an agent's manifests.
    """
    CREATE TABLE IF NOT EXISTS agent_manifests (
        aid varchar(512) NOT NULL REFERENCES agents ON DELETE CASCADE,
        sha256 varchar(64) NOT NULL,
        seq integer NOT NULL,
        published_at timestamptz,
        received_at timestamptz NOT NULL,
        raw text NOT NULL,
        PRIMARY KEY (aid, sha256)
    )
    """,
    "CREATE INDEX IF NOT EXISTS agent_manifests_seq_idx ON agent_manifests (aid, seq)",
    # Also about agents that never registered here; never swept.
    """
    CREATE TABLE IF NOT EXISTS agent_notes (
        aid varchar(512) PRIMARY KEY,
        owner varchar(255),
        note text,
        labels jsonb NOT NULL DEFAULT '[]',
        updated_by varchar(255) NOT NULL,
        updated_at timestamptz NOT NULL
    )
    """,
    "CREATE INDEX IF NOT EXISTS agent_notes_newest_idx ON agent_notes (updated_at DESC, aid)",
    "CREATE INDEX IF NOT EXISTS agent_notes_owner_idx ON agent_notes (owner, updated_at)",
    "CREATE INDEX IF NOT EXISTS agent_notes_labels_idx ON agent_notes USING gin (labels jsonb_path_ops)",
)
COLUMNS = ("ALTER TABLE agents ADD COLUMN IF NOT EXISTS name_skeleton varchar(256)",)
INDEXES = {
    "agents_name_prefix_idx": "agents (lower(display_name) text_pattern_ops)",
    "agents_aid_prefix_idx": "agents (aid text_pattern_ops)",
    "agents_aid_suffix_idx": "agents (reverse(aid) text_pattern_ops)",
    "agents_name_skeleton_idx": "agents (name_skeleton, aid)",
    # Names that an older control plane wrote; the job that reads them empties it.
    "agents_no_skeleton_idx": "agents (aid) WHERE name_skeleton IS NULL",
}


def upgrade() -> None:
    for statement in TABLES:
        execute(statement)
    execute_apart(COLUMNS)
    build_indexes(INDEXES)
