"""The two ways an agent leaves: an operator's word and its own expiry (contract, section 8)."""

import asyncio
from datetime import timedelta

import pytest

from aitp_cp.registry import service
from aitp_cp.registry.jobs import JOBS, expire_agents, read_names
from tests.support.agents import Agent, manifest, new_agent
from tests.support.app import API_KEY, AUTH, App, running_app
from tests.support.enrolment import audit_of, events_of, register, registered
from tests.support.rows import break_inserts, counts, execute, mend_inserts, subscribe, value

pytestmark = pytest.mark.anyio

AGENTS = "/api/registry/agents"


async def remove(app: App, aid: str) -> tuple[int, dict[str, str]]:
    response = await app.http.delete(f"{AGENTS}/{aid}", headers=AUTH)
    return response.status_code, response.json()


async def add_short(app: App, count: int) -> list[Agent]:
    agents = [new_agent() for _ in range(count)]
    for agent in agents:
        await registered(app, manifest(agent, ttl_secs=600, display_name=agent.aid[-5:]), **{"X-Aitp-Namespace": "n"})
    return agents


async def statuses(app: App) -> set[str]:
    return set(await value(app, "SELECT array_agg(DISTINCT status) FROM agents"))


async def test_an_operator_takes_an_agent_out(database_url: str) -> None:
    agent = new_agent()
    async with running_app(database_url) as app:
        await subscribe(app)
        await registered(app, manifest(agent))
        response = await app.http.delete(f"{AGENTS}/{agent.aid.replace(':', '%3A')}", headers=AUTH)
        assert (response.status_code, response.json()) == (200, {"aid": agent.aid, "status": "deregistered"})
        assert (await app.http.get(AGENTS)).json() == {"agents": []}

        event = (await events_of(app))[-1]
        assert (event["type"], event["aidA"]) == ("agent.deregistered", agent.aid)
        assert event["payload"]["reason"] == "admin_deregister"
        row = (await audit_of(app))[-1]
        assert (row["action"], row["targetId"]) == ("agent.deregister", agent.aid)
        assert row["actorId"].startswith("apikey:")
        assert API_KEY not in str(row)
        assert row["requestId"] == response.headers["x-request-id"]
        await app.enqueue()
        assert await value(app, "SELECT count(*) FROM webhook_deliveries WHERE event_type = 'agent.deregistered'") == 1


async def test_a_second_time_changes_nothing(database_url: str) -> None:
    agent = new_agent()
    async with running_app(database_url) as app:
        await registered(app, manifest(agent))
        done = 200, {"aid": agent.aid, "status": "deregistered"}
        responses = await asyncio.gather(*(remove(app, agent.aid) for _ in range(10)))
        assert responses == [done] * 10
        assert await remove(app, agent.aid.replace("pubkey:", "pubkey:ed25519:")) == done
        assert [event["type"] for event in await events_of(app)] == ["agent.registered", "agent.deregistered"]
        assert len(await audit_of(app)) == 2


async def test_an_agent_nobody_knows(database_url: str) -> None:
    async with running_app(database_url) as app:
        for aid in (new_agent().aid, "x", "%F0%9F%98%80", "a" * 3000):
            status, said = await remove(app, aid)
            assert (status, said["code"]) == (404, "NOT_FOUND")
        assert await counts(app) == {}


@pytest.mark.parametrize("table", ["admin_audit_log", "audit_events"])
async def test_it_is_all_or_nothing(database_url: str, table: str) -> None:
    agent = new_agent()
    async with running_app(database_url) as app:
        await subscribe(app)
        await registered(app, manifest(agent))
        rows = await counts(app)
        await break_inserts(app, table)
        status, said = await remove(app, agent.aid)
        assert (status, said) == (500, {"error": "unexpected failure", "code": "INTERNAL"})
        assert await counts(app) == rows
        assert await statuses(app) == {"active"}
        await mend_inserts(app, table)
        assert (await remove(app, agent.aid))[0] == 200


async def test_agents_past_their_manifest_expire_once_with_one_event(database_url: str) -> None:
    async with running_app(database_url) as app:
        await subscribe(app)
        short = (await add_short(app, 1))[0]
        await registered(app, manifest(new_agent()))
        gone = (await add_short(app, 1))[0]
        await remove(app, gone.aid)
        before = len(await events_of(app))

        await expire_agents(app.rt)
        assert len(await events_of(app)) == before
        app.clock.ahead = timedelta(minutes=11)
        for _ in range(3):
            await expire_agents(app.rt)
        (event,) = (await events_of(app))[before:]
        assert (event["type"], event["aidA"]) == ("agent.expired", short.aid)
        assert event["payload"] == {"reason": "manifest_expired", "displayName": short.aid[-5:], "namespace": "n"}
        assert await statuses(app) == {"active", "expired", "deregistered"}
        await app.enqueue()
        assert await value(app, "SELECT count(*) FROM webhook_deliveries WHERE event_type = 'agent.expired'") == 1
        assert len(await audit_of(app)) == 4  # no administrator did this


async def test_two_replicas_expire_each_agent_exactly_once(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "EXPIRY_BATCH", 7)
    async with running_app(database_url) as one, running_app(database_url) as other:
        await execute(
            one,
            "INSERT INTO agents (aid, display_name, handshake_endpoint, offered_caps, manifest_json,"
            " manifest_expires_at, registered_at)"
            " SELECT 'aid:' || n, 'n' || n, '', '[]', '{}', now() - interval '1 s', now()"
            " FROM generate_series(1, 300) AS n",
        )
        await asyncio.gather(*(expire_agents(app.rt) for app in (one, other) * 4))
        events = await events_of(one, type="agent.expired")
        assert sorted(event["aidA"] for event in events) == sorted(f"aid:{number}" for number in range(1, 301))
        assert await statuses(one) == {"expired"}


async def test_an_agent_that_renews_while_it_expires_is_either_but_not_lost(database_url: str) -> None:
    async with running_app(database_url) as app:
        agents = await add_short(app, 10)
        app.clock.ahead = timedelta(minutes=11)
        renewals = [manifest(agent, published_at=int(app.clock().timestamp())) for agent in agents]
        renewing = asyncio.gather(*(register(app.http, body) for body in renewals))
        await asyncio.gather(*(expire_agents(app.rt) for _ in range(4)))
        responses = await renewing
        assert {response.status_code for response in responses} == {201}
        assert await statuses(app) == {"active"}


def test_the_job_runs_at_boot_and_every_five_minutes() -> None:
    assert [(job.name, job.every_secs, job.run) for job in JOBS] == [
        ("registry.expire", 300, expire_agents),
        ("registry.read-names", 300, read_names),
    ]
