"""What operators note about agents (contract, section 22)."""

from typing import Any
from urllib.parse import quote

import pytest

from aitp_cp.notes.model import MAX_LABELS, MAX_NOTE, MAX_OWNER
from tests.support.agents import manifest, new_agent
from tests.support.app import AUTH, App, running_app
from tests.support.enrolment import audit_of, registered

pytestmark = pytest.mark.anyio

FULL = {"owner": "team-rag", "note": "asks for\nthe index", "labels": ["rag", "eu"]}


def path(aid: str) -> str:
    return f"/api/registry/agents/{quote(aid, safe='')}/notes"


async def put(app: App, aid: str, body: Any) -> Any:
    return await app.http.put(path(aid), json=body, headers=AUTH)


async def test_notes_are_written_replaced_and_forgotten_with_audit(database_url: str) -> None:
    agent = new_agent()
    async with running_app(database_url) as app:
        assert (await app.get(path(agent.aid))).status_code == 404
        stored = (await put(app, agent.aid, FULL)).json()
        assert {**stored, **FULL, "aid": agent.aid} == stored
        assert (await app.get(path(agent.aid.replace("pubkey:", "pubkey:ed25519:")))).json() == stored
        assert (await put(app, agent.aid, {"owner": "team-b"})).json()["labels"] == []
        assert (await app.delete(path(agent.aid))).status_code == 204
        assert (await app.delete(path(agent.aid))).status_code == 404
        first, second, last = await audit_of(app)
        assert [entry["action"] for entry in (first, second, last)] == [
            *["agent-notes.update"] * 2,
            "agent-notes.delete",
        ]
        assert {entry["targetId"] for entry in (first, second, last)} == {agent.aid}
        assert first["details"] == {"owner": "team-rag", "labels": ["rag", "eu"], "noteChanged": True}
        assert second["details"]["previousOwner"] == "team-rag"
        assert "index" not in str((first, second, last))


async def test_an_agents_own_record_shows_none_of_it(database_url: str) -> None:
    agent = new_agent()
    async with running_app(database_url) as app:
        await registered(app, manifest(agent))
        await put(app, agent.aid, FULL)
        for response in (
            await app.http.get("/api/registry/agents"),
            await app.http.get(f"/api/registry/agents/{agent.aid}"),
        ):
            assert "team-rag" not in response.text


async def test_names_in_events_that_are_no_aids_may_have_notes_too(database_url: str) -> None:
    async with running_app(database_url) as app:
        for aid in ("agent/ü 7", "../x", "<script>", "a" * 512):
            assert (await put(app, aid, FULL)).status_code == 200, aid
            assert (await app.get(path(aid))).json()["aid"] == aid
        assert (await put(app, "a" * 513, FULL)).status_code == 400


@pytest.mark.parametrize(
    "body",
    [
        {"owner": ""},
        {"owner": " "},
        {"owner": "a\u202eb"},
        {"owner": "a" * (MAX_OWNER + 1)},
        {"note": "a" * (MAX_NOTE + 1)},
        {"labels": ["a"] * (MAX_LABELS + 1)},
        {"labels": [""]},
        {"labels": ["a\n"]},
        {"labels": None},
        {"note": "\0"},
        {"claims": "x"},
    ],
)
async def test_what_is_no_note_is_refused(module_database_url: str, body: Any) -> None:
    async with running_app(module_database_url) as app:
        refused = await put(app, "aid:x", body)
        assert (refused.status_code, refused.json()["code"]) == (400, "BODY_INVALID")
        assert (await app.get(path("aid:x"))).status_code == 404


async def test_the_list_is_by_owner_and_label(database_url: str) -> None:
    async with running_app(database_url) as app:
        for n in range(4):
            await put(app, f"aid-{n}", {"owner": f"team-{n % 2}", "labels": [f"label-{n}", "all"]})

        async def listed(**filters: str) -> list[str]:
            response = await app.get("/api/registry/notes", params=filters)
            return [entry["aid"] for entry in response.json()["notes"]]

        assert await listed() == ["aid-3", "aid-2", "aid-1", "aid-0"]
        assert await listed(owner="team-1") == ["aid-3", "aid-1"]
        assert await listed(label="label-2") == ["aid-2"]
        assert await listed(label="label") == []
        assert await listed(aid="aid-0", owner="team-1") == []
