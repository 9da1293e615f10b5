"""Sessions as operators read them."""

import json
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import pytest

from tests.ingest.support import report
from tests.support.agents import new_agent
from tests.support.app import App

pytestmark = pytest.mark.anyio

NASTY = 'a "quoted"; filename=x\r\nSet-Cookie: é\\ 🦊 ' + "long" * 50


def started(session: str, **more: Any) -> dict[str, Any]:
    return {"type": "handshake.started", "ts": "2026-03-04T12:00:00.000Z", "session_id": session, **more}


async def ids(app: App, query: str = "") -> list[str]:
    response = await app.get(f"/api/sessions{query}")
    assert response.status_code == 200
    return [session["sessionId"] for session in response.json()["sessions"]]


async def test_sessions_are_listed_newest_first(app: App) -> None:
    for number in range(3):
        await report(app, started(f"s-{number}"))
    assert await ids(app) == ["s-2", "s-1", "s-0"]
    assert await ids(app, "?limit=1&offset=1") == ["s-1"]
    assert await ids(app, "?limit=0&offset=-4") == ["s-2"]


async def test_the_record_has_the_contracts_members(app: App) -> None:
    await report(app, started("s-1", aid_a="a", run_id="r"))
    [session] = (await app.get("/api/sessions")).json()["sessions"]
    assert session.pop("createdAt").endswith("Z")
    assert session.pop("updatedAt").endswith("Z")
    assert session == {
        "sessionId": "s-1",
        "aidA": "a",
        "aidB": None,
        "status": "started",
        "grants": [],
        "runId": "r",
        "boundary": None,
        "error": None,
        "startedAt": "2026-03-04T12:00:00.000Z",
        "completedAt": None,
        "conflict": False,
    }


async def test_filters_combine_and_an_aid_means_either_side_in_any_spelling(app: App) -> None:
    one, two = new_agent().aid, new_agent().aid
    await report(app, started("s-1", aid_a=one, aid_b=two, run_id="r-1"))
    await report(app, started("s-2", aid_a=two, aid_b=one, run_id="r-2"))
    await report(app, started("s-3", aid_a=two, aid_b=two, run_id="r-2"))
    await report(app, started("s-4", run_id="r-2") | {"type": "handshake.failed"})
    assert await ids(app, f"?aid={one}") == ["s-2", "s-1"]
    assert await ids(app, f"?aid={two}") == ["s-3", "s-2", "s-1"]
    assert await ids(app, f"?aid={two}&limit=1&offset=1") == ["s-2"]
    assert await ids(app, "?aid=" + one.replace("aid:pubkey:", "aid:pubkey:ed25519:")) == ["s-2", "s-1"]
    assert await ids(app, f"?aid={one}&runId=r-2") == ["s-2"]
    assert await ids(app, "?run_id=r-2&status=failed") == ["s-4"]
    assert await ids(app, "?status=complete") == []


async def test_one_session_comes_with_its_events_oldest_first(app: App) -> None:
    await report(app, started("s-1") | {"type": "handshake.complete", "ts": "2026-03-04T12:00:01Z"}, started("s-1"))
    await report(app, started("s-2"))
    found = (await app.get("/api/sessions/s-1")).json()
    assert found["session"]["status"] == "complete"
    assert [event["type"] for event in found["events"]] == ["handshake.started", "handshake.complete"]
    missing = await app.get("/api/sessions/nobody")
    assert (missing.status_code, missing.json()["code"]) == (404, "NOT_FOUND")


@pytest.mark.parametrize("session", ["a/b", "a%2Fb", "../x", "ü 1", "a?b#c"])
async def test_an_id_may_hold_whatever_its_sender_escapes(app: App, session: str) -> None:
    await report(app, started(session))
    for more in ("", "/export", "/replay"):
        response = await app.get(f"/api/sessions/{quote(session, safe='')}{more}")
        assert response.status_code == 200
        assert [event["sessionId"] for event in response.json()["events"]] == [session]


async def test_an_export_holds_the_session_its_tokens_and_all_its_events(app: App) -> None:
    tct = {"jti": str(uuid4()), "iss": "issuer", "sub": "holder"}
    await report(app, started("s-1") | {"type": "handshake.complete", "payload": {"tct": tct}})
    for _ in range(3):  # more events of the same moment than a page holds
        await report(app, *(started("s-1", payload={"number": number}, id=str(uuid4())) for number in range(90)))
    response = await app.get("/api/sessions/s-1/export")
    assert response.headers["content-disposition"] == 'attachment; filename="session-s-1.json"'
    assert response.headers["content-type"] == "application/json"
    whole = response.json()
    assert list(whole) == ["session", "tcts", "events", "exportedAt"]
    assert [found["jti"] for found in whole["tcts"]] == [tct["jti"]]
    assert len({event["seq"] for event in whole["events"]}) == 271

    lines = await app.get("/api/sessions/s-1/export?format=jsonl")
    assert lines.headers["content-type"] == "application/x-ndjson"
    records = [json.loads(line) for line in lines.text.splitlines()]
    assert [line["kind"] for line in records] == ["session", "tct", *["event"] * 271]
    assert [line["record"] for line in records[2:]] == whole["events"]


async def test_an_export_of_nothing_or_in_no_known_format_is_refused(app: App) -> None:
    await report(app, started("s-1"))
    assert (await app.get("/api/sessions/nobody/export")).status_code == 404
    response = await app.get("/api/sessions/s-1/export?format=csv")
    assert (response.status_code, response.json()["code"]) == (400, "BAD_REQUEST")


async def test_no_session_id_breaks_the_header(app: App) -> None:
    await report(app, started(NASTY))
    response = await app.get("/api/sessions/" + "".join(f"%{byte:02x}" for byte in NASTY.encode()) + "/export")
    assert response.status_code == 200
    assert response.json()["session"]["sessionId"] == NASTY
    assert "set-cookie" not in response.headers
    assert response.headers["content-disposition"].startswith(
        'attachment; filename="session-a__quoted___filename=x__Set'
    )


async def test_a_replay_is_a_window_on_the_events_of_a_session(app: App) -> None:
    times = [f"2026-03-04T12:00:0{second}.000Z" for second in range(5)]
    await report(app, *(started("s-1") | {"ts": time} for time in reversed(times)))

    async def replay(query: str) -> list[str]:
        found = (await app.get(f"/api/sessions/s-1/replay{query}")).json()
        assert (found["sessionId"], found["count"]) == ("s-1", len(found["events"]))
        return [event["ts"] for event in found["events"]]

    assert await replay("") == times
    assert await replay("?limit=2") == times[:2]
    assert await replay(f"?since={times[1]}&until={times[3]}") == times[1:4]
    nothing = (await app.get("/api/sessions/nobody/replay")).json()
    assert nothing == {"sessionId": "nobody", "events": [], "count": 0}
    wrong = await app.get("/api/sessions/s-1/replay?since=yesterday")
    assert (wrong.status_code, wrong.json()["code"]) == (400, "BAD_REQUEST")


async def test_sessions_are_found_by_when_they_took_place_and_by_how_they_ended(app: App) -> None:
    async def at(session: str, time: str, type: str, **payload: str) -> None:
        more = {"ts": f"2026-03-04T{time}Z", "payload": payload}
        await report(app, started(session) | more, started(session) | more | {"type": type})

    await at("s-1", "10:00:00", "handshake.failed", error="key_mismatch", boundary="org")
    await at("s-2", "11:00:00", "handshake.failed", error="x" * 200, boundary="cross")
    await at("s-3", "12:00:00", "handshake.complete", boundary="org")
    assert await ids(app, "?until=2026-03-04T11:00:00Z") == ["s-2", "s-1"]
    assert await ids(app, "?until=2026-03-04T10:30:00Z&limit=1") == ["s-1"]
    assert await ids(app, "?since=2026-03-04T10:30:00Z&until=2026-03-04T11:30:00Z") == ["s-2"]
    assert await ids(app, "?boundary=org") == ["s-3", "s-1"]
    assert await ids(app, "?boundary=org&error=key_mismatch") == ["s-1"]
    assert await ids(app, f"?error={'x' * 200}") == ["s-2"]
    assert await ids(app, f"?error={'x' * 199}") == []
    assert (await app.get("/api/sessions?until=soon")).json()["code"] == "FILTER_INVALID"
