"""One shift at the console, without a word of help; with `IMAGES` naming a folder, a picture of each step goes there.

`make images` takes those of docs/console.md and of the README.
"""

import asyncio
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

import asyncpg
import httpx
import pytest
from playwright.sync_api import Browser, Page, ViewportSize

from client.tests.commands.support import enrolled
from tests.browser.conftest import Tab
from tests.browser.test_crawl import ID
from tests.containment.support import proven, signed
from tests.revocation.support import LIST
from tests.support.agents import Agent, claims_in
from tests.support.app import API_KEY, AUTH
from tests.support.postgres import migrated_database
from tests.support.process import Process
from tests.support.proxy import Between
from tests.support.raw import receive, request
from tests.support.signed import pop_response

VIEWPORT = ViewportSize(width=1280, height=800)
MOST_TABS, MOST_KINDS = 80, 60
LINKS = "all => all.map(it => new URL(it.getAttribute('href'), document.baseURI).href)"
FORMS = """all => all.map(it =>
  `${it.getAttribute("method") || "get"} ${new URL(it.getAttribute("action"), document.baseURI).href}`)"""
SEND = f"""(all, wanted) => {{
  const form = all[({FORMS})(all).indexOf(wanted)];
  form.noValidate = true;
  form.requestSubmit();
}}"""
OWN_END = re.compile(r"/logout$|/signed-in/.*/end$")  # of the session that looks around
FILE = re.compile(r"/(export|list)(\?|$)")
REFUSED = re.compile(r"status of 4(00|01|04|09|22)|^4(00|04|09|22): |^401: .*/console/login$")
WAITS = """
SELECT count(*) FROM pg_locks JOIN pg_database ON pg_database.oid = database
WHERE datname = current_database() AND locktype = 'relation' AND NOT granted
"""
FOCUS = """() => {
  const it = document.activeElement, style = getComputedStyle(it), box = it.getBoundingClientRect();
  const outlined = it.matches(":focus-visible") && style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0;
  const inside = box.width > 0 && box.bottom > 0 && box.top < innerHeight && box.right > 0 && box.left < innerWidth;
  const name = it.getAttribute("aria-label") || it.getAttribute("name") || it.textContent;
  return { name: name.trim(), visible: outlined && inside, what: it.outerHTML.slice(0, 200) };
}"""
PEERS = ("planner", "indexer", "broker", "store")


class Receiver(BaseHTTPRequestHandler):
    """A webhook's receiver that refuses everything until somebody repairs it."""

    status = 400

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(Receiver.status)
        self.end_headers()
        self.wfile.write(b"unknown field: eventType" if Receiver.status >= 400 else b"")

    def log_message(self, *_: Any) -> None:
        pass


class Shift(NamedTuple):
    """The server, and the way to its database."""

    server: Process
    between: Between
    dsn: str


@pytest.fixture(scope="module")
def receiver() -> Iterator[str]:
    Receiver.status = 400
    with ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as there:
        threading.Thread(target=there.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{there.server_port}/aitp"
        there.shutdown()


@pytest.fixture(scope="module")
def shift(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shift]:
    log = tmp_path_factory.mktemp("story") / "log"
    # In a thread: no loop can run beside that of Playwright.
    with ThreadPoolExecutor(1) as thread:
        stack = ExitStack()
        dsn = thread.submit(stack.enter_context, migrated_database()).result()
        settings: dict[str, Any] = {"WEBHOOK_ALLOWED_CIDRS": "127.0.0.0/8", "WEBHOOK_RETRY_ATTEMPTS": "1"}
        with Between(dsn) as between, Process(between.dsn, log, RATE_LIMIT_ENABLED="false", **settings) as process:
            yield Shift(process, between, dsn)
        thread.submit(stack.close).result()
    assert "Traceback" not in process.log()


@pytest.fixture
def server(shift: Shift) -> Process:
    return shift.server


@pytest.fixture
def operator(chromium: Browser, server: Process) -> Iterator[Tab]:
    context = chromium.new_context(viewport=VIEWPORT, color_scheme="light")
    tab = Tab(context.new_page(), server.url)
    tab.watch()
    yield tab
    context.close()
    assert tab.wrong == []


def fetch_list(server: Process, agent: Agent) -> None:
    """Fetch the signed list twice, as a peer that proves who it is does: the second time with the tag it holds."""
    with httpx.Client(base_url=server.url) as http:
        challenge = http.post("/api/agent-auth/challenge", json={"aid": agent.aid}).json()
        proof = pop_response(agent.sdk, challenge["nonce"], challenge["audience"])
        token = http.post("/api/agent-auth/token", content=proof).json()["token"]
        headers = {"X-Aitp-Agent-Token": token}
        tag = http.get(LIST, headers=headers).headers["etag"]
        assert http.get(LIST, headers={**headers, "If-None-Match": tag}).status_code == 304


def handshake(number: int, a: Agent, b: Agent, failure: str | None = None) -> list[dict[str, Any]]:
    began = time.time() - 3600 + number * 120
    both = {"session_id": f"s-{number}", "aid_a": a.aid, "aid_b": b.aid, "run_id": "story"}
    end = {"type": "handshake.failed", "payload": {"error": failure}} if failure else {"type": "handshake.complete"}
    return [{"type": "handshake.started", "ts": began, **both}, {"ts": began + 0.34, **both, **end}]


def seed(server: Process, receiver: str) -> tuple[Agent, list[Agent], str]:
    """Real agents that hold tokens of one another, and a webhook whose receiver refuses; the id of a token."""
    body = {"url": receiver, "events": ["agent.registered", "agent.contained", "tct.revoked"]}
    httpx.post(f"{server.url}/api/webhooks", json=body, headers=AUTH).raise_for_status()
    bad, *peers = (enrolled(server, name=name) for name in ("researcher", *PEERS))
    pairs = [(bad, peer) for peer in peers] + [(peers[0], bad), (peers[1], peers[2])]
    events: list[dict[str, Any]] = [proven(signed(*pair)) for pair in pairs]
    for number, pair in enumerate(pairs * 3):
        events += handshake(number, *pair, failure="key_mismatch" if number % 6 == 2 else None)
    httpx.post(f"{server.url}/api/events", json=events, headers=AUTH).raise_for_status()
    return bad, peers, claims_in(events[0]["payload"]["tct"]["token"])["jti"]


def focus(page: Page) -> dict[str, Any]:
    """What has the focus: its name, and whether a reader sees that."""
    found: dict[str, Any] = page.evaluate(FOCUS)
    return found


def tab_to(page: Page, name: str) -> None:
    """Press Tab until what has this name has the focus, which must be visible all the way."""
    for _ in range(MOST_TABS):
        page.keyboard.press("Tab")
        now = focus(page)
        assert now["visible"], now
        if name in now["name"]:
            return
    raise AssertionError(f"Tab does not reach {name}")


def fill_and_send(page: Page, agent: Agent) -> None:
    for field, text in {"reason": "its key was found in public", "ticket": "INC-7", "typed": agent.aid[-4:]}.items():
        tab_to(page, field)
        page.keyboard.type(text)
    with page.expect_navigation():
        page.keyboard.press("Enter")


@contextmanager
def in_the_middle(shift: Shift) -> Iterator[None]:
    """Hold up the next containment, and silence the database as soon as it waits; at the end it speaks again."""
    between, lock = shift.between, threading.Event()
    holder = threading.Thread(target=lambda: asyncio.run(_silence(shift, lock)))
    holder.start()
    lock.wait()
    try:
        yield
    finally:
        holder.join()
        between.resume()


async def _silence(shift: Shift, lock: threading.Event) -> None:
    conn = await asyncpg.connect(shift.dsn)
    transaction = conn.transaction()
    await transaction.start()
    await conn.execute("LOCK TABLE admin_audit_log IN EXCLUSIVE MODE")
    lock.set()
    async with asyncio.timeout(20):
        while not await conn.fetchval(WAITS):
            await asyncio.sleep(0.02)
    shift.between.stall()
    await transaction.rollback()
    await conn.close()


@pytest.fixture
def picture(operator: Tab) -> Callable[[str], None]:
    folder = os.environ.get("IMAGES")

    def take(name: str) -> None:
        if folder is not None:
            operator.page.wait_for_timeout(600)
            operator.page.screenshot(path=str(Path(folder) / f"{name}.png"))

    return take


def sign_in(page: Page) -> None:
    page.keyboard.type(API_KEY)
    page.keyboard.press("Enter")
    page.wait_for_url("**/console/")


def test_a_shift(operator: Tab, shift: Shift, receiver: str, picture: Callable[[str], None]) -> None:
    """Find a failing webhook, resend, see who trusts an agent, contain it, watch its reach, leave a note.

    The containment is done by keyboard alone, and the database falls silent in the middle of it.
    """
    server = shift.server
    bad, peers, jti = seed(server, receiver)
    page = operator.page
    operator.open("/console/")
    sign_in(page)
    page.wait_for_selector("#figures .cards")
    picture("overview-light")
    if "IMAGES" in os.environ:
        page.emulate_media(color_scheme="dark")
        picture("overview-dark")
        page.emulate_media(color_scheme="light")

    page.get_by_role("link", name="Webhooks").first.click()
    page.get_by_role("link", name=receiver).click()
    page.select_option("select[name=status]", "failed")
    page.get_by_role("button", name="Filter").click()
    assert page.locator("#list tbody tr").count() == len(PEERS) + 1
    picture("webhook-failed")
    Receiver.status = 204
    page.get_by_role("button", name="Reset breaker").click()
    page.wait_for_load_state()
    page.select_option("select[name=status]", "failed")
    page.get_by_role("button", name="Filter").click()
    page.get_by_role("button", name="Resend all").click()
    page.wait_for_selector("text=5 queued")
    page.select_option("select[name=status]", "delivered")
    for _ in range(50):
        page.get_by_role("button", name="Filter").click()
        if page.locator("#list tbody tr").count() == len(PEERS) + 1:
            break
        page.wait_for_timeout(200)
    assert page.locator("#list tbody tr").count() == len(PEERS) + 1
    picture("webhook-resent")

    operator.open(f"/console/graph?aid={quote(bad.aid, safe='')}")
    assert page.locator("#picture svg").first.is_visible()
    picture("graph")

    # From here on by keyboard alone: the agent is found by a token of its own.
    page.keyboard.press("/")
    page.keyboard.type(jti)
    with page.expect_navigation():  # or it would stop the next one
        page.keyboard.press("Enter")
    tab_to(page, "researcher")
    page.keyboard.press("Enter")
    page.wait_for_url("**/console/agents/*")
    tab_to(page, "Contain…")
    page.keyboard.press("Enter")
    page.wait_for_url("**/contain")
    picture("contain-plan")
    with in_the_middle(shift):
        fill_and_send(page, bad)
        # The session was looked up, so the act has begun: what became of it cannot be known.
        assert page.get_by_text("It is not known whether this was done").is_visible()
        assert page.get_by_text("DATABASE_UNAVAILABLE").first.is_visible()
    tab_to(page, "Back to its page")
    page.keyboard.press("Enter")
    page.wait_for_selector("text=Contain now")
    fill_and_send(page, bad)
    page.wait_for_url("**/console/containments/*")
    operator.wrong = [each for each in operator.wrong if "503" not in each]
    for peer in peers[:3]:
        fetch_list(server, peer)
    page.wait_for_selector("text=3 of 4 exposed peers confirmed", timeout=20_000)
    assert page.locator("#peers tbody tr", has_text="store").get_by_text("unknown").count() == 1
    picture("reach")

    operator.open(f"/console/agents/{quote(bad.aid, safe='')}")
    page.get_by_text("Change", exact=True).click()
    page.fill("input[name=owner]", "team-rag")
    page.fill(
        "textarea[name=note]", "INC-7: contained, store had not fetched the list at 03:12. Call team-rag at nine."
    )
    page.get_by_role("button", name="Save").click()
    page.wait_for_selector("text=Call team-rag at nine")
    picture("note")
    page.set_viewport_size({"width": 360, "height": 800})
    tab_to(page, "pages")
    page.keyboard.press("Enter")
    tab_to(page, "Agents")
    page.keyboard.press("Escape")
    assert focus(page)["name"] == "pages"  # what is closed gives the focus back
    tab_to(page, "Sign out")
    page.keyboard.press("Enter")
    page.wait_for_url("**/console/login*")


def role_of(server: Process, role: str) -> str:
    """Return a new key of this role."""
    response = httpx.post(f"{server.url}/api/keys", json={"name": role, "role": role}, headers=AUTH)
    key: str = response.raise_for_status().json()["key"]
    return key


@pytest.mark.skipif("CRAWL" not in os.environ, reason="a minute: `make acceptance`")
@pytest.mark.parametrize("who", os.environ.get("CRAWL", "auditor").split(","))
def test_no_link_and_no_form_is_broken(chromium: Browser, shift: Shift, receiver: str, who: str) -> None:
    """As one role, with `-noscript` without script: every kind of page, and each form with what is in it."""
    role, _, noscript = who.partition("-")
    bad, _, _ = seed(shift.server, receiver)
    context = chromium.new_context(viewport=VIEWPORT, java_script_enabled=not noscript)
    tab = Tab(context.new_page(), shift.server.url)
    tab.watch()
    tab.open("/console/")
    tab.page.fill("input[name=key]", API_KEY if role == "admin" else role_of(shift.server, role))
    with tab.page.expect_navigation():
        tab.page.keyboard.press("Enter")
    seen, sent = set[str](), set[str]()
    waiting = ["/console/", f"/console/agents/{quote(bad.aid, safe='')}"]
    while waiting and len(seen) < MOST_KINDS:
        path = waiting.pop(0)
        if kind_of(path) in seen:
            continue
        seen.add(kind_of(path))
        tab.open(path)
        links: list[str] = tab.page.eval_on_selector_all("a[href]", LINKS)
        assert all(link.startswith(f"{tab.url}/console/") for link in links), path
        waiting += [link.removeprefix(tab.url) for link in links if not FILE.search(link)]
        forms: list[str] = tab.page.eval_on_selector_all("form:has(button)", FORMS)
        for form in forms:
            if kind_of(form) in sent or OWN_END.search(form):
                continue
            tab.open(path)
            if form not in tab.page.eval_on_selector_all(
                "form:has(button)", FORMS
            ):  # an action before has taken it away
                continue
            sent.add(kind_of(form))
            with tab.page.expect_navigation():
                tab.page.eval_on_selector_all("form:has(button)", SEND, form)
            assert tab.page.locator("main#main h1").count() == 1, (path, form)
    context.close()
    assert {urlsplit(url).netloc for url in tab.asked} == {urlsplit(shift.server.url).netloc}
    # A form that lacks what it needs is refused, on its page.
    assert [each for each in tab.wrong if not REFUSED.search(each)] == []
    assert ("post /console/agents/*/contain" in sent) is (role != "auditor")
    assert {"/console/webhooks/*", "/console/tokens/*", "/console/trust"} <= seen
    counted = httpx.get(f"{shift.server.url}/api/metrics", headers=AUTH).text
    assert "console_csp_reports_total{" not in counted


def kind_of(address: str) -> str:
    """Return an address without its ids and its query; for a form with its method."""
    method, _, url = address.rpartition(" ")
    path = ID.sub("*", urlsplit(url).path)
    return f"{method} {path}".strip()


def test_fifty_consoles_outlive_a_restart(operator: Tab, shift: Shift) -> None:
    server, page = shift.server, operator.page
    operator.open("/console/")
    sign_in(page)
    operator.open("/console/events")
    operator.ready()
    (cookie,) = page.context.cookies()
    ask = request(b"/console/live", b"Cookie: acp-dev=" + cookie["value"].encode(), b"Accept: text/event-stream")
    with ExitStack() as stack:
        streams = [stack.enter_context(socket.create_connection(("127.0.0.1", server.port))) for _ in range(50)]
        for stream in streams:
            stream.settimeout(20)
            stream.sendall(ask.replace(b"Host: cp", b"Host: 127.0.0.1"))
            assert stream.recv(65536).startswith(b"HTTP/1.1 200")
        assert server.terminate() == 0
        for stream in streams:
            assert b"retry: " in receive(stream)
    page.wait_for_selector("#live.slow, #live.off")
    began = time.monotonic()
    server.start()
    ready = time.monotonic()
    page.wait_for_selector("#live.on")
    print(f"\nstarted in {ready - began:.1f} s, streams back {time.monotonic() - ready:.1f} s later")
    operator.wrong = [each for each in operator.wrong if "CONNECTION_REFUSED" not in each and "ERR_" not in each]
    assert not re.search(r"\[(error|critical)\b|Traceback", server.log())
