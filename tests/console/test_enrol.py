"""`/console/agents/enrol`, the page of two manifests, and `/console/search`."""

import json
import time
from urllib.parse import quote

import pytest

from aitp_cp.console.pages.enrol import REASONS
from tests.support.agents import manifest, new_agent, tampered
from tests.support.app import App, running_app
from tests.support.console import signed_in
from tests.support.enrolment import audit_of, register, registered

pytestmark = pytest.mark.anyio

HOSTILE = "<img src=x onerror=alert(1)>\"'&{{7*7}}\u202e\u200bend"


async def test_a_manifest_is_checked_and_gets_a_token_that_works(database_url: str) -> None:
    agent = new_agent()
    body = manifest(agent, display_name="researcher", extensions={"namespace": "prod"})
    async with running_app(database_url) as app, signed_in(app) as browser:
        await registered(app, manifest(new_agent(), display_name="rese\u0430rcher"))
        assert "signed manifest" in (await browser.get("/console/agents/enrol")).text
        form = {"manifest": json.dumps(json.loads(body), indent=2).replace("\n", "\r\n")}
        checked = (await browser.post("/console/agents/enrol", form)).text
        assert "Who else has this name" in checked
        assert ">prod<" in checked
        assert "not registered" in checked
        assert "Enrollment token" not in checked
        minted = await browser.post("/console/agents/enrol/token", form, headers={"Accept-Encoding": "gzip"})
        assert "content-encoding" not in minted.headers
        token = minted.text.partition('data-copy="')[2].partition('"')[0]
        assert (await register(app.http, body, token)).status_code == 201
        (row,) = [row for row in await audit_of(app) if row["action"] == "agent.enroll"]
        assert (row["targetId"], row["details"]["via"]) == (agent.aid, "console")
        assert token not in str(row)


async def test_an_operator_registers_the_agent_in_the_browser_alone(database_url: str) -> None:
    agent = new_agent()
    form = {"manifest": manifest(agent, display_name="researcher").decode()}
    async with running_app(database_url) as app, signed_in(app) as browser:
        assert "Register it now" in (await browser.post("/console/agents/enrol", form)).text
        response = await browser.post("/console/agents/enrol/register", form)
        assert (response.status_code, response.headers["location"].startswith("/console/agents/aid")) == (303, True)
        assert "researcher" in (await browser.get(response.headers["location"])).text
        assert (await app.get(f"/api/registry/agents/{quote(agent.aid)}")).status_code == 200
        (row,) = [row for row in await audit_of(app) if row["action"] == "agent.register"]
        assert (row["targetId"], row["details"]["via"]) == (agent.aid, "console")


async def test_what_does_not_verify_is_said_in_words(app: App) -> None:
    agent = new_agent()
    body = manifest(agent)
    contained = new_agent()
    assert (await app.http.post(f"/api/registry/agents/{contained.aid}/contain", json={"reason": "r"})).is_success
    late = manifest(agent, published_at=int(time.time()) - 7200, ttl_secs=3600)
    for text, expected in (
        (tampered(body).decode(), REASONS["signature_invalid"]),
        (late.decode(), REASONS["expired"]),
        ("{}", "MANIFEST_INVALID"),
        ("not json", "BODY_INVALID"),
        ("", "BODY_INVALID"),
        (manifest(contained).decode(), "AGENT_CONTAINED"),
        (manifest(agent, display_name="x" * 300).decode(), "longer than 256"),
    ):
        for path in ("", "/token", "/register"):
            response = await app.http.post(
                f"/console/agents/enrol{path}", data={"manifest": text}, headers={"sec-fetch-site": "same-origin"}
            )
            assert (response.status_code, expected in response.text) == (200, True), (text[:40], response.text)
            assert "Shown this once" not in response.text


async def test_two_manifests_side_by_side(app: App) -> None:
    agent, start = new_agent(), int(time.time()) - 10
    old = manifest(agent, published_at=start, offered_capabilities=["cap.read", "cap.gone"])
    new = manifest(
        agent,
        published_at=start + 5,
        handshake_endpoint="https://b.example/hello",
        offered_capabilities=["cap.read", HOSTILE],
        extensions={HOSTILE: HOSTILE},
    )
    for body in (old, new):
        await registered(app, body)
    place = f"/console/agents/{quote(agent.aid, safe='')}/manifests"
    page = (await app.http.get(f"{place}/1..2")).text
    assert "it answers at another host" in page
    assert "− cap.gone" in page
    assert "https://b.example/hello" in page
    assert "<img" not in page
    assert "⟨U+202E⟩" in page
    first = (await app.http.get(f"{place}/..1")).text
    assert "the first version seen" in first
    for wrong in ("1..3", "2", "0..1", "x..y", "-1..1", "1..99999999999"):
        assert (await app.http.get(f"{place}/{wrong}")).status_code == 404, wrong
    kept = (await app.http.get(f"/api/registry/agents/{agent.aid}/manifests")).json()["manifests"]
    raw = await app.http.get(f"{place}/{kept[0]['sha256']}/raw")
    assert raw.content == new
    assert "attachment" in raw.headers["content-disposition"]


async def test_an_id_leads_to_its_page(app: App) -> None:
    agent = new_agent()
    await registered(app, manifest(agent, display_name="researcher"))
    await registered(app, manifest(new_agent(), display_name="research desk"))
    await app.http.post(
        "/api/events", json=[{"type": "tick", "session_id": "s", "run_id": "a run", "aid_a": agent.aid}]
    )
    for q, place in (
        (agent.aid, f"/console/agents/{quote(agent.aid, safe='')}"),
        (agent.aid[-9:], f"/console/agents/{quote(agent.aid, safe='')}"),
        ("researcher", f"/console/agents/{quote(agent.aid, safe='')}"),
        ("a run", "/console/events?runId=a+run"),
    ):
        response = await app.http.get("/console/search", params={"q": q})
        assert (response.status_code, response.headers.get("location")) == (303, place), q
    both = (await app.http.get("/console/search?q=research")).text
    assert both.count("<li>") >= 2
    for q in ("", HOSTILE, "nothing"):
        response = await app.http.get("/console/search", params={"q": q})
        assert (response.status_code, "<img" in response.text) == (200, False)
    assert "is not an id we know" in (await app.http.get("/console/search?q=nothing")).text
