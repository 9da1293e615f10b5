"""Everything about one agent as a file."""

import json
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import pytest

from tests.ingest.support import report
from tests.support.agents import Agent, handshake, manifest, new_agent
from tests.support.app import App, running_app
from tests.support.enrolment import registered

pytestmark = pytest.mark.anyio


def path(aid: str, query: str = "") -> str:
    return f"/api/registry/agents/{quote(aid, safe='')}/export{query}"


async def shake(app: App, initiator: Agent, responder: Agent) -> str:
    """A real handshake, reported by its initiator; the session's id."""
    done = handshake(initiator, responder)
    event = {"type": "handshake.complete", "ts": 1_779_710_400.456, "session_id": done.session_id, "role": "initiator"}
    await report(app, event | {"aid_a": initiator.aid, "tct": {"token": "t", "claims": done.initiator.claims}})
    return done.session_id


async def test_an_export_holds_everything_with_the_agent_on_either_side(database_url: str) -> None:
    agent, other = new_agent(), new_agent()
    async with running_app(database_url) as app:
        await registered(app, manifest(agent))
        sessions = [await shake(app, agent, other), await shake(app, other, agent)]
        await shake(app, other, new_agent())
        await report(app, {"type": "demo.event", "aid_b": agent.aid, "id": "one"})

        response = await app.get(path(agent.aid))
        assert response.headers["content-disposition"] == f'attachment; filename="agent-{agent.aid}.json"'
        found = response.json()
        assert list(found) == ["agent", "sessions", "tcts", "events", "exportedAt"]
        assert found["agent"]["aid"] == agent.aid
        assert [session["sessionId"] for session in found["sessions"]] == sessions[::-1]
        assert {(tct["issuer"], tct["subject"]) for tct in found["tcts"]} == {
            (other.aid, agent.aid),
            (agent.aid, other.aid),
        }
        assert [event["type"] for event in found["events"]].count("handshake.complete") == 1
        assert {event["type"] for event in found["events"]} == {"handshake.complete", "demo.event", "agent.registered"}

        tagged = await app.get(path(agent.aid.replace("pubkey:", "pubkey:ed25519:"), "?format=jsonl"))
        lines = [json.loads(line) for line in tagged.text.splitlines()]
        kinds = [line["kind"] for line in lines]
        assert kinds == ["agent", "session", "session", "tct", "tct", "event", "event", "event"]
        assert [line["record"] for line in lines[5:]] == found["events"]


async def test_the_newest_events_come_first_and_only_so_many(database_url: str) -> None:
    agent = new_agent()
    async with running_app(database_url) as app:
        await registered(app, manifest(agent))
        at: list[dict[str, Any]] = [
            {"type": "demo.event", "ts": 2_000_000_000 + number, "aid_a": agent.aid, "id": str(uuid4())}
            for number in range(250)
        ]
        await report(app, *at)

        async def events(query: str) -> list[dict[str, Any]]:
            return list((await app.get(path(agent.aid, query))).json()["events"])

        newest = await events("?eventLimit=120")
        assert [event["seq"] for event in newest] == sorted((event["seq"] for event in newest), reverse=True)
        assert len(newest) == 120
        assert len(await events("")) == len(await events("?event_limit=junk")) == 251
        assert len(await events("?eventLimit=0")) == 1


async def test_an_export_needs_a_key_and_a_known_agent(database_url: str) -> None:
    async with running_app(database_url) as app:
        assert (await app.http.get(path(new_agent().aid))).status_code == 401
        for aid in (new_agent().aid, 'x"\r\nset-cookie: a=b'):
            response = await app.get(path(aid))
            assert (response.status_code, response.json()["code"]) == (404, "NOT_FOUND")
