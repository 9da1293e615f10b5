"""GET /api/dashboard/agents: what each agent did."""

from datetime import timedelta
from typing import Any

import pytest

from tests.ingest.support import report
from tests.support.agents import Agent, handshake, manifest, new_agent
from tests.support.app import App
from tests.support.enrolment import registered

pytestmark = pytest.mark.anyio


async def enrolled(app: App, **changes: Any) -> Agent:
    agent = new_agent()
    await registered(app, manifest(agent, **changes))
    return agent


async def shown(app: App) -> list[dict[str, Any]]:
    response = await app.get("/api/dashboard/agents")
    assert response.status_code == 200, response.text
    agents: list[dict[str, Any]] = response.json()["agents"]
    return agents


def started(session: str, initiator: str, responder: str) -> dict[str, Any]:
    return {"type": "handshake.started", "session_id": session, "aid_a": initiator, "aid_b": responder}


async def test_an_agent_that_did_nothing_is_shown_with_zeros(app: App) -> None:
    assert await shown(app) == []
    agent = await enrolled(app, display_name="Idle")
    [found] = await shown(app)
    assert found.pop("registeredAt").endswith("Z")
    assert found == {
        "aid": agent.aid,
        "displayName": "Idle",
        "status": "active",
        "lastSeenAt": None,
        "handshakesAsInitiator": 0,
        "handshakesAsResponder": 0,
        "capabilityInvocations": 0,
        "unsignedReports": 0,
        "lastUnsignedReportAt": None,
    }


async def test_what_an_agent_did_is_counted_by_its_side(app: App) -> None:
    one, two = await enrolled(app), await enrolled(app)
    await report(app, started("s-1", one.aid, two.aid), started("s-2", one.aid, "aid:stranger"))
    await report(app, *({"type": "capability.invoked", "aid_a": two.aid, "aid_b": one.aid} for _ in range(3)))
    sides = ("handshakesAsInitiator", "handshakesAsResponder", "capabilityInvocations")
    counted = {found["aid"]: tuple(found[side] for side in sides) for found in await shown(app)}
    assert counted == {one.aid: (2, 0, 0), two.aid: (0, 1, 3)}
    assert all(found["lastSeenAt"] for found in await shown(app))


async def test_every_agent_is_shown_with_what_became_of_it(app: App) -> None:
    kept, expired, gone = [await enrolled(app, ttl_secs=secs) for secs in (86_400, 3600, 86_400)]
    await app.delete(f"/api/registry/agents/{gone.aid}")
    app.clock.ahead += timedelta(hours=2)
    assert {found["aid"]: found["status"] for found in await shown(app)} == {
        kept.aid: "active",
        expired.aid: "expired",
        gone.aid: "deregistered",
    }


async def test_agents_are_seen_that_a_report_names_only_in_its_token(app: App) -> None:
    initiator, responder = await enrolled(app), await enrolled(app)
    done = handshake(initiator, responder)
    said = {"agent_id": "researcher", "role": "initiator", "session_id": done.session_id}
    tct = {"token": done.initiator.token, "claims": done.initiator.claims}
    await report(app, {"type": "handshake.complete", **said, "tct": tct})
    assert all(found["lastSeenAt"] for found in await shown(app))
    found = (await app.http.get(f"/api/registry/agents/{responder.aid}")).json()
    assert found["lastSeenAt"]


async def test_every_agent_is_found_page_by_page(app: App) -> None:
    aids = [(await enrolled(app)).aid for _ in range(5)]
    found: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        page = (await app.get("/api/dashboard/agents", params={"limit": 2, "before": cursor})).json()
        found += [agent["aid"] for agent in page["agents"]]
        cursor = page.get("nextBefore")
    assert found == [agent["aid"] for agent in await shown(app)]
    assert sorted(found) == sorted(aids)
    for wrong, code in (({"before": "x"}, "FILTER_INVALID"), ({"offset": 100_001}, "OFFSET_TOO_LARGE")):
        response = await app.get("/api/dashboard/agents", params=wrong)
        assert (response.status_code, response.json()["code"]) == (400, code)
