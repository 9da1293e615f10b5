"""Signed tokens that a version before kept in the JSON of their row move to a table of their own (decision 19)."""

import json
from typing import Any
from uuid import uuid4

import pytest

from aitp_cp.db.migrations.run import upgrade
from tests.events.support import connected

pytestmark = pytest.mark.anyio

# The database as the version before left it.
BEFORE = (
    "DROP TRIGGER issued_tcts_disputed ON issued_tcts",
    "DROP TABLE hidden_tcts",
    "DROP FUNCTION keep_disputed_tct, keep_hidden_tcts",
    "ALTER TABLE delegations DROP COLUMN audience_aid",
    "UPDATE aitp_cp_version SET version_num = '0028_console_views'",
)
OLD_INSERT = """
INSERT INTO issued_tcts (jti, issuer_aid, subject_aid, audience_aid, grants, issued_at, verdict, reported_by, conflict,
                         caller_states)
VALUES ($1, 'alice', 'bob', 'bob', '["read"]', now(), $2, 'key:a', $3, $4::jsonb)
"""
OLD_UPDATE = "UPDATE issued_tcts SET conflict = true, caller_states = $2::jsonb WHERE jti = $1"
HIDDEN = "SELECT jti, issuer_aid, reported_by, grants::text FROM hidden_tcts ORDER BY jti, issuer_aid"


def states(*issuers: str, verdict: str = "verified") -> str:
    """What callers said, as the version before writes it: first of the row's own parties, then of these issuers."""
    told = [(None, "alice", verdict), *((f"key:{issuer}", issuer, "verified") for issuer in issuers)]
    return json.dumps({"callers": [{"caller": caller, "state": state(*rest)} for caller, *rest in told]})


def state(issuer: str, verdict: str) -> dict[str, Any]:
    parties = {"issuer": issuer, "subject": "bob", "audience": "bob"}
    times = {"issued_at": "2026-01-01T00:00:00Z", "expires_at": None}
    return {**parties, **times, "grants": ["read"], "binding_cnf": None, "session_id": None, "verdict": verdict}


async def test_they_move_and_what_the_version_before_writes_beside_this_one_follows(database_url: str) -> None:
    shown, claimed, later, single = sorted(uuid4() for _ in range(4))
    async with connected(database_url) as conn:
        for statement in BEFORE:
            await conn.execute(statement)
        await conn.execute(OLD_INSERT, shown, "verified", True, states("carol", "dave"))
        await conn.execute(OLD_INSERT, claimed, None, True, states("carol", verdict="none"))
        await conn.execute(OLD_INSERT, later, "verified", None, None)
        await conn.execute(OLD_INSERT, single, "verified", None, None)
        for again in (False, True):
            if again:
                await conn.execute(BEFORE[-1])
            assert (await upgrade(database_url))[0] == "0029_hidden_tcts"
            found = [(row["jti"], row["issuer_aid"]) for row in await conn.fetch(HIDDEN)]
            assert found == [(shown, "carol"), (shown, "dave"), (claimed, "carol")]
        await conn.execute(OLD_UPDATE, later, states("carol"))
        [copied] = [row for row in await conn.fetch(HIDDEN) if row["jti"] == later]
        assert tuple(copied)[1:] == ("carol", "key:carol", '["read"]')
