"""`/console/agents` and the page of one agent."""

import html
import re
import shlex
import time
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import pytest

from aitp_cp.console.pages import agent as agent_page
from aitp_cp.console.pages.agents import FILTERS
from aitp_cp.protocol.scopes import Role
from tests.support.agents import Agent, manifest, new_agent
from tests.support.app import App
from tests.support.console import browsing, signed_in
from tests.support.enrolment import audit_of, registered
from tests.support.rows import execute, value

pytestmark = pytest.mark.anyio

HOSTILE = "<img src=x onerror=alert(1)>\"'&{{7*7}}\u202e\u200bend"
TABS = ("timeline", "peers", "tokens", "delegations", "manifests", "audit")


async def add(app: App, name: str, **changes: Any) -> Agent:
    agent = new_agent()
    await registered(app, manifest(agent, display_name=name, **changes))
    return agent


def page_of(agent: Agent | str, tab: str = "") -> str:
    aid = agent if isinstance(agent, str) else agent.aid
    return f"/console/agents/{quote(aid, safe='')}" + (f"?tab={tab}" if tab else "")


def names(page: str) -> list[str]:
    return re.findall(r"<tr id=\"k[0-9a-f]{12}\">.*?<bdi>“([^”]*)”", page, re.DOTALL)


async def met(app: App, one: Agent, other: Agent) -> None:
    """A handshake with its token and a delegation."""
    jti = "0f8fad5b-d9cb-469f-a165-70867728950e"
    tct = {"jti": jti, "iss": one.aid, "sub": other.aid, "grants": ["demo"], "iat": 1779710400, "exp": 1979710400}
    hop = {"jti": jti.replace("0f", "1f"), "parent_jti": jti, "delegator": other.aid, "delegatee": one.aid}
    common = {"session_id": "s-1", "aid_a": one.aid, "aid_b": other.aid}
    reports = [
        {"type": "handshake.complete", "payload": {"tct": tct}, **common},
        {"type": "delegation.issued", "payload": {**hop, "scope": ["demo"]}, **common},
    ]
    response = await app.post("/api/events", {"events": reports})
    assert response.json()["inserted"] == 2, response.text


async def test_agents_with_what_operators_ask_of_them(app: App) -> None:
    one, other = await add(app, "researcher", ttl_secs=300_000), await add(app, "broker", ttl_secs=3600)
    await add(app, "rese\u0430rcher", ttl_secs=300_000)
    await met(app, one, other)
    await app.http.put(f"/api/registry/agents/{one.aid}/notes", json={"owner": "team-rag"})
    page = (await app.http.get("/console/agents")).text
    assert names(page) == ["researcher", "broker", "rese\u0430rcher"]
    assert page.count("look-alike name") == 2
    assert page.count("team-rag") == 1
    assert page.count("</span> unowned<") == 2
    assert page.count('class="chip soon">expires') == 1
    assert page.count("data-live") == 1
    for query, expected in (
        ("q=RESE", ["researcher", "rese\u0430rcher"]),
        (f"q={other.aid[-8:]}", ["broker"]),
        ("q=cap.read&limit=1", ["researcher"]),
        ("owner=team-rag", ["researcher"]),
        ("unowned=true", ["broker", "rese\u0430rcher"]),
        ("expires=24h", ["broker"]),
        ("status=deregistered", []),
        ("looks_like=Researcher", ["researcher", "rese\u0430rcher"]),
        ("namespace=elsewhere", []),
    ):
        assert names((await app.http.get(f"/console/agents?{query}")).text) == expected, query
    none = (await app.http.get("/console/agents?status=expired")).text
    assert 'href="/console/agents?status=active"' in none
    first = (await app.http.get("/console/agents?limit=2")).text
    older = re.search(r'rel="next" href="([^"]+)"', first)
    assert older
    assert names((await app.http.get(older[1].replace("&amp;", "&"))).text) == ["rese\u0430rcher"]


async def test_no_agents_at_all(app: App) -> None:
    assert "none has enrolled yet" in (await app.http.get("/console/agents")).text


async def test_agents_as_a_file_with_one_row_in_the_audit(app: App) -> None:
    await add(app, "=cmd|' /C calc'!A0")
    table = await app.http.get("/console/agents/export?format=csv&q=%3Dcmd")
    assert table.headers["content-type"].startswith("text/csv")
    assert "attachment" in table.headers["content-disposition"]
    assert ",'=cmd|' /C calc'!A0,active," in table.text
    lines = (await app.http.get("/console/agents/export?format=jsonl")).text.splitlines()
    assert [line[:16] for line in lines] == ['{"kind":"export"', '{"kind":"agent",']
    assert (await app.http.get("/console/agents/export")).status_code == 400
    rows = await app.http.get("/api/audit", params={"action": "agents.export"})
    assert [row["details"]["truncated"] for row in rows.json()["entries"]] == [False, False]


async def test_a_filter_holds_for_later_pages_files_and_bulk_actions(app: App) -> None:
    for _ in range(2):
        await add(app, "researcher", ttl_secs=3600)
    values = {"unowned": "true", "expires": "24h", "owner": "", "aid": "", "status": ""}
    values |= {"expires_before": "2999-01-01T00:00:00.000Z", "expires_after": "2020-01-01T00:00:00.000Z"}
    chosen = {name: values.get(name, "researcher") for name in FILTERS}
    chosen |= {"capability": "cap.read", "namespace": "default"}
    for name, wanted in chosen.items():
        if not wanted:  # none or one matches; the status has a test of its own
            continue
        page = (await app.http.get("/console/agents", params={name: wanted, "limit": "1"})).text
        addresses = [html.unescape(each) for each in re.findall(r'href="([^"]*(?:export|before=)[^"]*)"', page)]
        assert len(addresses) == 3, name
        assert all(parse_qs(urlsplit(each).query)[name] == [wanted] for each in addresses), name
        assert f'<input type="hidden" name="{name}" value="{wanted}">' in page
        async with browsing(app) as browser:
            plan = await browser.post("/console/agents/deregister", {name: wanted, "all": "1"})
        assert "2 agents would leave" in plan.text, name


async def test_agents_are_deregistered_together_as_planned(guarded: App) -> None:
    agents = [await add(guarded, f"worker {n}") for n in range(3)]
    async with signed_in(guarded) as browser:
        form = {"aid": [agents[0].aid, agents[1].aid]}
        plan = await browser.post("/console/agents/deregister", form)  # type: ignore[arg-type]
        assert "2 agents would leave discovery" in plan.text
        assert await value(guarded, "SELECT count(*) FROM agents WHERE status = 'deregistered'") == 0
        digest = plan.text.partition('name="digest" value="')[2].partition('"')[0]
        changed = await browser.post("/console/agents/deregister", {"all": "1", "digest": digest})
        assert "look again" in changed.text
        done = await browser.post("/console/agents/deregister", {**form, "digest": digest})  # type: ignore[dict-item]
        assert (done.status_code, done.headers["location"]) == (303, "/console/agents?status=deregistered")
        everything = await browser.post("/console/agents/deregister", {"all": "1", "q": "worker"})
        assert "1 agent would leave" in everything.text
        assert "Nothing to deregister" in (await browser.post("/console/agents/deregister", {"q": "worker"})).text
    gone = [row["targetId"] for row in await audit_of(guarded) if row["action"] == "agent.deregister"]
    assert sorted(gone) == sorted(form["aid"])
    events = await guarded.get("/api/events/history", params={"type": "agent.deregistered"})
    assert len(events.json()["events"]) == 2


async def test_every_tab_of_an_agent(app: App) -> None:
    one, other = await add(app, "researcher"), await add(app, "broker")
    await add(app, "rese\u0430rcher")
    await met(app, one, other)
    await registered(app, manifest(one, display_name="researcher", published_at=int(time.time()) + 60))
    shown = {}
    for tab in TABS:
        response = await app.http.get(page_of(one, tab))
        assert response.status_code == 200, response.text
        shown[tab] = response.text
        assert "Its name looks like" in response.text
        fragment = await app.http.get(page_of(one, tab), headers={"x-fragment": "tab"})
        assert fragment.text.startswith('<section id="tab"')
    assert "handshake.complete" in shown["timeline"]
    assert "1 tokens" in shown["peers"]
    assert "“broker”" in shown["peers"]
    assert ">issued<" in shown["tokens"]
    assert ">got<" in shown["delegations"]
    assert f'href="{page_of(one)}/manifests/1..2"' in shown["manifests"]
    assert "agent.register" in shown["audit"]
    assert (await app.http.get(page_of(one, "nothing"))).status_code == 404


async def test_an_aid_that_only_events_name_has_a_page_too(app: App) -> None:
    unknown = new_agent().aid
    assert (await app.http.get(page_of(unknown))).status_code == 404
    for aid in (unknown, "agent " + HOSTILE):
        await app.http.post("/api/events", json=[{"type": "tick", "aid_b": aid}])
        for tab in TABS:
            page = await app.http.get(page_of(aid, tab))
            assert (page.status_code, "never registered here" in page.text) == (200, True), page.text
            assert "Deregister" not in page.text


async def test_notes_pins_and_departures(guarded: App) -> None:
    agent = await add(guarded, "researcher")
    path = page_of(agent)
    async with signed_in(guarded) as browser:
        form = {"owner": "team-rag", "labels": "a, b,,a ", "note": "one\r\ntwo"}
        response = await browser.post(f"{path}/notes", form)
        assert (response.status_code, response.headers["location"]) == (303, path)
        stored = (await guarded.get(f"/api/registry/agents/{agent.aid}/notes")).json()
        assert (stored["owner"], stored["labels"], stored["note"]) == ("team-rag", ["a", "b"], "one\ntwo")
        assert "team-rag" in (await browser.get(path)).text
        assert (await browser.post(f"{path}/notes", {"owner": "x" * 200})).status_code == 400
        assert (await browser.post(f"{path}/notes", {"owner": "", "labels": ",", "note": " "})).status_code == 303
        assert (await guarded.get(f"/api/registry/agents/{agent.aid}/notes")).status_code == 404
        assert (await browser.post(f"{path}/pin", {"label": "checked by hand"})).status_code == 303
        assert (await browser.post(f"{path}/deregister", {})).status_code == 400
        assert (await browser.post(f"{path}/deregister", {"sure": "on"})).status_code == 303
        assert "Deregister</summary>" not in (await browser.get(path)).text
        export = await browser.get(f"{path}/export?format=jsonl")
        assert export.text.startswith('{"kind":"agent"')
    rows = {row["action"]: row for row in await audit_of(guarded) if row["details"].get("via") == "console"}
    expected = {"agent-notes.update", "agent-notes.delete", "pinned-key.upsert", "agent.deregister", "agent.export"}
    assert rows.keys() >= expected
    assert {rows[action]["targetId"] for action in expected} == {agent.aid}


async def test_what_a_role_may_not_do_has_no_form(guarded: App) -> None:
    agent = await add(guarded, "researcher")
    async with signed_in(guarded, Role.AUDITOR) as browser:
        page = (await browser.get(page_of(agent))).text
        for form in ("/notes", "/pin", "/deregister", "/contain"):
            assert f"{page_of(agent)}{form}" not in page
            refused = await browser.post(f"{page_of(agent)}{form}", {"sure": "on"})
            assert refused.status_code in (403, 404, 405), form
        listed = (await browser.get("/console/agents")).text
        assert "/console/agents/deregister" not in listed
        assert (await browser.post("/console/agents/deregister", {"all": "1"})).status_code == 403
    assert await value(guarded, "SELECT count(*) FROM agents WHERE status = 'active'") == 1


async def test_hostile_text_is_shown_as_text(app: App) -> None:
    agent = await add(app, HOSTILE, offered_capabilities=[HOSTILE], extensions={HOSTILE: HOSTILE})
    await add(app, HOSTILE)
    await met(app, agent, await add(app, HOSTILE))
    notes = {"owner": "<img src=x>", "note": HOSTILE, "labels": ["<img src=x>"]}
    await app.http.put(f"/api/registry/agents/{agent.aid}/notes", json=notes)
    pages = ["/console/agents", "/console/agents?q=" + quote(HOSTILE), *(page_of(agent, tab) for tab in TABS)]
    for path in pages:
        page = (await app.http.get(path)).text
        assert "<img" not in page, path
        assert "⟨U+202E⟩" in page, path
        unmarked = re.sub(r'(?:data-copy|value|placeholder)="[^"]*"|<textarea.*?</textarea>', "", page, flags=re.DOTALL)
        assert not {"\u202e", "\u200b"} & set(unmarked), path


async def test_what_is_copied_runs_nothing_in_a_shell(app: App) -> None:
    words_of_a_shell = ("x;touch /tmp/p", "$(id)", "`id`", "a b", "it's", "<b>", "{}")
    for aid in (*words_of_a_shell, "x\ntouch /tmp/p\n", "\x1b[201~id\r", "\x9b"):
        await app.post("/api/events", {"events": [{"type": "handshake.failed", "aid_a": aid, "aid_b": "other"}]})
        for path in (page_of(aid), f"/console/graph?aid={quote(aid, safe='')}", f"{page_of(aid)}/contain"):
            page = await app.http.get(path)
            copied = [html.unescape(text) for text in re.findall(r'data-copy="([^"]*)"', page.text, re.DOTALL)]
            assert not [text for text in copied if re.search(r"[\x00-\x1f\x7f-\x9f]", text)], path
            commands = [shlex.split(text) for text in copied if text.startswith("aitp-cp ")]
            assert not commands or [words for words in commands if aid in words], (path, copied)


async def test_a_list_of_many_agents_takes_few_statements(app: App) -> None:
    await execute(
        app,
        "INSERT INTO agents (aid, display_name, handshake_endpoint, offered_caps, manifest_json)"
        " SELECT 'aid-' || n, 'n' || n, 'https://a/', '[]', 'm' FROM generate_series(1, 200) AS n",
    )
    page = (await app.http.get("/console/agents")).text
    assert len(names(page)) == 100


async def test_the_delegations_of_an_agent_go_on_page_by_page(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = await add(app, "one"), await add(app, "other")
    jtis = [f"1f8fad5b-d9cb-469f-a165-7086772895{n:02}" for n in range(3)]
    sides = [(one, other), (other, one), (one, other)]
    events = [
        {
            "type": "delegation.issued",
            "payload": {
                "jti": jti,
                "parent_jti": jtis[0].replace("1f", "0f"),
                "delegator": giver.aid,
                "delegatee": taker.aid,
                "scope": ["demo"],
            },
        }
        for jti, (giver, taker) in zip(jtis, sides, strict=True)
    ]
    await app.post("/api/events", {"events": events})
    monkeypatch.setattr(agent_page, "ROWS", 2)
    first = (await app.http.get(f"/console/agents/{one.aid}?tab=delegations")).text
    following = re.search(r'rel="next" href="([^"]+)"', first)
    assert following is not None
    second = (await app.http.get(html.unescape(following[1]))).text
    shown = [re.findall(r'title="(1f8fad5b-[^"]+)"', page) for page in (first, second)]
    assert [len(set(ids)) for ids in shown] == [2, 1]
    assert sorted({*shown[0], *shown[1]}) == jtis
    assert 'rel="next"' not in second
