"""GET /api/attention: what needs an operator's attention now."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from aitp_cp.ops.attention import SOURCES, AttentionLines, attention
from aitp_cp.ops.figures import Figures
from tests.ingest.support import report
from tests.support.agents import manifest, new_agent
from tests.support.app import AUTH, App, running_app
from tests.support.enrolment import registered
from tests.support.rows import execute

pytestmark = pytest.mark.anyio


@pytest.fixture
async def app(database_url: str) -> AsyncIterator[App]:
    async with running_app(database_url) as running:
        yield running


async def asked(app: App) -> dict[str, Any]:
    app.rt.get(AttentionLines).clear()
    response = await app.get("/api/attention")
    assert response.status_code == 200, response.text
    shown: dict[str, Any] = response.json()
    return shown


async def lines(app: App) -> dict[str, dict[str, Any]]:
    shown = await asked(app)
    assert shown["unknown"] == []
    severities = [line["severity"] for line in shown["lines"]]
    assert severities == sorted(severities)
    return {line["kind"]: line for line in shown["lines"]}


async def test_nothing_needs_attention(app: App) -> None:
    assert await lines(app) == {}


async def test_a_breaker_and_a_delivery_that_waits(app: App) -> None:
    await execute(
        app,
        "INSERT INTO webhooks (id, url, events, secret, active, breaker_state, breaker_failures, breaker_opened_at)"
        " SELECT ('00000000-0000-4000-8000-00000000000' || n)::uuid, 'https://user:pass@h/', '[]', 's', true,"
        "        CASE n WHEN 1 THEN 'open' ELSE 'closed' END, 5, now() - interval '22 minutes'"
        " FROM generate_series(1, 2) AS n",
    )
    await execute(
        app,
        "INSERT INTO webhook_deliveries (id, webhook_id, event_type, payload, body, status, created_at)"
        " SELECT gen_random_uuid(), id, 'x', '{}', '', 'pending', now() - interval '1 hour' FROM webhooks",
    )
    shown = await lines(app)
    assert set(shown) == {"breaker", "deliveries"}
    assert (shown["breaker"]["severity"], shown["breaker"]["count"]) == ("bad", 5)
    assert shown["breaker"]["target"] == "/console/webhooks/00000000-0000-4000-8000-000000000001"
    assert "pass" not in str(shown)
    assert shown["deliveries"]["since"] is not None


async def test_more_failures_than_usual(app: App) -> None:
    await execute(
        app,
        "INSERT INTO handshake_sessions (session_id, aid_a, aid_b, status, created_at)"
        " SELECT 's' || n, '<b>\u202e', 'b' || n, 'failed', now() - interval '1 minute' FROM generate_series(1, 12) n",
    )
    line = (await lines(app))["failures"]
    assert (line["count"], line["target"].split("?")[0]) == (12, "/console/sessions")
    assert "12 of the newest 12 with <b>" in line["sentence"]
    await execute(
        app,
        "INSERT INTO handshake_sessions (session_id, status, created_at)"
        " SELECT 'o' || n, 'failed', now() - n * interval '10 minutes' FROM generate_series(7, 140) n",
    )
    assert "failures" not in await lines(app)


async def test_agents_that_expire_have_no_owner_or_look_alike(app: App) -> None:
    one, two = new_agent(), new_agent()
    soon = int((app.rt.clock() + timedelta(hours=2)).timestamp())
    later = int((app.rt.clock() + timedelta(days=2)).timestamp())
    await registered(app, manifest(one, display_name="researcher", expires_at=later))
    await registered(app, manifest(two, display_name="rese\u0430rcher", expires_at=soon))
    shown = await lines(app)
    assert set(shown) == {"expiring", "lookalike"}
    assert shown["expiring"]["count"] == 1
    assert shown["lookalike"]["sentence"] == f"the name of {two.aid} looks like that of {one.aid}"
    await app.http.put(f"/api/registry/agents/{one.aid}/notes", json={"owner": "team"}, headers=AUTH)
    assert (await lines(app))["unowned"]["count"] == 1


async def test_keys_that_end_and_keys_of_the_environment(app: App) -> None:
    ends = (app.rt.clock() + timedelta(days=3)).isoformat()
    made = await app.post("/api/keys", {"name": "ending", "role": "auditor", "expiresAt": ends})
    assert made.status_code == 201
    shown = await lines(app)
    assert set(shown) == {"keys", "environment-keys"}
    assert made.json()["key"] not in str(shown)


async def test_a_containment_whose_peers_have_not_confirmed(app: App) -> None:
    agent = new_agent()
    exp = int((app.rt.clock() + timedelta(hours=1)).timestamp())
    tct = {"jti": "0b8f6ad5-6b1a-4d4e-9d57-0f9c2a3b1c11", "iss": agent.aid, "sub": "peer", "grants": ["g"], "exp": exp}
    await report(app, {"type": "tct.issued", "payload": {"tct": tct}})
    response = await app.post(f"/api/registry/agents/{agent.aid}/contain", {"reason": "leaked"})
    assert response.status_code == 201, response.text
    line = (await lines(app))["containment"]
    assert line["sentence"] == f"0 of 1 peers of {agent.aid}, which is contained, show that they know"
    assert (line["count"], line["target"]) == (1, f"/console/containments/{response.json()['containment']['id']}")


async def test_a_failing_source_leaves_the_others_standing(app: App) -> None:
    """A table that is gone is a source that fails; and a clock and a job that are wrong are known meanwhile."""
    app.rt.get(Figures).clock_offset_secs = -61.5
    await execute(app, "INSERT INTO job_runs VALUES ('a.job', now(), 1, gen_random_uuid(), now(), 'KeyError')")
    await execute(app, "ALTER TABLE agent_notes RENAME TO elsewhere")
    shown = await asked(app)
    assert shown["unknown"] == ["names"]
    assert [(line["severity"], line["kind"]) for line in shown["lines"]] == [("bad", "clock"), ("soon", "job")]
    assert "-61.5 s" in shown["lines"][0]["sentence"]


async def test_a_database_that_is_away_is_the_first_line(database_url: str) -> None:
    async with running_app(database_url, CP_AID_SEED_HEX="") as app:
        await app.rt.db.close()
        app.rt.get(AttentionLines).clear()
        shown = await attention(app.rt)
    assert shown.lines[0].kind == "database"
    assert {line.kind for line in shown.lines} >= {"database", "signer"}
    assert shown.unknown == list(SOURCES)
