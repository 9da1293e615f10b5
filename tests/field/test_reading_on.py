"""Every list is read to its end by cursor, and an offset that reads a whole table is refused (row A7)."""

import base64
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aitp_cp.app import openapi_document
from aitp_cp.clock import EPOCH
from aitp_cp.db.keyset import MAX_CURSOR_CHARACTERS, Order
from aitp_cp.errors import FilterInvalid
from aitp_cp.events.model import HISTORY_ORDER
from aitp_cp.truststore.model import PINNED_ORDER
from aitp_cp.web.query import MAX_OFFSET
from tests.support.app import App, running_app
from tests.support.rows import execute

pytestmark = pytest.mark.anyio

ROWS = 23
HOOK = "00000000-0000-4000-8000-000000000001"
DELIVERY = "00000000-0000-4000-8000-000000000002"
AID = "aid-with-much"


class Case(NamedTuple):
    """A list: where it is, the member that holds the rows, what tells them apart, and a row more at either end."""

    path: str
    name: str
    key: str
    more: str  # a statement
    filters: Mapping[str, str] = MappingProxyType({})


# Three rows to a moment, so that pages end among ties; microseconds, as older control planes stored them.
AT = "now() - (n / 3) * interval '1.000007 seconds'"
SERIES = f"FROM generate_series(1, {ROWS}) AS n"
AGENT = "'https://agent.example/', '[]', 'm', now() + interval '1 day'"
CONTAINED = "reason, held_delegations, include, contained_by, event_id, plan, plan_digest"
ACT = "'r', 'mark', 'all', 'a', gen_random_uuid(), '[]', 'd'"
TCT = "'i', 's', 'a', '[]'"

FILL = f"""
INSERT INTO agents (aid, display_name, handshake_endpoint, offered_caps, manifest_json, manifest_expires_at,
                    registered_at)
SELECT 'aid-' || n, 'n', {AGENT}, {AT} {SERIES};
INSERT INTO handshake_sessions (session_id, aid_a, aid_b, status, created_at)
SELECT 's/ü-' || n, '{AID}', 'b' || n, 'complete', {AT} {SERIES};
INSERT INTO audit_events (id, type, ts, aid_a, aid_b, run_id, payload, source, seq)
SELECT gen_random_uuid(), 't', {AT}, CASE n % 2 WHEN 0 THEN '{AID}' END, CASE n % 2 WHEN 1 THEN '{AID}' END, 'r',
       '{{}}', 'playground', n
{SERIES};
SELECT setval('audit_events_seq', 1000);
INSERT INTO issued_tcts (jti, issuer_aid, subject_aid, audience_aid, grants, issued_at)
SELECT gen_random_uuid(), {TCT}, {AT} {SERIES};
INSERT INTO delegations (jti, parent_jti, delegator_aid, delegatee_aid, scope, issued_at)
SELECT gen_random_uuid(), gen_random_uuid(), 'a', 'b', '[]', {AT} {SERIES};
INSERT INTO revocation_entries (jti, revoked_at) SELECT gen_random_uuid(), {AT} {SERIES};
INSERT INTO webhooks (id, url, events, secret, active, created_at)
SELECT CASE n WHEN 1 THEN '{HOOK}'::uuid ELSE gen_random_uuid() END, 'https://h/', '[]', 's', false, {AT} {SERIES};
INSERT INTO webhook_deliveries (id, webhook_id, event_type, payload, body, status, created_at)
SELECT CASE n WHEN 1 THEN '{DELIVERY}'::uuid ELSE gen_random_uuid() END, '{HOOK}', 'x', '{{}}', '', 'failed', {AT}
{SERIES};
INSERT INTO webhook_attempts (delivery_id, n, at, ms, cut) SELECT '{DELIVERY}', n, {AT}, 1, false {SERIES};
INSERT INTO trust_anchors (id, namespace, issuer_url, created_at)
SELECT gen_random_uuid(), 'n', 'https://i/' || n, {AT} {SERIES};
INSERT INTO pinned_keys (namespace, aid, pubkey)
SELECT 'n' || n / 3, 'aid:' || n, 'k' {SERIES};
INSERT INTO admin_audit_log (id, action, actor_id, target_id, details, created_at)
SELECT gen_random_uuid(), 'webhook.create', 'a', 't', '{{}}', {AT} {SERIES};
INSERT INTO api_keys (id, family, name, shown, digest, scopes, created_at)
SELECT gen_random_uuid(), gen_random_uuid(), 'n', 's', sha256(n::text::bytea), '[]', {AT} {SERIES};
INSERT INTO containments (id, aid, {CONTAINED}, contained_at)
SELECT gen_random_uuid(), 'aid:' || n, {ACT}, {AT} {SERIES};
INSERT INTO agent_notes (aid, owner, updated_by, updated_at) SELECT 'aid:' || n, 'o', 'b', {AT} {SERIES};
"""

EVENT = "INSERT INTO audit_events (id, type, ts, aid_a, payload, seq)"
CASES = (
    *(
        Case(
            path,
            "agents",
            "aid",
            "INSERT INTO agents (aid, display_name, handshake_endpoint, offered_caps, manifest_json,"
            f" manifest_expires_at, registered_at) VALUES ('{{n}}', 'n', {AGENT}, {{at}})",
        )
        for path in ("/api/registry/agents", "/api/dashboard/agents")
    ),
    Case(
        "/api/registry/agents",
        "agents",
        "aid",
        "SELECT {at}",
        {"include_manifest": "true", "status": "all"},
    ),
    Case(
        "/api/events/history",
        "events",
        "seq",
        f"{EVENT} VALUES (gen_random_uuid(), 't', {{at}}, '{AID}', '{{{{}}}}', {{n}})",
    ),
    Case(
        "/api/events/history",
        "events",
        "seq",
        f"{EVENT} VALUES (gen_random_uuid(), 't', {{at}}, '{AID}', '{{{{}}}}', {{n}})",
        {"aid": AID},
    ),
    Case("/api/events/history", "events", "seq", "SELECT {at}", {"runId": "r", "type": "t"}),
    Case(
        "/api/sessions",
        "sessions",
        "sessionId",
        "INSERT INTO handshake_sessions (session_id, status, created_at) VALUES ('{n}', 'failed', {at})",
    ),
    Case("/api/sessions", "sessions", "sessionId", "SELECT {at}", {"aid": AID}),
    Case(
        "/api/tcts",
        "tcts",
        "jti",
        "INSERT INTO issued_tcts (jti, issuer_aid, subject_aid, audience_aid, grants, issued_at)"
        f" VALUES (gen_random_uuid(), {TCT}, {{at}})",
    ),
    Case(
        "/api/delegations",
        "delegations",
        "jti",
        "INSERT INTO delegations (jti, parent_jti, delegator_aid, delegatee_aid, scope, issued_at)"
        " VALUES (gen_random_uuid(), gen_random_uuid(), 'a', 'b', '[]', {at})",
    ),
    Case(
        "/api/revocation/entries",
        "entries",
        "jti",
        "INSERT INTO revocation_entries (jti, revoked_at) VALUES (gen_random_uuid(), {at})",
    ),
    Case(
        "/api/webhooks",
        "webhooks",
        "id",
        "INSERT INTO webhooks (id, url, events, secret, active, created_at)"
        " VALUES (gen_random_uuid(), 'https://h/', '[]', 's', false, {at})",
    ),
    Case(
        f"/api/webhooks/{HOOK}/deliveries",
        "deliveries",
        "id",
        "INSERT INTO webhook_deliveries (id, webhook_id, event_type, payload, body, status, created_at)"
        f" VALUES (gen_random_uuid(), '{HOOK}', 'x', '{{{{}}}}', '', 'failed', {{at}})",
    ),
    Case(
        f"/api/webhooks/{HOOK}/deliveries/{DELIVERY}/attempts",
        "attempts",
        "n",
        f"INSERT INTO webhook_attempts (delivery_id, n, at, ms, cut) VALUES ('{DELIVERY}', {{n}}, {{at}}, 1, false)",
    ),
    Case(
        "/api/trust-anchors",
        "trustAnchors",
        "id",
        "INSERT INTO trust_anchors (id, namespace, issuer_url, created_at)"
        " VALUES (gen_random_uuid(), 'n', 'https://{n}/', {at})",
    ),
    Case(
        "/api/pinned-keys",
        "pinnedKeys",
        "aid",
        "INSERT INTO pinned_keys (namespace, aid, pubkey, created_at) VALUES ('n{n}', 'aid:{n}', 'k', {at})",
    ),
    Case(
        "/api/keys",
        "keys",
        "id",
        "INSERT INTO api_keys (id, family, name, shown, digest, scopes, created_at)"
        " VALUES (gen_random_uuid(), gen_random_uuid(), 'n', 's', sha256('more {n}'), '[]', {at})",
    ),
    Case(
        "/api/containments",
        "containments",
        "id",
        f"INSERT INTO containments (id, aid, {CONTAINED}, contained_at)"
        f" VALUES (gen_random_uuid(), 'more {{n}}', {ACT}, {{at}})",
    ),
    Case(
        "/api/registry/notes",
        "notes",
        "aid",
        "INSERT INTO agent_notes (aid, owner, updated_by, updated_at) VALUES ('more {n}', 'o', 'b', {at})",
    ),
    Case(
        "/api/audit",
        "entries",
        "id",
        "INSERT INTO admin_audit_log (id, action, actor_id, target_id, details, created_at)"
        " VALUES (gen_random_uuid(), 'webhook.create', 'a', 't', '{{}}', {at})",
    ),
)
NAMED = [pytest.param(case, id=f"{case.path}?{'&'.join(case.filters)}") for case in CASES]


@pytest.fixture
async def filled(database_url: str) -> AsyncIterator[App]:
    async with running_app(database_url) as app:
        await execute(app, FILL)
        yield app


async def page(app: App, case: Case, **params: Any) -> tuple[list[Any], str | None]:
    """The rows' keys, and the cursor of the next page."""
    response = await app.get(case.path, params={**case.filters, **params})
    assert response.status_code == 200, response.text
    body = response.json()
    return [row[case.key] for row in body[case.name]], body.get("nextBefore")


async def walked(app: App, case: Case, limit: int) -> list[Any]:
    rows, cursor = await page(app, case, limit=limit)
    while cursor is not None:
        assert len(rows) % limit == 0
        more, cursor = await page(app, case, limit=limit, before=cursor)
        assert more, "a cursor that leads nowhere"
        rows += more
    return rows


def test_every_list_is_here() -> None:
    """Row A7: whatever has an `offset` takes a cursor, and is one of the cases below."""
    shown = {path: str(operations) for path, operations in json.loads(openapi_document())["paths"].items()}
    lists = {path for path, operations in shown.items() if "'name': 'offset'" in operations}
    taking = {path for path, operations in shown.items() if "'name': 'before'" in operations}
    assert lists == taking == {case.path.replace(HOOK, "{id}").replace(DELIVERY, "{deliveryId}") for case in CASES}


@pytest.mark.parametrize("case", NAMED)
async def test_cursors_lead_through_a_list_in_its_order(filled: App, case: Case) -> None:
    """Row A7: pages of any size give the list as one page does, also where a page ends among rows of one moment."""
    whole, cursor = await page(filled, case, limit=1000)
    assert (len(whole), len(set(whole)), cursor) == (ROWS, ROWS, None)
    for limit in (1, 2, 4, ROWS - 1, ROWS, ROWS + 1):
        assert await walked(filled, case, limit) == whole


@pytest.mark.parametrize("case", NAMED)
async def test_what_is_added_meanwhile_moves_nothing(database_url: str, case: Case) -> None:
    """Row A7: rows added at either end between two pages neither repeat nor hide one."""
    async with running_app(database_url) as app:
        await execute(app, FILL)
        whole, _ = await page(app, case, limit=1000)
        first, cursor = await page(app, case, limit=10)
        for n, sign in enumerate("+-"):
            await execute(app, case.more.format(at=f"now() {sign} interval '1 day'", n=2000 + n))
        rest, _ = await page(app, case, limit=1000, before=cursor)
        assert [row for row in [*first, *rest] if row in set(whole)] == whole
        assert len({*first, *rest}) == len([*first, *rest])


@pytest.mark.parametrize("case", NAMED)
async def test_far_offsets_are_refused(filled: App, case: Case) -> None:
    """Row A7: `offset` beyond 100,000 would read as many rows only to drop them."""
    assert (await page(filled, case, offset=MAX_OFFSET))[0] == []
    for offset in (MAX_OFFSET + 1, 1_800_000, 10**30):
        refused = await filled.get(case.path, params={**case.filters, "offset": offset})
        assert (refused.status_code, refused.json()["code"]) == (400, "OFFSET_TOO_LARGE")


@pytest.mark.parametrize("case", NAMED)
async def test_strange_cursors_are_refused(filled: App, case: Case) -> None:
    """Row A7: a cursor of another list, a broken one or one too long gets a clear error, never rows."""
    _, cursor = await page(filled, case, limit=1)
    other = CASES[-1] if case.path != CASES[-1].path else CASES[0]
    _, foreign = await page(filled, other, limit=1)
    assert cursor is not None
    name = json.loads(base64.urlsafe_b64decode(cursor + "=="))[0]
    for bad in (
        foreign,
        cursor[:-3],
        cursor + "A" * MAX_CURSOR_CHARACTERS,
        "%",
        "0",
        "ü",
        encoded(name),
        encoded(name, None, None),
        encoded(name, "x", "y", "z"),
        encoded(name, 10**30, 10**30),
        encoded(name, "\0", "\0"),
        encoded(name, True, False),
        encoded(name, {}, []),
        encoded([name], 1, "a"),
    ):
        refused = await filled.get(case.path, params={**case.filters, "before": bad})
        assert (refused.status_code, refused.json()["code"]) == (400, "FILTER_INVALID"), bad
    both = await filled.get(case.path, params={**case.filters, "before": cursor, "offset": 1})
    assert (both.status_code, both.json()["code"]) == (400, "FILTER_INVALID")
    assert await page(filled, case, before=cursor, offset=0, limit=3) == await page(filled, case, offset=1, limit=3)


def encoded(*members: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(members).encode()).rstrip(b"=").decode()


async def test_a_tree_and_the_log_in_order_take_no_such_cursor(filled: App) -> None:
    """Row A7: where `before` means nothing it is refused rather than ignored."""
    by_path = {case.path: case for case in CASES}
    history, tree = by_path["/api/events/history"], by_path["/api/delegations"]
    for case, other in ((tree, "rootJti=" + HOOK), (history, "order=asc"), (history, "after=0")):
        _, cursor = await page(filled, case, limit=1)
        refused = await filled.get(f"{case.path}?{other}&before={cursor}")
        assert (refused.status_code, refused.json()["code"]) == (400, "FILTER_INVALID")
    log = (await filled.get("/api/events/history?order=asc&limit=2")).json()
    assert "nextBefore" not in log
    assert log["nextAfter"]


async def test_a_page_that_ends_by_size_is_not_the_last(database_url: str) -> None:
    """Row A7: a page that a mebibyte ends has a cursor, and every row is on one of the pages."""
    case = CASES[-1]
    async with running_app(database_url) as app:
        await execute(
            app,
            "INSERT INTO admin_audit_log (id, action, details, created_at)"
            " SELECT gen_random_uuid(), 'webhook.create', jsonb_build_object('url', repeat('w', 60000)), now()"
            " FROM generate_series(1, 40)",
        )
        rows, cursor = await page(app, case, limit=1000)
        assert 1 < len(rows) < 40
        while cursor is not None:
            more, cursor = await page(app, case, limit=1000, before=cursor)
            rows += more
        assert len(set(rows)) == len(rows) == 40


async def test_manifests_end_a_page_by_size_too(database_url: str) -> None:
    """Row A7: the same where a page is measured twice."""
    case = CASES[1]
    async with running_app(database_url) as app:
        await execute(
            app,
            "INSERT INTO agents (aid, display_name, handshake_endpoint, offered_caps, manifest_json, registered_at)"
            " SELECT 'aid-' || n, 'n', 'https://a/', '[]', repeat(CASE WHEN n < 30 THEN 'm' ELSE '\"' END, 60000),"
            " now() FROM generate_series(1, 60) AS n",
        )
        assert len(await sizes(app, case)) == 60


async def sizes(app: App, case: Case) -> set[Any]:
    rows, cursor = await page(app, case, limit=1000)
    while cursor is not None:
        more, cursor = await page(app, case, limit=1000, before=cursor)
        rows += more
    return set(rows)


@settings(deadline=None)
@given(st.text(max_size=200), st.binary(max_size=100))
def test_no_text_is_a_cursor_by_accident(text: str, raw: bytes) -> None:
    """Row A7: whatever comes as a cursor is read or refused, and nothing else happens."""
    for cursor in (text, base64.urlsafe_b64encode(raw).rstrip(b"=").decode()):
        for order in (HISTORY_ORDER, PINNED_ORDER):
            read_or_refused(order, cursor)


@given(st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\0"), max_size=128), st.integers(0, 2**63 - 1))
def test_every_place_comes_back_from_its_cursor(text: str, number: int) -> None:
    """Row A7: every AID, namespace and position a row can hold survives its cursor, which stays within its bound."""
    aid = text * 4
    cursor = PINNED_ORDER.cursor((text, aid))
    assert PINNED_ORDER.read(cursor) == (text, aid)
    assert len(cursor) <= MAX_CURSOR_CHARACTERS
    at = HISTORY_ORDER.read(HISTORY_ORDER.cursor((moment(number), number)))
    assert at == (moment(number), number)


def moment(number: int) -> datetime:
    return EPOCH + timedelta(microseconds=number % (2**57))


def read_or_refused(order: Order, cursor: str) -> None:
    with suppress(FilterInvalid):
        order.read(cursor)
