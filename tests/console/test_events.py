"""`/console/events` and `/console/sessions`: the log and the handshakes in it."""

import asyncio
import re
from typing import Any

import pytest

from aitp_cp.events.tail import Tail
from aitp_cp.protocol.vocabulary import VOCABULARY
from tests.support.app import App

pytestmark = pytest.mark.anyio

A, B = "aid:pubkey:AAAAaaaa1111", "aid:pubkey:BBBBbbbb2222"
HOSTILE = "<img src=x onerror=alert(1)>\"'&{{7*7}}\u202e\u200bend"
SHOWN = "&lt;img src=x onerror=alert(1)&gt;&#34;&#39;&amp;{{7*7}}"


def handshake(session: str = "s-1", **more: Any) -> dict[str, Any]:
    return {"type": "handshake.complete", "aid_a": A, "aid_b": B, "session_id": session, "grants": ["demo"], **more}


async def read_by_the_tail(app: App) -> None:
    newest = (await app.http.get("/api/events/history?limit=1")).json()["events"][0]["seq"]
    async with asyncio.timeout(5):
        while app.rt.get(Tail).last < newest:
            await asyncio.sleep(0.01)


async def test_the_newest_events_with_ways_to_everything_they_name(app: App) -> None:
    await app.http.post("/api/events", json=[handshake()])
    event = (await app.http.get("/api/events/history")).json()["events"][0]
    page = (await app.http.get("/console/events")).text
    assert f'href="/console/events/{event["id"]}"' in page
    assert 'href="/console/sessions/s-1"' in page
    assert page.count('href="/console/agents/aid%3Apubkey%3AAAAAaaaa1111"') == 1
    assert 'data-live="events"' in page
    one = (await app.http.get(f"/console/events/{event['id']}")).text
    assert "handshake.complete" in one
    assert event["id"] in one


async def test_a_log_without_events_says_what_belongs_there(app: App) -> None:
    assert "No event matches" in (await app.http.get("/console/events")).text
    assert "No handshake matches" in (await app.http.get("/console/sessions")).text
    page = (await app.http.get("/console/events")).text
    assert [name for name in VOCABULARY if f'value="{name}"' not in page] == []


async def test_filters_and_pages_are_addresses(app: App) -> None:
    await app.http.post("/api/events", json=[{"type": f"t{index}", "run_id": "run"} for index in range(5)])
    page = (await app.http.get("/console/events?runId=run&limit=2")).text
    assert page.count('<tr id="e') == 2
    seen = re.findall(r"<bdi>(t\d)</bdi>", page)
    while older := re.search(r'rel="next" href="([^"]+)"', page):
        page = (await app.http.get(older[1].replace("&amp;", "&") + "&limit=2")).text
        seen += re.findall(r"<bdi>(t\d)</bdi>", page)
        assert "data-live" not in page
    assert sorted(seen) == [f"t{index}" for index in range(5)]
    assert (await app.http.get("/console/events?type=t3")).text.count('<tr id="e') == 1


async def test_what_does_not_exist_is_said(app: App) -> None:
    for path, code in (
        ("/console/events/00000000-0000-4000-8000-000000000000", "NOT_FOUND"),
        ("/console/events/none", "ID_INVALID"),
        ("/console/sessions/none", "NOT_FOUND"),
    ):
        response = await app.http.get(path)
        assert (response.status_code, code in response.text) == (404 if code == "NOT_FOUND" else 400, True)


async def test_hostile_text_is_shown_as_text(app: App) -> None:
    report = handshake(HOSTILE, type="handshake.failed", run_id=HOSTILE, payload={"error": HOSTILE, HOSTILE: [HOSTILE]})
    report |= {"aid_a": "aid:" + HOSTILE, "grants": [HOSTILE]}
    await app.http.post("/api/events", json=[report, {"type": HOSTILE[:100]}])
    events = (await app.http.get("/api/events/history")).json()["events"]
    session = (await app.http.get("/console/sessions")).text
    link = re.findall(r'href="(/console/sessions/%[^"]+)"', session)
    assert link
    pages = ["/console/events", "/console/sessions", link[0], *(f"/console/events/{each['id']}" for each in events)]
    for path in pages:
        text = (await app.http.get(path)).text
        assert "<img" not in text, path
        assert SHOWN in text, path
        assert not {"\u202e", "\u200b"} & set(re.sub(r'data-copy="[^"]*"', "", text)), path
        assert "⟨U+202E⟩" in text, path


async def test_a_session_names_the_sides_that_are_silent(app: App) -> None:
    await app.http.post("/api/events", json=[handshake(type="handshake.started"), handshake()])
    page = (await app.http.get("/console/sessions/s-1")).text
    assert "side A reported nothing itself" in page
    assert "side B reported nothing itself" in page
    assert page.count('<li class="lane') == 4
    assert page.count("received <time") == 2
    listed = (await app.http.get("/console/sessions?status=complete")).text
    assert listed.count('<tr id="k') == 1
    assert (await app.http.get("/console/sessions?status=failed")).text.count('<tr id="k') == 0


async def test_what_came_since_is_added_and_what_was_left_out_is_counted(app: App) -> None:
    await app.http.post("/api/events", json=[{"type": "old"}])
    await read_by_the_tail(app)
    page = (await app.http.get("/console/events?limit=2")).text
    newer = re.findall(r'data-next="([^"]+)"', page)[0].replace("&amp;", "&")
    await app.http.post("/api/events", json=[{"type": f"new{index}"} for index in range(5)])
    await read_by_the_tail(app)
    part = (await app.http.get(newer, headers={"x-fragment": "rows"})).text
    assert re.findall(r"<bdi>(new\d)</bdi>", part) == ["new4", "new3"]
    assert 'data-gap="3"' in part
    in_order = re.findall(r'href="([^"]+)">Open this range', part)[0].replace("&amp;", "&")
    shown = (await app.http.get(in_order)).text
    assert re.findall(r"<bdi>(new\d)</bdi>", shown) == ["new0", "new1"]
    onward = re.findall(r'rel="next" href="([^"]+)"', shown)[0].replace("&amp;", "&")
    assert re.findall(r"<bdi>(new\d)</bdi>", (await app.http.get(onward)).text) == ["new2", "new3"]
    newest = re.findall(r'data-next="([^"]+)"', part)[0].replace("&amp;", "&")
    nothing = (await app.http.get(newest, headers={"x-fragment": "rows"})).text
    assert "<bdi>" not in nothing.partition("</table>")[0]
    assert "data-gap" not in nothing
