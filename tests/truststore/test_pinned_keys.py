"""GET, POST and DELETE on /api/pinned-keys."""

from typing import Any

import pytest

from tests.support.agents import Suite, new_agent
from tests.support.app import App
from tests.truststore.support import PINNED, audited

pytestmark = pytest.mark.anyio

WRONG: list[dict[str, Any]] = [
    {"aid": "nonsense"},
    {"aid": None},
    {"aid": "aid:pubkey:" + "A" * 43 + "A"},
    {"pubkey": new_agent().key},
    {"pubkey": "short"},
    {"pubkey": None},
    {"expiresAt": "soon"},
    {"expiresAt": "1969-01-01"},
    {"expiresAt": -1},
    {"expiresAt": 10**18},
    {"label": "x" * 129},
    {"namespace": "a b"},
    {"namespace": ""},
]


async def pin(app: App, aid: str, key: str, **more: Any) -> dict[str, Any]:
    response = await app.post(PINNED, {"aid": aid, "pubkey": key, **more})
    assert response.status_code == 201, response.text
    record: dict[str, Any] = response.json()
    return record


@pytest.mark.parametrize("suite", ["ed25519", "p256"])
async def test_a_key_is_pinned_found_and_unpinned(app: App, suite: Suite) -> None:
    agent = new_agent(suite)
    record = await pin(app, agent.aid, agent.key, label="one", expiresAt="2030-01-02T03:04:05.678Z", namespace="here")
    assert list(record) == [
        "namespace",
        "aid",
        "pubkey",
        "label",
        "expiresAt",
        "addedBy",
        "createdAt",
        "updatedAt",
    ]
    assert (record["aid"], record["pubkey"], record["label"]) == (agent.aid, agent.key, "one")
    assert (record["namespace"], record["expiresAt"]) == ("here", "2030-01-02T03:04:05.678Z")
    assert record["addedBy"].startswith("apikey:")

    place = {"aid": agent.aid, "namespace": "here"}
    assert (await app.get(PINNED, params=place)).json() == record
    assert (await app.get(PINNED)).json() == {"pinnedKeys": [record]}
    assert (await app.get(PINNED, params={"namespace": "here"})).json() == {"pinnedKeys": [record]}
    assert (await app.get(PINNED, params={"namespace": "there"})).json() == {"pinnedKeys": []}
    assert (await app.get(PINNED, params={"aid": agent.aid})).status_code == 404

    gone = await app.delete(PINNED, params=place)
    assert (gone.status_code, gone.content) == (204, b"")
    assert (await app.get(PINNED, params=place)).json()["code"] == "NOT_FOUND"
    assert (await app.delete(PINNED, params=place)).json()["code"] == "NOT_FOUND"
    rows = await audited(app)
    assert [(row["action"], row["targetId"]) for row in rows] == [
        ("pinned-key.delete", agent.aid),
        ("pinned-key.upsert", agent.aid),
    ]


async def test_pinning_again_replaces_label_and_expiry(app: App) -> None:
    agent = new_agent()
    first = await pin(app, agent.aid, agent.key, label="one", expiresAt=1900000000)
    second = await pin(app, agent.aid, agent.key)
    assert (second["label"], second["expiresAt"], second["createdAt"]) == (None, None, first["createdAt"])
    assert (await app.get(PINNED)).json() == {"pinnedKeys": [second]}


async def test_the_tagged_spelling_is_the_same_agent(app: App) -> None:
    agent = new_agent()
    tagged = f"aid:pubkey:ed25519:{agent.key}"
    record = await pin(app, tagged, agent.key)
    assert record["aid"] == agent.aid
    for aid in (tagged, agent.aid):
        assert (await app.get(PINNED, params={"aid": aid})).json() == record
    assert (await app.delete(PINNED, params={"aid": tagged})).status_code == 204


async def test_a_spelling_that_an_older_control_plane_stored_is_found(app: App) -> None:
    agent = new_agent()
    tagged = f"aid:pubkey:ed25519:{agent.key}"
    async with app.rt.db.connection() as conn:
        await conn.execute("INSERT INTO pinned_keys (aid, pubkey) VALUES ($1, $2)", tagged, agent.key)
    assert (await app.get(PINNED, params={"aid": tagged})).json()["aid"] == tagged
    assert (await app.delete(PINNED, params={"aid": tagged})).status_code == 204
    assert (await app.get(PINNED)).json() == {"pinnedKeys": []}


async def test_what_is_wrong_is_refused(app: App) -> None:
    agent = new_agent()
    for change in WRONG:
        response = await app.post(PINNED, {"aid": agent.aid, "pubkey": agent.key, **change})
        assert (response.status_code, response.json()["code"]) == (400, "BODY_INVALID"), change
    assert (await app.get(PINNED)).json() == {"pinnedKeys": []}
    assert await audited(app) == []


async def test_deleting_nothing_in_particular_deletes_nothing(app: App) -> None:
    agent = new_agent()
    await pin(app, agent.aid, agent.key)
    params: dict[str, str]
    for params in ({}, {"namespace": "default"}, {"aid": ""}):
        response = await app.delete(PINNED, params=params)
        assert (response.status_code, response.json()["code"]) == (400, "BAD_REQUEST")
    assert len((await app.get(PINNED)).json()["pinnedKeys"]) == 1


async def test_an_idempotency_key_replays_the_answer(app: App) -> None:
    agent = new_agent()
    body, key = {"aid": agent.aid, "pubkey": agent.key}, {"Idempotency-Key": "k"}
    first, second = [await app.post(PINNED, body, headers=key) for _ in range(2)]
    assert (second.status_code, second.json()) == (201, first.json())
    assert second.headers["Idempotency-Replayed"] == "true"
    assert len(await audited(app)) == 1


async def test_pinned_keys_need_a_key(app: App) -> None:
    for method in ("GET", "POST", "DELETE"):
        assert (await app.http.request(method, PINNED)).status_code == 401
