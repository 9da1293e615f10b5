"""GET /api/audit (contract, section 13)."""

import hashlib
import re
from typing import Any
from uuid import UUID

import pytest

from tests.support.agents import manifest, new_agent
from tests.support.app import API_KEY, AUTH, OTHER_KEY, App, running_app
from tests.support.enrolment import audit_of, registered
from tests.support.rows import execute

pytestmark = pytest.mark.anyio

MEMBERS = {"id", "action", "actorId", "actorName", "targetId", "details", "requestId", "createdAt"}


async def page(app: App, **filters: str) -> list[dict[str, Any]]:
    response = await app.get("/api/audit", params=filters)
    said = response.json()
    assert response.status_code == 200
    assert set(said) - {"nextBefore"} == {"entries", "count"}
    assert said["count"] == len(said["entries"])
    entries: list[dict[str, Any]] = said["entries"]
    return entries


async def test_an_entry(database_url: str) -> None:
    agent = new_agent()
    async with running_app(database_url) as app:
        assert await page(app) == []
        await registered(app, manifest(agent))
        headers = {"Authorization": f"Bearer {OTHER_KEY}", "X-Request-Id": "the-request"}
        await app.http.delete(f"/api/registry/agents/{agent.aid}", headers=headers)
        entry, older = await page(app)
    assert set(entry) == set(older) == MEMBERS
    assert UUID(entry["id"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", entry["createdAt"])
    assert entry["createdAt"] >= older["createdAt"]
    assert (entry["action"], older["action"]) == ("agent.deregister", "agent.register")
    assert (entry["targetId"], entry["requestId"]) == (agent.aid, "the-request")
    assert entry["actorId"] == "apikey:" + hashlib.sha256(OTHER_KEY.encode()).hexdigest()[:16]
    assert isinstance(entry["details"], dict)
    for secret in (API_KEY, OTHER_KEY):
        assert secret not in str([entry, older])


async def test_pages_newest_first(database_url: str) -> None:
    async with running_app(database_url) as app:
        await execute(
            app,
            "INSERT INTO admin_audit_log (id, action, created_at)"
            " SELECT gen_random_uuid(), 'n' || n, timestamptz '2026-01-01' + n * interval '1 s'"
            " FROM generate_series(1, 1005) AS n",
        )

        async def actions(**filters: str) -> list[str]:
            return [entry["action"] for entry in await page(app, **filters)]

        assert await actions(limit="3") == ["n1005", "n1004", "n1003"]
        assert await actions(limit="2", offset="3") == ["n1002", "n1001"]
        assert len(await actions()) == 100
        assert len(await actions(limit="99999")) == 1000
        assert len(await actions(limit="many", offset="-1")) == 100
        assert len(await actions(limit="0")) == 1
        assert await actions(offset="2000") == []
        (entry,) = await page(app, limit="1")
        assert entry == entry | {"actorId": None, "targetId": None, "details": {}, "requestId": None}


async def test_entries_of_one_moment_do_not_change_places(database_url: str) -> None:
    async with running_app(database_url) as app:
        await execute(
            app,
            "INSERT INTO admin_audit_log (id, action, created_at)"
            " SELECT gen_random_uuid(), 'x', '2026-01-01' FROM generate_series(1, 50)",
        )
        whole = await page(app)
        paged = [entry for offset in range(0, 50, 7) for entry in await page(app, limit="7", offset=str(offset))]
        assert paged == whole


async def test_refused_and_reading_calls_leave_no_trace(database_url: str) -> None:
    async with running_app(database_url) as app:
        await app.get("/api/events/history")
        await app.http.delete(f"/api/registry/agents/{new_agent().aid}", headers=AUTH)
        await app.http.delete(f"/api/registry/agents/{new_agent().aid}")
        await app.http.post("/api/registry/agents", content=manifest(new_agent()))
        assert await audit_of(app) == []


FILL = """
INSERT INTO admin_audit_log (id, action, actor_id, target_id, request_id, created_at)
SELECT gen_random_uuid(), 'action-' || n % 2, 'actor-' || n % 3, 'target-' || n % 5, 'request-' || n,
       timestamptz '2026-01-01' + n * interval '1 s'
FROM generate_series(1, 30) AS n
"""


async def test_filters_narrow_together(database_url: str) -> None:
    async with running_app(database_url) as app:
        await execute(app, FILL)

        async def requests(**filters: str) -> list[int]:
            return [int(entry["requestId"].removeprefix("request-")) for entry in await page(app, **filters)]

        assert await requests(actor="actor-1") == [28, 25, 22, 19, 16, 13, 10, 7, 4, 1]
        assert await requests(actor="actor-1", action="action-0") == [28, 22, 16, 10, 4]
        assert await requests(target="target-3", actor="actor-1") == [28, 13]
        assert await requests(requestId="request-7") == await requests(request_id="request-7") == [7]
        assert await requests(since="2026-01-01T00:00:04Z", until="2026-01-01T00:00:06Z") == [6, 5, 4]
        assert await requests(action="none") == []
        refused = await app.get("/api/audit", params={"since": "soon"})
        assert (refused.status_code, refused.json()["code"]) == (400, "FILTER_INVALID")
        first = (await app.get("/api/audit", params={"actor": "actor-1", "limit": "4"})).json()
        rest = await requests(actor="actor-1", before=first["nextBefore"])
        assert rest == [16, 13, 10, 7, 4, 1]


async def test_an_agent_is_found_in_either_spelling(database_url: str) -> None:
    agent = new_agent()
    async with running_app(database_url) as app:
        await registered(app, manifest(agent))
        tagged = agent.aid.replace("aid:pubkey:", "aid:pubkey:ed25519:")
        for spelling in (agent.aid, tagged):
            assert [entry["action"] for entry in await page(app, target=spelling)] == ["agent.register"]
