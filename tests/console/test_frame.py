"""What every page of the console has in common (contract, section 22)."""

import gzip
import html
import re
import shlex
from http.cookies import SimpleCookie
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from aitp_cp.console.parts import fields
from aitp_cp.console.routes import ENDPOINTS
from aitp_cp.console.static_files import FOLDER
from aitp_cp.ops.figures import Figures
from aitp_cp.web.endpoint import Gate
from tests.support.agents import new_agent, sdk_manifest
from tests.support.app import App, running_app
from tests.support.enrolment import registered

pytestmark = pytest.mark.anyio

AS_BROWSER = {"accept": "text/html,*/*;q=0.8"}


async def test_a_browser_at_the_root_is_led_to_the_console(app: App) -> None:
    response = await app.http.get("/", headers=AS_BROWSER)
    assert (response.status_code, response.headers["location"]) == (303, "/console/")
    for headers in ({}, {"accept": "application/json"}):
        response = await app.http.get("/", headers=headers)
        assert (response.status_code, response.json()["code"]) == (404, "NOT_FOUND")


async def test_it_can_be_switched_off(database_url: str) -> None:
    async with running_app(database_url, API_KEYS="", CP_BASE_URL="http://cp.test", CONSOLE_ENABLED="false") as app:
        for path in ("/", "/console/", "/console/events", "/console/csp", "/console/static/x/console.js"):
            response = await app.http.get(path, headers=AS_BROWSER)
            assert (response.status_code, response.json()["code"]) == (404, "NOT_FOUND"), path
            assert "content-security-policy" not in response.headers


async def test_every_page_has_the_headers_that_browsers_obey(app: App) -> None:
    pages = [endpoint for endpoint in ENDPOINTS if endpoint.method == "GET" and not endpoint.streaming]
    paths = [endpoint.path for endpoint in pages if "{" not in endpoint.path]
    for path in [*paths, "/console/nowhere", "/console/events/not-a-uuid"]:
        async with app.http.stream("GET", path) as response:
            headers = response.headers
        policy = headers["content-security-policy"]
        assert policy.startswith("default-src 'none'"), path
        assert "frame-ancestors 'none'" in policy, path
        assert headers["cross-origin-opener-policy"] == headers["cross-origin-resource-policy"] == "same-origin"
        assert (headers["referrer-policy"], headers["x-content-type-options"]) == ("no-referrer", "nosniff")
        assert "strict-transport-security" not in headers
        if headers.get("content-type", "").startswith("text/html"):
            assert headers["cache-control"] == "no-store"
            assert "require-trusted-types-for 'script'; trusted-types console" in policy


async def test_each_page_has_a_nonce_of_its_own(app: App) -> None:
    nonces = set()
    for _ in range(3):
        response = await app.http.get("/console/")
        nonce = response.headers["content-security-policy"].partition("'nonce-")[2].partition("'")[0]
        assert f'nonce="{nonce}"' in response.text
        nonces.add(nonce)
    assert len(nonces) == 3


async def test_hsts_where_the_base_url_is_https(database_url: str) -> None:
    async with running_app(database_url, API_KEYS="", CP_BASE_URL="https://cp.test") as app:
        response = await app.http.get("/console/")
        assert response.headers["strict-transport-security"].startswith("max-age=31536000")


async def test_answers_of_the_api_run_nothing(app: App) -> None:
    for path in ("/api/livez", "/api/nowhere"):
        response = await app.http.get(path)
        assert response.headers["content-security-policy"] == "default-src 'none'; sandbox; frame-ancestors 'none'"


async def test_files_are_immutable_and_compressed(app: App) -> None:
    page = (await app.http.get("/console/")).text
    url = page.partition('rel="stylesheet" href="')[2].partition('"')[0]
    response = await app.http.get(url)
    assert response.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert (response.headers["content-encoding"], response.headers["content-type"]) == (
        "gzip",
        "text/css; charset=utf-8",
    )
    assert response.text == (FOLDER / "console.css").read_text()
    plain = await app.http.get(url, headers={"accept-encoding": "identity"})
    assert plain.text == response.text
    other = await app.http.get("/console/static/0123456789abcdef/console.css")
    assert (other.status_code, other.headers["cache-control"]) == (200, "no-store")
    for name in ("VENDORED.toml", "nothing.js", "..%2fshell.py"):
        missing = await app.http.get(f"/console/static/0123456789abcdef/{name}")
        assert missing.status_code == 404


async def test_an_error_is_a_page_with_sentence_code_and_request(app: App) -> None:
    response = await app.http.get("/console/nowhere", headers={"x-request-id": "req-1"})
    assert (response.status_code, response.headers["content-type"]) == (404, "text/html; charset=utf-8")
    assert all(part in response.text for part in ("no such route", "NOT_FOUND", "req-1"))
    response = await app.http.post("/console/events")
    assert (response.status_code, response.headers["allow"]) == (405, "GET, HEAD")
    response = await app.http.get("/console/events?since=yesterday")
    assert (response.status_code, "FILTER_INVALID" in response.text) == (400, True)


async def test_a_browser_is_never_answered_in_json(app: App) -> None:
    for method, path, status in (
        ("GET", "/CONSOLE/", 404),
        ("GET", "/Console/events", 404),
        ("POST", "/CONSOLE", 404),
        ("GET", "/console/nowhere/at/all", 404),
        ("PATCH", "/console/events", 405),
        ("BREW", "/console/", 405),
        ("POST", "/console", 404),
    ):
        response = await app.http.request(method, path, headers=AS_BROWSER)
        assert (response.status_code, response.headers["content-type"]) == (status, "text/html; charset=utf-8"), path
        assert "require-trusted-types-for" in response.headers["content-security-policy"], path
        assert response.headers["referrer-policy"] == "no-referrer"
    for path in ("/CONSOLE/", "/api/nowhere"):
        assert (await app.http.get(path)).json()["code"] == "NOT_FOUND"
    assert (await app.http.get("/api/nowhere", headers=AS_BROWSER)).json()["code"] == "NOT_FOUND"


async def test_the_page_of_a_form_says_why_it_was_refused(app: App) -> None:
    pages = {endpoint.path for endpoint in ENDPOINTS if endpoint.method == "GET"}
    actions = [each.path for each in ENDPOINTS if each.method == "POST" and each.gate is Gate.SESSION]
    refused = []
    for path in (path for path in actions if "{" not in path):
        response = await app.http.post(path, data={"-": "<b>"}, headers={"sec-fetch-site": "same-origin"})
        if response.status_code in (200, 303):  # it says so itself, or nothing is missing
            continue
        assert response.status_code in (400, 404, 422), path
        shown = re.search(r'data-path="([^"]*)"', response.text)
        assert shown is not None
        assert shown[1] in pages, path
        assert path.startswith(shown[1])
        assert re.search(r'role="alert">.*Nothing was done', response.text), path
        assert "<b>" not in response.text
        refused.append(path)
    assert {"/console/keys", "/console/trust/anchors", "/console/webhooks", "/console/signed-in/end-all"} <= {*refused}


async def test_a_closed_gate_leads_to_the_sign_in(database_url: str) -> None:
    async with running_app(database_url, CP_BASE_URL="http://cp.test") as app:
        response = await app.http.get("/console/events?type=%3Cb%3E")
        assert response.status_code == 303
        assert response.headers["location"] == "/console/login?to=%2Fconsole%2Fevents%3Ftype%3D%253Cb%253E"
        fragment = await app.http.get("/console/events", headers={"x-fragment": "rows"})
        assert (fragment.status_code, "SIGN_IN_REQUIRED" in fragment.text) == (401, True)
        with_key = await app.get("/console/events")
        assert with_key.status_code == 303


async def test_a_region_is_answered_alone_and_only_when_it_changed(app: App) -> None:
    first = await app.http.get("/console/events", headers={"x-fragment": "rows"})
    assert first.text.startswith('<section id="rows"')
    assert "<html" not in first.text
    known = {"x-fragment": "rows", "if-none-match": first.headers["etag"]}
    again = await app.http.get("/console/events", headers=known)
    assert (again.status_code, again.content) == (304, b"")
    await app.http.post("/api/events", json=[{"type": "unusual"}])
    changed = await app.http.get("/console/events", headers=known)
    assert (changed.status_code, "unusual" in changed.text) == (200, True)
    for name in ("main", "title", "nope"):
        assert (await app.http.get("/console/events", headers={"x-fragment": name})).status_code == 404


async def test_pages_are_compressed(app: App) -> None:
    async with app.http.stream("GET", "/console/", headers={"accept-encoding": "gzip"}) as response:
        assert response.headers["content-encoding"] == "gzip"
        raw = b"".join([chunk async for chunk in response.aiter_raw()])
    assert gzip.decompress(raw).startswith(b"<!doctype html>")
    plain = await app.http.get("/console/", headers={"accept-encoding": "identity"})
    assert "content-encoding" not in plain.headers


async def test_preferences_are_cookies_and_lead_back(app: App) -> None:
    form = {"to": "/console/events?type=a%20b", "theme": "dark", "zone": "local", "density": "huge"}
    response = await app.http.post("/console/preferences", data=form, headers={"sec-fetch-site": "same-origin"})
    assert (response.status_code, response.headers["location"]) == (303, "/console/events?type=a%20b")
    assert sorted(app.http.cookies.items()) == [("acp-theme", "dark"), ("acp-zone", "local")]
    page = await app.http.get("/console/")
    assert 'data-theme="dark" data-zone="local" data-density="close"' in page.text
    for to in ("https://elsewhere.example/", "//elsewhere.example", "/console/\\elsewhere", "/api/livez", ""):
        response = await app.http.post(
            "/console/preferences", data={"to": to}, headers={"sec-fetch-site": "same-origin"}
        )
        assert response.headers["location"] == "/console/", to


async def test_it_goes_on_without_script(app: App) -> None:
    assert (await app.http.get("/console/events?refresh=10")).headers["refresh"] == "10"
    for wrong in ("0", "-1", "9999", "10;url=https://elsewhere.example", ""):
        assert "refresh" not in (await app.http.get("/console/events", params={"refresh": wrong})).headers


async def test_reports_of_the_policy_are_counted_and_nothing_else(app: App) -> None:
    async def report(body: bytes) -> httpx.Response:
        return await app.http.post("/console/csp", content=body, headers={"content-type": "application/csp-report"})

    for body in (
        b'{"csp-report":{"effective-directive":"script-src-elem","blocked-uri":"https://a.example/?secret"}}',
        b'{"csp-report":{"violated-directive":"img-src \'self\'"}}',
        b'{"csp-report":{"violated-directive":"made-up"}}',
        b"not json",
    ):
        assert (await report(body)).status_code == 204
    assert (await report(b"x" * 20_000)).status_code == 413
    scrape = (await app.http.get("/api/metrics")).text
    for directive, count in (("script-src-elem", 1), ("img-src", 1), ("other", 2)):
        assert f'console_csp_reports_total{{directive="{directive}"}} {count}.0' in scrape
    assert "secret" not in scrape


def test_no_page_is_documented() -> None:
    assert [each.name for each in ENDPOINTS if each.documented or not each.path.startswith("/console/")] == []


async def test_a_page_is_a_request_to_the_api_as_well(app: App) -> None:
    hostile = "'; touch /tmp/x; echo '\u202e"
    page = (await app.http.get("/console/tokens", params={"issuer": hostile, "active": "on", "before": ""})).text
    command = html.unescape(re.findall(r'data-copy="(curl [^"]*)"', page)[0])
    tool, flag, header, url = shlex.split(command)
    assert (tool, flag, header) == ("curl", "-H", "Authorization: Bearer $AITP_CP_API_KEY")
    assert '"Authorization: Bearer $AITP_CP_API_KEY"' in command  # the shell puts the key in
    assert url.startswith("http://cp.test/api/tcts?")
    assert parse_qs(urlsplit(url).query) == {"issuer": [hostile], "active": ["on"]}
    assert (await app.http.get(url)).status_code == 200
    for path, api in (("events", "/api/events/history"), ("audit", "/api/audit"), ("keys", "/api/keys")):
        assert api in (await app.http.get(f"/console/{path}")).text


async def test_a_page_is_a_command_with_its_filters(app: App) -> None:
    hostile = "a'; touch /tmp/x; '"
    for path, query, command in (
        ("agents", {"q": "re", "status": "all"}, "aitp-cp agents list --status=all --find=re"),
        ("audit", {"actor": hostile}, f"aitp-cp audit list {shlex.quote(f'--actor={hostile}')}"),
        ("tokens", {"active": "true", "expires": "24h"}, "aitp-cp tcts list --active --expires-before=24h"),
        ("graph", {"minTokens": "2", "everything": "on"}, "aitp-cp trust edges"),
        ("events", {"runId": "7", "type": "tct.*"}, "aitp-cp events export '--type=tct.*' --run=7"),
    ):
        page = (await app.http.get(f"/console/{path}", params=query)).text
        assert command in [html.unescape(each) for each in re.findall(r'data-copy="(aitp-cp [^"]*)"', page)], path
    # Discovery does not show what operators note, so no request lists these.
    page = (await app.http.get("/console/agents?unowned=true")).text
    assert "aitp-cp agents list" not in page
    assert "curl" not in page


async def test_parameters_that_a_page_does_not_have_change_nothing(app: App) -> None:
    odd = dict.fromkeys(("format", "path", "act", "id", "aid", "value", "self", "query", "context"), "x")
    for endpoint in (each for each in ENDPOINTS if each.method == "GET" and "{" not in each.path):
        if not endpoint.streaming:
            assert (await app.http.get(endpoint.path, params=odd)).status_code < 500, endpoint.path


async def test_lists_show_the_namespace_that_was_chosen(app: App) -> None:
    same = {"sec-fetch-site": "same-origin"}
    for wrong in ("a b", "<b>", "x" * 129):
        response = await app.http.post("/console/preferences", data={"namespace": wrong}, headers=same)
        assert response.status_code in (400, 422), wrong
    response = await app.http.post("/console/preferences", data={"namespace": "team/a"}, headers=same)
    chosen = SimpleCookie(response.headers["set-cookie"])["acp-namespace"].value
    cookie = {"cookie": f'acp-namespace="{chosen}"'}
    for path in ("/console/agents", "/console/trust"):
        assert '<option value="team/a" selected>' in (await app.http.get(path, headers=cookie)).text, path
        other = (await app.http.get(f"{path}?namespace=other", headers=cookie)).text
        assert '<option value="other" selected>' in other
        assert "ns: team/a" in other
    response = await app.http.get("/console/agents", headers={"cookie": "acp-namespace=<b>"})
    assert (response.status_code, "ns: " in response.text) == (200, False)
    response = await app.http.post("/console/preferences", data={"theme": "dark"}, headers=same)
    assert 'acp-namespace="";' in response.headers.get_list("set-cookie")[0]


async def test_namespaces_in_use_are_offered(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    agent = new_agent()
    for namespace in ("anchors", "other"):
        await app.http.post("/api/trust-anchors", json={"issuerUrl": "https://idp.example", "namespace": namespace})
    await app.http.post("/api/pinned-keys", json={"aid": agent.aid, "pubkey": agent.key, "namespace": "pins"})
    await registered(app, sdk_manifest(agent))
    await app.rt.get(Figures).refresh()
    page = (await app.http.get("/console/agents")).text
    display, filters = re.findall(r'<select name="namespace">(.*?)</select>', page)
    offered = ["", "anchors", "default", "other", "pins"]
    assert re.findall('value="([^"]*)"', display) == re.findall('value="([^"]*)"', filters) == offered
    monkeypatch.setattr(fields, "MAX_NAMESPACES", 3)
    assert (await app.http.get("/console/agents")).text.count('<input name="namespace"') == 2


async def test_the_palette_is_offered_what_the_search_finds(app: App) -> None:
    await app.http.post("/api/events", json=[{"type": "handshake.started", "session_id": "s-palette"}])
    found = await app.http.get("/console/search?q=s-palette")
    assert (found.status_code, found.headers["location"]) == (303, "/console/sessions/s-palette")
    offered = await app.http.get("/console/search?q=s-palette", headers={"x-fragment": "hits"})
    assert (offered.status_code, "<html" in offered.text) == (200, False)
    assert re.findall(r'href="([^"]+)"', offered.text) == ["/console/sessions/s-palette"]
