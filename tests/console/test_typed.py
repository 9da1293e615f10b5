"""A refused form is shown again with what was typed into it, whichever form of whichever page it is."""

import re
from html import escape
from uuid import uuid4

import pytest

from aitp_cp.console.forms import Form
from aitp_cp.console.parts.link import link
from aitp_cp.console.shell import TEMPLATES
from aitp_cp.console.typed import put_back
from tests.containment.support import claimed, contained, report
from tests.deliveries.support import LOCAL
from tests.keys.support import new_key
from tests.support.agents import new_agent
from tests.support.app import running_app
from tests.support.console import signed_in

pytestmark = pytest.mark.anyio

LONG = "</textarea>\"'><b>&amp;" * 220  # longer than any field may be, and no address and no time
# What is wrong in the form of each action, and what else is typed.
WRONG = {
    "/agents/enrol": {"manifest": LONG},
    "/agents/{aid}/contain": {"reason": "key lost", "ticket": 'T-"7"', "include": "all", "held": "mark"},
    "/agents/{aid}/notes": {"owner": LONG, "labels": 'a"b', "note": "\nfirst\nlast"},
    "/agents/{aid}/pin": {"namespace": LONG, "label": "checked"},
    "/containments/{id}/release": {"reason": LONG},
    "/keys": {"name": LONG, "role": "auditor", "days": "365", "rate": "7"},
    "/keys/{id}/revoke": {"reason": LONG},
    "/tokens/{jti}/revoke": {"reason": LONG},
    "/trust/anchors": {"issuerUrl": LONG, "jwksUrl": "https://x.example", "namespace": "n", "label": "l"},
    "/trust/anchors/{id}/edit": {"issuerUrl": LONG, "jwksUrl": "", "namespace": "n", "label": "l"},
    "/trust/pins": {"aid": LONG, "namespace": "n", "label": "l", "expiresAt": "tomorrow"},
    "/views": {"name": LONG, "url": "/console/events?type=x"},
    "/webhooks": {"url": LONG, "events": "tct.revoked"},
    "/webhooks/{id}/edit": {"url": LONG, "events": "tct.revoked"},
    "/webhooks/{id}/recover": {"since": LONG, "until": "now"},
    "/webhooks/{id}/replay-missing": {"since": LONG, "until": "then"},
}
COMPOSED = {"/tokens/{jti}/revoke"}  # the template puts its address together
ELSEWHERE = {"/login", "/preferences"}  # a password alone; values that are never refused on a page
PAGE = """<form action="/console/a"><input name="one" value="asked"></form>
<details><form method="post" action="/console/a?again=1">
<input name="one" value="old" required><input type="hidden" name="kept" value="new">
<input name="off" autocomplete="off">
<textarea name="text">old</textarea>
<select name="list"><option value="a" selected>a</option><option value="b">b</option></select>
<input type="checkbox" name="box"><input type="checkbox" name="tick" value="1" checked></form></details>
<details><form method="post" action="/console/b"><input name="one"></form></details>
<input form="f" type="checkbox" name="row" value="7"><form method="post" action="/console/a" id="f"></form>"""
FORM = re.compile(r"<form[^>]* method=\"post\" action=\"\{\{ link\('(/[^']+)'.*?</form>", re.DOTALL)
TYPED = re.compile(r'<textarea|<input(?![^>]*(?:type="(?:hidden|checkbox|password)"|autocomplete="off"))')


def test_every_form_into_which_something_is_typed_is_tried() -> None:
    forms = [form for page in TEMPLATES.glob("*.html") for form in FORM.finditer(page.read_text())]
    typed = {form[1] for form in forms if TYPED.search(form[0])}
    assert typed - ELSEWHERE == WRONG.keys() - COMPOSED


async def test_a_refused_form_keeps_what_was_typed(database_url: str) -> None:
    bad, gone = new_agent(), new_agent()
    async with running_app(database_url, **LOCAL) as app, signed_in(app) as browser:
        [jti] = await report(app, claimed(bad.aid, new_agent().aid))
        ids = {
            "/containments": (await contained(app, gone))["containment"]["id"],
            "/keys": (await new_key(app, role="auditor"))["id"],
            "/trust/anchors": (await app.post("/api/trust-anchors", {"issuerUrl": "https://idp.example"})).json()["id"],
            "/webhooks": (await app.post("/api/webhooks", {"url": "http://127.0.0.1:9/"})).json()["id"],
        }
        for action, fields in WRONG.items():
            known = {"aid": bad.aid, "jti": jti, "id": ids.get(action.partition("/{")[0])}
            path = link(action, **{name: value for name, value in known.items() if f"{{{name}}}" in action})
            response = await browser.post(path, {**fields, "once": str(uuid4())})
            form = re.search(
                rf'<form [^>]*method="post" action="{re.escape(path)}".*?</form>', response.text, re.DOTALL
            )
            assert form is not None, action
            assert "<b>" not in response.text
            for value in fields.values():
                assert escape(value) in form[0], (action, value[:20])
            assert 'role="alert"' in response.text, action


def test_each_kind_of_field_of_the_form_alone_is_filled_in() -> None:
    typed = (
        ("one", 'a"b'),
        ("kept", "old"),
        ("off", "x"),
        ("text", "\n<x>"),
        ("list", "b"),
        ("box", "on"),
        ("row", "7"),
    )
    filled = put_back(PAGE, Form(typed), "/console/a")
    assert filled == (
        PAGE.replace("<details>", "<details open>", 1)
        .replace('value="old"', 'value="a&quot;b"', 1)
        .replace(">old</textarea>", ">\n\n&lt;x&gt;</textarea>")
        .replace('"a" selected', '"a"')
        .replace('"b">', '"b" selected>')
        .replace('name="box"', 'name="box" checked')
        .replace(' value="1" checked', ' value="1"')
        .replace('value="7"', 'value="7" checked')
    )
    assert put_back(PAGE, Form(typed), "/console/elsewhere") == PAGE
