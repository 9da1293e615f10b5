"""One shift at the console, without a word of help; with `IMAGES` naming a folder, a picture of each step goes there.

`make images` takes those of docs/console.md and of the README.
"""

import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from playwright.sync_api import Browser, Page, ViewportSize

from client.tests.commands.support import enrolled
from tests.browser.conftest import Tab
from tests.containment.support import proven, signed
from tests.revocation.support import LIST
from tests.support.agents import Agent
from tests.support.app import API_KEY, AUTH
from tests.support.postgres import migrated_database
from tests.support.process import Process
from tests.support.signed import pop_response

VIEWPORT = ViewportSize(width=1280, height=800)
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


@pytest.fixture(scope="module")
def receiver() -> Iterator[str]:
    Receiver.status = 400
    with ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as there:
        threading.Thread(target=there.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{there.server_port}/aitp"
        there.shutdown()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    log = tmp_path_factory.mktemp("story") / "log"
    # In a thread: no loop can run beside that of Playwright.
    with ThreadPoolExecutor(1) as thread:
        stack = ExitStack()
        dsn = thread.submit(stack.enter_context, migrated_database()).result()
        settings: dict[str, Any] = {"WEBHOOK_ALLOWED_CIDRS": "127.0.0.0/8", "WEBHOOK_RETRY_ATTEMPTS": "1"}
        with Process(dsn, log, RATE_LIMIT_ENABLED="false", **settings) as process:
            yield process
        thread.submit(stack.close).result()
    assert "Traceback" not in process.log()


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


def seed(server: Process, receiver: str) -> tuple[Agent, list[Agent]]:
    """Real agents that hold tokens of one another, and a webhook whose receiver refuses."""
    body = {"url": receiver, "events": ["agent.registered", "agent.contained", "tct.revoked"]}
    httpx.post(f"{server.url}/api/webhooks", json=body, headers=AUTH).raise_for_status()
    bad, *peers = (enrolled(server, name=name) for name in ("researcher", *PEERS))
    pairs = [(bad, peer) for peer in peers] + [(peers[0], bad), (peers[1], peers[2])]
    events: list[dict[str, Any]] = [proven(signed(*pair)) for pair in pairs]
    for number, pair in enumerate(pairs * 3):
        events += handshake(number, *pair, failure="key_mismatch" if number % 6 == 2 else None)
    httpx.post(f"{server.url}/api/events", json=events, headers=AUTH).raise_for_status()
    return bad, peers


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


def test_a_shift(operator: Tab, server: Process, receiver: str, picture: Callable[[str], None]) -> None:
    """Find a failing webhook, resend, see who trusts an agent, contain it, watch its reach, leave a note."""
    bad, peers = seed(server, receiver)
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

    page.keyboard.press("/")
    page.keyboard.type(bad.aid)
    with page.expect_navigation():  # or it would stop the next one
        page.keyboard.press("Enter")
    operator.open(f"/console/graph?aid={quote(bad.aid, safe='')}")
    assert page.locator("#picture svg").first.is_visible()
    picture("graph")

    page.get_by_role("link", name="Contain…").click()
    picture("contain-plan")
    page.fill("input[name=reason]", "its key was found in a public repository")
    page.fill("input[name=ticket]", "INC-7")
    page.fill("input[name=typed]", bad.aid[-4:])
    page.keyboard.press("Enter")
    page.wait_for_url("**/console/containments/*")
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
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url("**/console/login*")
