"""What a contained agent may not do, and how its status shows."""

from datetime import timedelta
from time import time

import pytest

from aitp_cp.registry import service as registry
from aitp_cp.retention import service as retention
from tests.containment.support import claimed, contain, contained, live, path, release, report
from tests.support.agents import Agent, manifest, new_agent, sdk_manifest
from tests.support.app import App, running_app
from tests.support.enrolment import events_of, register, registered, token_for
from tests.support.waiting import until

pytestmark = pytest.mark.anyio


async def listed(app: App, **query: str) -> list[str]:
    response = await app.http.get("/api/registry/agents", params=query)
    return [agent["aid"] for agent in response.json()["agents"]]


def later(agent: Agent, secs: int) -> bytes:
    return manifest(agent, published_at=int(time()) + secs)


async def test_a_contained_agent_leaves_discovery(app: App) -> None:
    bad, other = new_agent(), new_agent()
    await registered(app, sdk_manifest(bad))
    await registered(app, sdk_manifest(other))
    assert await listed(app) == [bad.aid, other.aid]
    done = await contained(app, bad)
    assert await listed(app) == [other.aid]
    assert await listed(app, aid=bad.aid) == []
    assert await listed(app, status="contained") == [bad.aid]
    assert await listed(app, status="all") == [bad.aid, other.aid]
    for status in ("expired", "deregistered"):
        assert await listed(app, status=status) == []
    record = await app.http.get(path(bad.aid))
    assert (record.headers["x-aitp-agent-status"], record.headers["cache-control"]) == ("contained", "no-store")
    assert record.json()["status"] == "contained"
    assert record.json()["containedAt"] == done["containment"]["containedAt"]
    text = await app.http.get(path(bad.aid, "manifest"))
    assert (text.headers["x-aitp-agent-status"], text.headers["cache-control"]) == ("contained", "no-store")
    [summary] = [
        agent for agent in (await app.get("/api/dashboard/agents")).json()["agents"] if agent["aid"] == bad.aid
    ]
    assert summary["status"] == "contained"
    export = await app.get(path(bad.aid, "export"))
    assert export.json()["agent"]["status"] == "contained"
    assert "containedAt" not in (await app.http.get(path(other.aid))).json()


async def test_another_replica_forgets_what_it_had_in_memory(app: App, database_url: str) -> None:

    bad = new_agent()
    await registered(app, sdk_manifest(bad))
    async with running_app(database_url) as second:
        assert await listed(second) == [bad.aid]
        await contained(app, bad)

        async def is_gone() -> bool:
            return await listed(second) == []

        await until(is_gone, 1)
        assert (await second.http.get(path(bad.aid))).json()["status"] == "contained"


async def test_a_contained_agent_does_not_come_back_until_it_is_released(app: App) -> None:
    bad = new_agent()
    body = sdk_manifest(bad)
    token = await token_for(app.http, body)
    await contained(app, bad)
    for response in (await app.http.post("/api/registry/enroll", content=body), await register(app.http, body, token)):
        assert (response.status_code, response.json()["code"]) == (403, "AGENT_CONTAINED")
    await release(app, bad)
    refused = await register(app.http, body, token)
    assert (refused.status_code, refused.json()["code"]) == (409, "AGENT_DEREGISTERED")
    app.clock.ahead = timedelta(seconds=3)
    await registered(app, later(bad, 2))
    assert (await app.http.get(path(bad.aid))).json()["status"] == "active"


async def test_a_release_leaves_the_agent_deregistered(app: App) -> None:
    bad = new_agent()
    await registered(app, sdk_manifest(bad))
    await contained(app, bad)
    await release(app, bad)
    assert (await app.http.get(path(bad.aid))).json()["status"] == "deregistered"


async def test_a_deregistered_agent_can_be_contained_and_its_row_can_go(app: App) -> None:
    bad = new_agent()
    await registered(app, sdk_manifest(bad))
    await app.delete(path(bad.aid))
    await contained(app, bad)
    assert (await app.http.get(path(bad.aid))).json()["status"] == "contained"
    async with app.rt.db.transaction() as conn:
        await conn.execute("UPDATE agents SET deregistered_at = now() - interval '9000 days'")
        assert await retention.sweep(conn, app.rt.settings, app.rt.clock()) is not None
    # Nothing announces what retention deletes, so a record may be in memory for some seconds; these lists are not.
    assert await listed(app, aid=bad.aid, status="all") == []
    assert (await contain(app, bad)).status_code == 200
    response = await app.http.post("/api/registry/enroll", content=sdk_manifest(bad))
    assert response.json()["code"] == "AGENT_CONTAINED"
    await report(app, claimed(bad.aid, new_agent().aid))
    assert await live(app, bad) == []


async def test_a_contained_agent_does_not_expire(app: App) -> None:
    bad, other = new_agent(), new_agent()
    await registered(app, sdk_manifest(bad))
    await registered(app, sdk_manifest(other))
    await contained(app, bad)
    app.clock.ahead = timedelta(days=2)
    async with app.rt.db.transaction() as conn:
        assert await registry.expire_due(conn, app.rt.clock()) == 1
    expired = [event["aidA"] for event in await events_of(app) if event["type"] == "agent.expired"]
    assert expired == [other.aid]
    assert (await app.http.get(path(bad.aid))).json()["status"] == "contained"


async def test_an_older_control_plane_cannot_register_it(app: App) -> None:
    bad = new_agent()
    await registered(app, sdk_manifest(bad))
    await contained(app, bad)
    written = "INSERT INTO agents (aid, display_name, handshake_endpoint, manifest_json) VALUES ($1, 'x', 'x', '{}')"
    for statement in (
        f"{written} ON CONFLICT (aid) DO UPDATE SET manifest_json = '{{}}', status = 'active'",
        "UPDATE agents SET status = 'active' WHERE aid = $1",
    ):
        with pytest.raises(Exception, match="contained"):
            async with app.rt.db.transaction() as conn:
                await conn.execute(statement, bad.aid)
    async with app.rt.db.transaction() as conn:
        await conn.execute("UPDATE agents SET last_seen_at = now() WHERE aid = $1", bad.aid)
