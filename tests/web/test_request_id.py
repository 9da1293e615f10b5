from uuid import UUID

import pytest

from tests.support.agents import manifest, new_agent
from tests.support.app import AUTH, App, running_app
from tests.support.enrolment import audit_of, register

pytestmark = pytest.mark.anyio

GOOD = ["a", "x" * 128, "Az09._:-", "8d2f1c54-1a56-4f5b-a4b4-3a0f7ad7b4a1", "trace:1-2.3_4"]
BAD = ["", "x" * 129, "a b", "a/b", "ä", "a\tb", "<script>", 'a"', "a,b", "a;b", "a=b", "a%0d", "a\x80"]


@pytest.mark.parametrize("offered", GOOD)
async def test_the_clients_own_id_is_kept(app: App, offered: str) -> None:
    for path in ("/api/livez", "/nope", "/api/audit"):
        response = await app.http.get(path, headers={"X-Request-Id": offered})
        assert response.headers["x-request-id"] == offered


async def test_any_other_id_is_replaced_by_a_fresh_one(app: App) -> None:
    responses = [await app.http.get("/api/livez", headers={b"X-Request-Id": offered.encode()}) for offered in BAD]
    responses += [await app.http.get("/api/livez") for _ in range(3)]
    fresh = [UUID(response.headers["x-request-id"]) for response in responses]
    assert len(set(fresh)) == len(responses)


async def test_it_is_in_the_audit_row(database_url: str) -> None:
    agent = new_agent()
    async with running_app(database_url) as app:
        await register(app.http, manifest(agent), **{"X-Request-Id": "the-registration"})
        response = await app.http.delete(f"/api/registry/agents/{agent.aid}", headers=AUTH)
        rows = await audit_of(app)
        assert [row["requestId"] for row in rows] == ["the-registration", response.headers["x-request-id"]]


async def test_it_is_in_the_log_line(app: App, capsys: pytest.CaptureFixture[str]) -> None:
    await app.http.get("/api/livez", headers={"X-Request-Id": "find-me"})
    lines = [line for line in capsys.readouterr().out.splitlines() if "find-me" in line]
    assert len(lines) == 1
    assert "/api/livez" in lines[0]
