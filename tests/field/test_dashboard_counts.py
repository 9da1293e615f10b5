"""The dashboard's totals cost the same whatever the history, and are exact (row 32)."""

import asyncio
import importlib
import json
from typing import Any
from uuid import uuid4

import pytest

from aitp_cp.dashboard import store
from aitp_cp.dashboard.jobs import fold
from tests.ingest.support import app, report
from tests.support.agents import manifest, new_agent
from tests.support.app import App
from tests.support.enrolment import registered

__all__ = ["app"]

pytestmark = pytest.mark.anyio

MIGRATION = importlib.import_module("aitp_cp.db.migrations.versions.0017_activity_counts")

COUNTED = """
SELECT (SELECT count(*) FROM handshake_sessions) AS handshakes,
       (SELECT count(*) FROM handshake_sessions WHERE status = 'started') AS under_way
"""
OF_AGENT = """
SELECT (SELECT count(*) FROM handshake_sessions WHERE aid_a = $1) AS initiated,
       (SELECT count(*) FROM handshake_sessions WHERE aid_b = $1) AS answered,
       (SELECT count(*) FROM audit_events WHERE aid_a = $1 AND type = 'capability.invoked') AS invoked
"""
# What other writers do to the tables: an older control plane, retention, a person.
BY_HAND = (
    "INSERT INTO handshake_sessions (session_id, status, aid_a, aid_b) SELECT 'h-' || n, 'started', $1, 'other'"
    " FROM generate_series(1, 5) AS n",
    "INSERT INTO handshake_sessions (session_id, status, aid_b) VALUES ('s-1', 'failed', $1)"
    " ON CONFLICT (session_id) DO UPDATE SET status = 'failed', aid_b = $1",
    "UPDATE handshake_sessions SET status = 'complete', aid_a = NULL, aid_b = $1 WHERE session_id = 'h-2'",
    "UPDATE handshake_sessions SET aid_a = $1, error = 'odd' WHERE session_id LIKE 'h-%'",
    "DELETE FROM handshake_sessions WHERE session_id = 'h-3' AND aid_a = $1",
    "DELETE FROM audit_events WHERE id IN (SELECT id FROM audit_events WHERE aid_a = $1 LIMIT 2)",
    "UPDATE audit_events SET type = 'odd' WHERE id IN (SELECT id FROM audit_events WHERE aid_a = $1 LIMIT 1)",
)


async def figures(app: App, aid: str) -> tuple[int, ...]:
    overview = (await app.get("/api/dashboard/overview", params={"range": "1h"})).json()["kpis"]
    [agent] = [one for one in (await app.get("/api/dashboard/agents")).json()["agents"] if one["aid"] == aid]
    sides = ("handshakesAsInitiator", "handshakesAsResponder", "capabilityInvocations")
    return overview["handshakesTotal"], overview["activeSessions"], *(agent[side] for side in sides)


async def by_counting(app: App, aid: str) -> tuple[int, ...]:
    async with app.rt.db.transaction() as conn:  # ends the second for which answers are shared
        rows = [await conn.fetchrow(COUNTED), await conn.fetchrow(OF_AGENT, aid)]
        return tuple(value for row in rows for value in (row or ()))


async def test_totals_are_exact_whoever_writes_and_whenever_they_are_folded(app: App) -> None:
    """Row 32: reports, older control planes, retention and people, with and without the job."""
    agent = new_agent()
    await registered(app, manifest(agent))
    started = {"type": "handshake.started", "aid_a": agent.aid, "aid_b": "other"}
    invoked = {"type": "capability.invoked", "aid_a": agent.aid}
    await report(app, *({**started, "session_id": f"s-{n}"} for n in range(4)), *(dict(invoked) for _ in range(5)))
    await report(app, {"type": "handshake.complete", "session_id": "s-0"}, {"type": "demo", "aid_a": agent.aid})
    assert await figures(app, agent.aid) == await by_counting(app, agent.aid) == (4, 3, 4, 0, 5)
    for number, statement in enumerate(BY_HAND):
        async with app.rt.db.transaction() as conn:
            await conn.execute(statement, agent.aid)
        if number % 2:
            await fold(app.rt)
        assert await by_counting(app, agent.aid) == await figures(app, agent.aid), statement
    await fold(app.rt)
    async with app.rt.db.connection() as conn:
        assert await conn.fetchval("SELECT count(*) FROM activity_changes") == 0


async def test_writers_of_the_same_agent_do_not_wait_for_each_others_counts(app: App) -> None:
    """Row 32: no hot row; what a transaction rolls back counts for nothing."""
    insert = "INSERT INTO handshake_sessions (session_id, status, aid_a) VALUES ($1, 'started', 'agent')"
    async with app.rt.db.connection() as mine, app.rt.db.connection() as theirs:
        undone: Any = mine.transaction()
        await undone.start()
        await mine.execute(insert, "s-1")
        async with asyncio.timeout(4):  # before a lock times out
            await theirs.execute(insert, "s-2")
            await fold(app.rt)
        await undone.rollback()
        assert await store.sessions(theirs) == (1, 1)


async def test_counting_begins_with_what_is_there(app: App) -> None:
    """Row 32: an upgrade counts the rows of older versions once, even if it is interrupted and run again."""
    agent = new_agent()
    await registered(app, manifest(agent))
    async with app.rt.db.connection() as conn:
        await conn.execute(BY_HAND[0], agent.aid)
        for seq in range(3):
            event = (
                "INSERT INTO audit_events (id, type, ts, aid_a, seq) VALUES ($1, 'capability.invoked', now(), $2, $3)"
            )
            await conn.execute(event, uuid4(), agent.aid, 1000 + seq)
        await conn.execute("DELETE FROM activity_changes; DELETE FROM activity_counts")
        for _ in range(2):
            await conn.execute(MIGRATION.recount())
    assert await figures(app, agent.aid) == (5, 5, 5, 0, 3)


async def test_totals_read_no_sessions_and_no_events(app: App) -> None:
    """Row 32: the plans of both questions name neither table."""
    async with app.rt.db.connection() as conn:
        for statement, arguments in ((store.SESSIONS, ()), (store.OF_AGENTS, (["agent"],))):
            plan = await conn.fetchval(f"EXPLAIN (FORMAT JSON) {statement}", *arguments)
            read = {name for name in ("handshake_sessions", "audit_events") if name in json.dumps(plan)}
            assert read == set()
