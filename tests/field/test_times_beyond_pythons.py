"""Times that no Python date can represent, as an older control plane or a hand left them, make nothing fail (3.4)."""

import json
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from aitp_cp.app import ENDPOINTS
from aitp_cp.console.routes import ENDPOINTS as OF_CONSOLE
from aitp_cp.db.times import FIRST, LAST
from aitp_cp.web.endpoint import Endpoint, Gate
from tests.support.agents import new_agent
from tests.support.app import AUTH, App, running_app
from tests.support.console import signed_in
from tests.support.jobs import run_all
from tests.support.rows import execute, value

pytestmark = pytest.mark.anyio

ABSURD = ["infinity", "-infinity", "294276-12-31 23:59:59+00", "0044-03-15 00:00:00+00 BC"]
ISO = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
UUIDS = [f"0000000{n}-0000-4000-8000-000000000000" for n in range(1, 5)]
STANDS_ON = {"api_keys", "console_sessions"}  # what the browser itself stands on
AIDS = [new_agent().aid for _ in ABSURD]

# Four rows in every table that holds a time; the n-th gets the n-th absurd one.
ROWS = """
INSERT INTO agents (aid, display_name, handshake_endpoint, manifest_json, manifest_expires_at)
SELECT aid, 'name', 'https://agent.example/', '{}', now() + interval '1 day' FROM unnest($1::text[]) AS aid;
INSERT INTO handshake_sessions (session_id, aid_a, aid_b, status, boundary, created_at, updated_at)
SELECT 's' || n, ($1::text[])[n], ($1::text[])[n], 'complete', 'b', now(), now() FROM generate_series(1, 4) AS n;
INSERT INTO audit_events (id, type, ts, aid_a, aid_b, session_id, payload, source, seq)
SELECT ($2::uuid[])[n], 'capability.invoked', now(), ($1::text[])[n], ($1::text[])[n], 's' || n, '{"capability": "c"}',
       'x', nextval('audit_events_seq') FROM generate_series(1, 4) AS n;
INSERT INTO issued_tcts (jti, issuer_aid, subject_aid, audience_aid, grants, issued_at, expires_at, session_id)
SELECT ($2::uuid[])[n], ($1::text[])[n], ($1::text[])[n], 'x', '[]', now(), now(), 's' || n
FROM generate_series(1, 4) AS n;
INSERT INTO delegations (jti, parent_jti, delegator_aid, delegatee_aid, scope, issued_at, expires_at)
SELECT ($2::uuid[])[n], ($2::uuid[])[1], ($1::text[])[n], 'x', '[]', now(), now() FROM generate_series(1, 4) AS n;
INSERT INTO revocation_entries (jti, revoked_at) SELECT unnest($2::uuid[]), now();
INSERT INTO webhooks (id, url, events, secret, active)
SELECT unnest($2::uuid[]), 'http://192.0.2.1:9/', '[]', 's', true;
INSERT INTO webhook_deliveries (id, webhook_id, event_type, payload, body, signature, status, next_retry_at)
SELECT unnest($2::uuid[]), ($2::uuid[])[1], 'agent.expired', '{}', '', '', 'pending', now() + interval '1 day';
INSERT INTO admin_audit_log (id, action, actor_id) SELECT unnest($2::uuid[]), 'agent.register', 'a';
INSERT INTO trust_anchors (id, namespace, issuer_url, jwks_cache, jwks_cached_at)
SELECT id, 'n', 'http://192.0.2.1:9/' || id, '{"keys": []}', now() FROM unnest($2::uuid[]) AS id;
INSERT INTO pinned_keys (namespace, aid, pubkey) SELECT 'n', unnest($1::text[]), 'k';
INSERT INTO idempotency_keys (scope, key, response_status, response_body)
SELECT 'events.ingest', n::text, 200, '{}' FROM generate_series(1, 4) AS n;
INSERT INTO enrollment_jtis (jti, expires_at) SELECT n::text, now() FROM generate_series(1, 4) AS n;
"""

# A webhook with any time at all in `deleted_at` is gone, so that column has a turn of its own.
COLUMNS = """
SELECT table_name, array_agg(column_name::text ORDER BY ordinal_position)
FROM information_schema.columns JOIN information_schema.tables USING (table_schema, table_name)
WHERE table_schema = current_schema() AND data_type = 'timestamp with time zone' AND table_type = 'BASE TABLE'
GROUP BY table_name, column_name = 'deleted_at'
ORDER BY table_name
"""


async def tables(app: App) -> list[tuple[str, list[str]]]:
    async with app.rt.db.connection() as conn:
        found = await conn.fetch(COLUMNS)
    assert sum(len(columns) for _, columns in found) > 35
    return [(table, columns) for table, columns in found]


async def spoil(app: App, table: str, columns: list[str]) -> None:
    """Give every row another absurd time in each of these columns; four rows have all there are."""
    changes = ", ".join(
        f"{name} = ($1::text[])[1 + (spoilt.n + {at}) % 4]::timestamptz" for at, name in enumerate(columns)
    )
    rows = f"SELECT ctid, row_number() OVER (ORDER BY ctid) - 1 AS n FROM {table}"
    await execute(app, f"UPDATE {table} SET {changes} FROM ({rows}) AS spoilt WHERE {table}.ctid = spoilt.ctid", ABSURD)


async def spoil_all(app: App) -> None:
    for table, columns in await tables(app):
        await spoil(app, table, columns)
    await execute(app, "UPDATE webhooks SET deleted_at = NULL")


@pytest.fixture
async def app(database_url: str) -> AsyncIterator[App]:
    async with running_app(database_url) as running:
        for statement in filter(str.strip, ROWS.split(";\n")):
            uses = [given for place, given in (("$1", AIDS), ("$2", UUIDS)) if place in statement]
            await execute(running, statement if "$1" in statement else statement.replace("$2", "$1"), *uses)
        yield running


def readable() -> list[Endpoint]:
    return [
        each
        for each in ENDPOINTS
        if each.method == "GET" and not each.streaming and each.tag not in {"ops", "identity"}
    ]


def is_page(endpoint: Endpoint) -> bool:
    return endpoint.method == "GET" and endpoint.gate is Gate.SESSION and not endpoint.streaming


def parameters(endpoint: Endpoint) -> set[str]:
    return {field.encode_name for field in msgspec.structs.fields(endpoint.query)} if endpoint.query else set()


def targets(endpoint: Endpoint) -> list[str]:
    """Its path for each of the four rows; a list with all that may be asked of it."""
    if "{" not in endpoint.path:
        names = parameters(endpoint)
        more = {"status": "all", "offset": "2", "active": "true", "aid": AIDS[0], "order": "asc", "range": "30d"}
        return [endpoint.path, *(f"{endpoint.path}?{name}={text}" for name, text in more.items() if name in names)]
    ids = [f"s{n}" for n in range(1, 5)] if "/sessions/" in endpoint.path else UUIDS
    rows = [
        endpoint.path.replace("{aid}", aid).replace("{id}", id).replace("{jti}", id)
        for aid, id in zip(AIDS, ids, strict=True)
    ]
    return [*rows, f"{rows[0]}?offset=1"] if "offset" in parameters(endpoint) else rows


def times_in(node: Any) -> list[str]:
    if isinstance(node, dict):
        own = [text for name, text in node.items() if name.endswith("At") or name == "ts"]
        return [text for text in own if isinstance(text, str)] + [x for child in node.values() for x in times_in(child)]
    return [found for child in node for found in times_in(child)] if isinstance(node, list) else []


async def test_every_endpoint_gets_past_them(app: App) -> None:
    """Kind 3.4: every table's time columns hold each absurd time; every answer is there, with times as described."""
    failed: list[str] = []
    for table, columns in await tables(app):
        await spoil(app, table, columns)
        for target in [target for endpoint in readable() for target in targets(endpoint)]:
            response = await app.http.get(target, headers=AUTH)
            if response.status_code >= 500 and response.json()["code"] != "JWKS_NOT_CACHED":
                failed.append(f"{table}: GET {target} {response.text[:100]}")
            elif response.headers["content-type"] == "application/json":
                odd = [text for text in times_in(response.json()) if not ISO.fullmatch(text)]
                failed += [f"{table}: GET {target} says {text}" for text in odd]
        sound = ", ".join(f"{name} = {'NULL' if name == 'deleted_at' else 'now()'}" for name in columns)
        await execute(app, f"UPDATE {table} SET {sound}")
    assert failed == []


async def test_every_page_of_the_console_gets_past_them(app: App) -> None:
    """Kind 3.4: no page fails, and no region of one."""
    pages = [target for endpoint in OF_CONSOLE if is_page(endpoint) for target in targets(endpoint)]
    assert len(pages) > 40
    failed: list[str] = []
    async with signed_in(app) as browser:
        tables_of_rows = [(table, columns) for table, columns in await tables(app) if table not in STANDS_ON]
        for table, columns in tables_of_rows:
            await spoil(app, table, columns)
        await execute(app, "UPDATE webhooks SET deleted_at = NULL")
        for page in pages:
            response = await browser.get(page)
            if response.status_code >= 500 or "(INTERNAL)" in response.text:
                failed.append(f"{response.status_code} {page}")
    assert failed == []


async def test_jobs_get_past_them(app: App) -> None:
    """Kind 3.4: expiry, retention, sweeps, claims and figures run with every column absurd at once."""
    await spoil_all(app)
    await run_all(app.rt)
    for path in (
        "/api/health",
        "/api/metrics",
        "/api/registry/agents?status=all",
        "/api/audit",
        "/api/dashboard/agents",
    ):
        assert (await app.get(path)).status_code == 200


async def test_writes_get_past_them(app: App) -> None:
    """Kind 3.4: a row with an absurd time can be changed, reported again, revoked and removed."""
    await spoil_all(app)
    reports = [
        {"type": "handshake.complete", "session_id": f"s{n}", "aid_a": aid, "payload": {"tct": tct(id, aid)}}
        for n, (aid, id) in enumerate(zip(AIDS, UUIDS, strict=True), start=1)
    ]
    reports += [{"type": "tct.revoked", "payload": {"jti": id}} for id in UUIDS]
    responses = [await app.post("/api/events", reports)]
    for id, aid in zip(UUIDS, AIDS, strict=True):
        responses += [
            await app.post("/api/revocation/entries", {"jti": id}),
            await app.http.patch(f"/api/registry/agents/{aid}", json={"namespace": "moved"}, headers=AUTH),
            await app.delete(f"/api/registry/agents/{aid}"),
            await app.http.patch(f"/api/webhooks/{id}", json={"active": False}, headers=AUTH),
            await app.post(f"/api/webhooks/{id}/circuit-breaker/reset", None),
            await app.delete(f"/api/webhooks/{id}"),
            await app.http.patch(f"/api/trust-anchors/{id}", json={"label": "x"}, headers=AUTH),
            await app.delete(f"/api/trust-anchors/{id}"),
        ]
    refused = [response for response in responses if response.status_code >= 300]
    assert [f"{response.request.method} {response.url} {response.text}" for response in refused] == []


def tct(jti: str, aid: str) -> dict[str, Any]:
    return {"jti": jti, "iss": aid, "sub": aid, "grants": ["g"], "iat": 1_700_000_000, "exp": 1_800_000_000}


async def test_what_is_shown_and_what_comes_back(app: App) -> None:
    """Kind 3.4: an absurd time is shown as the first or last one there is, by the driver and in SQL alike."""
    await spoil(app, "agents", ["last_seen_at"])
    agents = (await app.get("/api/registry/agents")).json()["agents"]
    last, first = "9999-12-31T23:59:59.999Z", "0001-01-01T00:00:00.000Z"
    assert sorted(agent["lastSeenAt"] for agent in agents) == [first, first, last, last]
    assert {aid: (await app.get(f"/api/registry/agents/{aid}")).json()["lastSeenAt"] for aid in AIDS} == dict(
        zip(AIDS, [last, first, last, first], strict=True)
    )
    await spoil(app, "audit_events", ["ts"])
    events = (await app.get("/api/events/history", params={"order": "asc", "after": "0"})).json()["events"]
    assert [event["ts"] for event in events] == [last, first, last, first]
    for absurd, moment in zip(ABSURD, (LAST, FIRST, LAST, FIRST), strict=True):
        assert await value(app, f"SELECT '{absurd}'::timestamptz") == moment
    for moment in (LAST, FIRST, datetime(2026, 2, 28, 12, 0, 0, 1, UTC), datetime(1969, 12, 31, tzinfo=UTC)):
        assert await value(app, "SELECT $1::timestamptz", moment) == moment
    assert await value(app, "SELECT $1::timestamptz > 'now'::timestamptz + interval '9000 years'", LAST)


async def test_every_list_is_read_on_past_them(app: App) -> None:
    """Kind 3.4: times that look the same are told apart in a cursor, so page by page shows each row once."""
    await spoil_all(app)
    read: dict[str, list[str]] = {}
    for endpoint in readable():
        query = {"limit": "1", "status": "all"} if endpoint.tag == "registry" else {"limit": "1"}
        while "before" in parameters(endpoint) and len(read.setdefault(endpoint.name, [])) < 20:
            page = (await app.get(targets(endpoint)[0], params=query)).json()
            read[endpoint.name] += [json.dumps(row) for rows in page.values() if isinstance(rows, list) for row in rows]
            if "nextBefore" not in page:
                break
            query["before"] = page["nextBefore"]
    assert {name for name, rows in read.items() if len(rows) != len(set(rows))} == set()
    assert sum(len(rows) >= 4 for rows in read.values()) >= 10


async def test_an_export_of_many_comes_to_an_end(app: App) -> None:
    """Kind 3.4: a list that is read on by its times neither loops nor repeats a row beyond the calendar."""
    await execute(
        app,
        "INSERT INTO audit_events (id, type, ts, aid_a, session_id, payload, source, seq)"
        " SELECT gen_random_uuid(), 'x', (CASE n % 4 WHEN 0 THEN 'infinity' WHEN 1 THEN '-infinity'"
        " WHEN 2 THEN 20000 + n || '-01-01' ELSE 1000 + n || '-01-01 BC' END)::timestamptz, $1,"
        " 's1', '{}', 'x', nextval('audit_events_seq') FROM generate_series(1, 600) AS n",
        AIDS[0],
    )
    for path in (f"/api/registry/agents/{AIDS[0]}/export?eventLimit=10000", "/api/sessions/s1/export"):
        events = json.loads((await app.get(path)).content)["events"]
        ids = [event["id"] for event in events]
        assert len(ids) == len(set(ids)) == 601
