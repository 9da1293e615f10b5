"""The manifests that an agent had: kept in the transaction of the registration (contract, section 22)."""

import json
import time

import pytest

from aitp_cp.registry.history import KEPT
from aitp_cp.registry.manifest_diff import Changed, diff
from tests.support.agents import Agent, manifest, new_agent
from tests.support.app import App, running_app
from tests.support.enrolment import register, registered, token_for
from tests.support.rows import execute

pytestmark = pytest.mark.anyio

AGENTS = "/api/registry/agents"


async def history(app: App, agent: Agent) -> list[dict[str, object]]:
    response = await app.get(f"{AGENTS}/{agent.aid}/manifests")
    assert response.status_code == 200, response.text
    manifests: list[dict[str, object]] = response.json()["manifests"]
    return manifests


async def test_every_manifest_is_kept_byte_for_byte(database_url: str) -> None:
    agent, start = new_agent(), int(time.time()) - 100
    bodies = [manifest(agent, published_at=start + n, display_name=f"v{n}") + b" " * n for n in range(3)]
    async with running_app(database_url) as app:
        for body in bodies:
            await registered(app, body)
        await registered(app, bodies[-1])  # the same again is no new one
        found = await history(app, agent)
        assert [entry["seq"] for entry in found] == [3, 2, 1]
        assert [entry["bytes"] for entry in found] == [len(body) for body in reversed(bodies)]
        for entry, body in zip(found, reversed(bodies), strict=True):
            response = await app.get(f"{AGENTS}/{agent.aid}/manifests/{entry['sha256']}")
            assert (response.content, response.headers["content-type"]) == (body, "application/json")
        assert (await app.get(f"{AGENTS}/{agent.aid}/manifests/{'0' * 64}")).status_code == 404
        assert (await app.get(f"{AGENTS}/{new_agent().aid}/manifests")).status_code == 404
        assert (await app.http.get(f"{AGENTS}/{agent.aid}/manifests")).status_code == 401


async def test_only_the_newest_are_kept(database_url: str) -> None:
    agent, start = new_agent(), int(time.time()) - 100
    async with running_app(database_url) as app:
        for n in range(KEPT + 2):
            await registered(app, manifest(agent, published_at=start + n))
        assert [entry["seq"] for entry in await history(app, agent)] == list(range(KEPT + 2, 2, -1))


async def test_of_two_manifests_from_one_second_the_last_one_is_newest(database_url: str) -> None:
    agent, at = new_agent(), int(time.time()) - 5
    one, other = (manifest(agent, published_at=at, display_name=name) for name in ("one", "other"))
    async with running_app(database_url) as app:
        for body in (one, other, one):
            await registered(app, body)
        newest, second = await history(app, agent)
        assert (newest["seq"], second["seq"]) == (3, 2)
        response = await app.get(f"{AGENTS}/{agent.aid}/manifests/{newest['sha256']}")
        assert response.content == one


async def test_a_registration_that_fails_keeps_nothing(database_url: str) -> None:
    agent, start = new_agent(), int(time.time()) - 100
    async with running_app(database_url) as app:
        body = manifest(agent, published_at=start)
        token = await token_for(app.http, body)
        assert (await register(app.http, body, token)).status_code == 201
        newer = manifest(agent, published_at=start + 1)
        await registered(app, newer)
        assert (await register(app.http, body)).status_code == 409
        assert [entry["seq"] for entry in await history(app, agent)] == [2, 1]


async def test_what_an_older_control_plane_registered_is_part_of_the_history(database_url: str) -> None:
    agent, start = new_agent(), int(time.time()) - 100
    old, new = (manifest(agent, published_at=start + n) for n in range(2))
    async with running_app(database_url) as app:
        await registered(app, old)
        await execute(app, "DELETE FROM agent_manifests")
        await execute(app, "UPDATE agents SET manifest_sha256 = NULL")
        (shown,) = await history(app, agent)
        response = await app.get(f"{AGENTS}/{agent.aid}/manifests/{shown['sha256']}")
        assert response.content == old
        await registered(app, new)
        assert [entry["seq"] for entry in await history(app, agent)] == [2, 1]
        await execute(app, "DELETE FROM agents")
        assert (await app.get(f"{AGENTS}/{agent.aid}/manifests")).status_code == 404


def test_a_diff_names_what_changed() -> None:
    agent = new_agent()
    old = manifest(agent, published_at=1000, extensions={"namespace": "n", "gone": [1]})
    new = manifest(
        agent,
        published_at=2000,
        offered_capabilities=["cap.write", "cap.read", "cap.new"],
        handshake_endpoint="https://b.example/hello",
        extensions={"namespace": "n", "come": {"a": 1}},
    )
    found = diff(old.decode(), new.decode())
    assert (found.capabilities_added, found.capabilities_removed) == (["cap.write", "cap.new"], [])
    assert found.host_changed
    changed = {change.member: change for change in found.changed}
    assert changed["published_at"] == Changed("published_at", "1000", "2000")
    assert changed["handshake_endpoint"].after == '"https://b.example/hello"'
    assert changed["extensions.come"] == Changed("extensions.come", None, '{"a":1}')
    assert changed["extensions.gone"] == Changed("extensions.gone", "[1]", None)
    assert "extensions.namespace" not in changed
    assert not {"aid", "signature", "offered_capabilities"} & changed.keys()


@pytest.mark.parametrize("text", ["", "[]", '{"manifest": 1}', '{"manifest": {"offered_capabilities": 1}}'])
def test_what_cannot_be_compared_counts_as_empty(text: str) -> None:
    new = json.dumps({"manifest": {"offered_capabilities": ["a"], "handshake_endpoint": "http://[", "extensions": 1}})
    assert diff(text, new).capabilities_added == ["a"]
    assert diff(new, text).capabilities_removed == ["a"]
