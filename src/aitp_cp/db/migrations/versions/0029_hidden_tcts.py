"""Signed tokens that their row does not show, and the issuer of the token that a delegation is made from.

A trigger copies them from `caller_states`, so those that an older version stores beside this one are kept too.
"""

from aitp_cp.db.migrations.steps import build_indexes, execute, execute_apart

revision = "0029_hidden_tcts"
down_revision = "0028_console_views"

# Of several tokens of one issuer, holder and reporter the one that ends last stands: `TctChange.merged` has the same
# rule, so the order of reports does not show. Only AIDs can sign, so a key stays far below what an index takes.
STATEMENTS = (
    """
    CREATE TABLE IF NOT EXISTS hidden_tcts (
        jti uuid NOT NULL,
        issuer_aid varchar(512) NOT NULL,
        subject_aid varchar(512) NOT NULL,
        reported_by varchar(255) NOT NULL,
        audience_aid varchar(512) NOT NULL,
        grants jsonb NOT NULL,
        binding_cnf varchar(128),
        issued_at timestamptz NOT NULL,
        expires_at timestamptz,
        session_id varchar(255),
        mismatch boolean NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (jti, issuer_aid, subject_aid, reported_by)
    )
    """,
    """
    CREATE OR REPLACE FUNCTION keep_hidden_tcts(token uuid, shown text, callers jsonb) RETURNS void LANGUAGE sql
    SET search_path FROM CURRENT AS $$
        INSERT INTO hidden_tcts AS stored (jti, issuer_aid, subject_aid, reported_by, audience_aid, grants,
                                           binding_cnf, issued_at, expires_at, session_id, mismatch)
        SELECT token, state ->> 'issuer', state ->> 'subject', coalesce(caller ->> 'caller', ''),
               state ->> 'audience', state -> 'grants', state ->> 'binding_cnf', (state ->> 'issued_at')::timestamptz,
               (state ->> 'expires_at')::timestamptz, state ->> 'session_id',
               coalesce((state ->> 'mismatch')::boolean, false)
        FROM jsonb_array_elements(callers) AS caller CROSS JOIN LATERAL (SELECT caller -> 'state') AS said (state)
        WHERE state ->> 'verdict' = 'verified'
          AND concat_ws(' ', state ->> 'issuer', state ->> 'subject') IS DISTINCT FROM shown
        ON CONFLICT (jti, issuer_aid, subject_aid, reported_by) DO UPDATE
        SET (audience_aid, grants, binding_cnf, expires_at) = (
                SELECT audience_aid, grants, binding_cnf, expires_at FROM (VALUES
                    (stored.audience_aid, stored.grants, stored.binding_cnf, stored.expires_at),
                    (excluded.audience_aid, excluded.grants, excluded.binding_cnf, excluded.expires_at)
                ) AS either (audience_aid, grants, binding_cnf, expires_at)
                ORDER BY coalesce(expires_at, 'infinity') DESC, grants::text COLLATE "C" DESC,
                         audience_aid COLLATE "C" DESC, coalesce(binding_cnf, '') COLLATE "C" DESC
                LIMIT 1
            ),
            issued_at = LEAST(stored.issued_at, excluded.issued_at),
            session_id = LEAST(stored.session_id COLLATE "C", excluded.session_id COLLATE "C"),
            mismatch = stored.mismatch OR excluded.mismatch
        WHERE (stored.audience_aid, stored.grants, stored.binding_cnf, stored.expires_at, stored.issued_at,
               stored.session_id, stored.mismatch)
              IS DISTINCT FROM (excluded.audience_aid, excluded.grants, excluded.binding_cnf, excluded.expires_at,
                                excluded.issued_at, excluded.session_id, excluded.mismatch)
    $$
    """,
    """
    CREATE OR REPLACE FUNCTION keep_disputed_tct() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
    BEGIN
        PERFORM keep_hidden_tcts(
            NEW.jti, CASE WHEN NEW.verdict = 'verified' THEN concat_ws(' ', NEW.issuer_aid, NEW.subject_aid) END,
            NEW.caller_states -> 'callers');
        IF NEW.verdict = 'verified' THEN
            DELETE FROM hidden_tcts
            WHERE jti = NEW.jti AND issuer_aid = NEW.issuer_aid AND subject_aid = NEW.subject_aid;
        END IF;
        RETURN NULL;
    END $$
    """,
)
CHANGES = (
    "ALTER TABLE delegations ADD COLUMN IF NOT EXISTS audience_aid varchar(512)",
    "DROP TRIGGER IF EXISTS issued_tcts_disputed ON issued_tcts",
    """
    CREATE TRIGGER issued_tcts_disputed AFTER INSERT OR UPDATE OF caller_states ON issued_tcts
    FOR EACH ROW WHEN (NEW.conflict AND NEW.caller_states IS NOT NULL) EXECUTE FUNCTION keep_disputed_tct()
    """,
    # After the trigger, so that nothing falls in between. The index on disputed rows finds them.
    """
    SELECT count(keep_hidden_tcts(
        jti, CASE WHEN verdict = 'verified' THEN concat_ws(' ', issuer_aid, subject_aid) END,
        caller_states -> 'callers')) FROM issued_tcts
    WHERE conflict AND caller_states @> '{"callers": [{"state": {"verdict": "verified"}}]}'
    """,
)
INDEXES = {
    "hidden_tcts_issuer_idx": "hidden_tcts (issuer_aid, issued_at DESC, jti)",
    "hidden_tcts_subject_idx": "hidden_tcts (subject_aid, issued_at DESC, jti)",
    "hidden_tcts_expiring_idx": "hidden_tcts (expires_at, jti)",
}


def upgrade() -> None:
    for statement in STATEMENTS:
        execute(statement)
    execute_apart(CHANGES)
    build_indexes(INDEXES)
