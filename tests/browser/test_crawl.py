"""Every page that links lead to, in a browser: nothing goes wrong on any of them."""

import re
from urllib.parse import urljoin, urlsplit

import httpx
from playwright.sync_api import BrowserContext

from tests.browser.conftest import Tab
from tests.support.process import Process

MOST = 60
ID = re.compile(r"[^/]*(?:%3A|[0-9a-f]{8}-[0-9a-f]{4}-|\.\.)[^/]*|(?<=/sessions/)[^/]+")

HOSTILE = [
    "<script>alert(1)</script>",
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<svg/onload=alert(1)>",
    "<svg><animate onbegin=alert(1) attributeName=x>",
    "<math><mtext><table><mglyph><style><img src=x onerror=alert(1)>",
    "<iframe srcdoc='<script>alert(1)</script>'>",
    "<details open ontoggle=alert(1)>",
    "<base href=//elsewhere.example>",
    "<form action=//elsewhere.example><button>",
    "<meta http-equiv=refresh content='0;url=//elsewhere.example'>",
    "<link rel=stylesheet href=//elsewhere.example>",
    "<template><script>alert(1)</script></template>",
    "<!--><script>alert(1)</script>-->",
    "]]><script>alert(1)</script>",
    '" onmouseover="alert(1)',
    "' onfocus='alert(1)' autofocus='",
    "` onload=alert(1) `",
    '" data-live="events" data-next="//elsewhere.example',
    "javascript:alert(1)",
    "JaVaScRiPt&colon;alert(1)",
    "data:text/html,<script>alert(1)</script>",
    "//elsewhere.example/path",
    "{{ 7*7 }}{% raw %}",
    "{{ config }}${7*7}#{7*7}<%= 7*7 %>",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "&#x3c;script&#x3e;",
    "\u202egnp.exe",
    "\u2066\u2067\u2068\u2069",
    "\u200b\u200c\u200d\ufeff",
    "a\u0300" * 40,
    "\u3164\u2800\u115f",
    "\U000e0041\U000e0042",
    "\x1b[31mred\x07",
    "line\nbreak\r\n\ttab",
    "\ud83d".encode("utf-8", "replace").decode(),
    "+ADw-script+AD4-alert(1)+ADw-/script+AD4-",
    "\xc0\xbcscript\xc0\xbe",
    "%3Cscript%3Ealert(1)%3C/script%3E",
    "../../etc/passwd",
    "\\u003cscript\\u003e",
    '=HYPERLINK("//elsewhere.example")',
    "x" * 5000,
]
WRAPS = ("{}", "a{}b", "<b>{}", '"><p>{}')
CORPUS = [wrap.format(text) if wrap != "{}" else text for wrap in WRAPS for text in HOSTILE]


def test_hostile_strings_in_every_field_stay_text(tab: Tab, console: Process) -> None:
    assert len(CORPUS) >= 150
    events = [
        {
            "type": "handshake.failed" if index % 2 else text[:100],
            "session_id": text[:200],
            "run_id": f"corpus {text[:100]}",
            "aid_a": f"aid:{text[:200]}",
            "aid_b": text[:200],
            "grants": [text[:100], "<i>"],
            "payload": {"error": text, text[:50]: [text[:50]], "grants": [text]},
        }
        for index, text in enumerate(CORPUS)
    ]
    for start in range(0, len(events), 40):
        httpx.post(f"{console.url}/api/events", json=events[start : start + 40]).raise_for_status()
    own = {"script": 0, "img": 0, "iframe": 0, "form": 1, "b": 0, "i": 0, "p": 1, "style": 0, "base": 0, "math": 0}
    foreign = f"{[*own]}.map((name) => document.querySelectorAll(`main section ${{name}}, main dl ${{name}}`).length)"
    for path in ("/console/events?limit=500", "/console/sessions?limit=500"):
        tab.open(path)
        tab.ready()
        counts = dict(zip(own, tab.page.evaluate(foreign), strict=True))
        assert {name: count for name, count in counts.items() if count > own[name]} == {}, path
        shown = tab.page.locator("main table").inner_text()
        assert "<script>alert(1)</script>" in shown
        assert "⟨U+202E⟩" in shown
    assert not [url for url in tab.asked if urlsplit(url).netloc != urlsplit(console.url).netloc]
    tab.page.locator("main tbody a[href*='/sessions/']").first.click()
    tab.page.wait_for_selector("main dl")


def test_every_link_leads_to_a_page_without_errors(tab: Tab, console: Process, context: BrowserContext) -> None:
    seen: dict[str, str] = {}
    waiting = ["/console/"]
    while waiting and len(seen) < MOST:
        path = waiting.pop(0)
        kind = ID.sub("*", path.partition("?")[0])
        if kind in seen:
            continue
        seen[kind] = path
        tab.open(path)
        hrefs = tab.page.eval_on_selector_all("a[href]:not([download])", "all => all.map(a => a.getAttribute('href'))")
        for href in hrefs:
            target = urlsplit(urljoin(console.url + path, href))
            assert target.netloc == urlsplit(console.url).netloc, (path, href)
            assert target.path.startswith("/console/"), (path, href)
            if target.path.endswith("/export"):
                continue
            waiting.append(target._replace(scheme="", netloc="", fragment="").geturl())
    # An agent that was only heard of has a page, or says that there is none.
    tab.wrong = [each for each in tab.wrong if not re.search(r"404.*/console/(agents|tokens|delegations)/", each)]
    tab.wrong = [each for each in tab.wrong if "status of 404" not in each]
    assert {"/console/", "/console/events", "/console/sessions"} <= seen.keys()
