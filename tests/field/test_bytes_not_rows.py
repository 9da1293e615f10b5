"""What a stranger can make the process hold is bounded by bytes, not by a number of rows or answers (rows A5, 37)."""

import asyncio
import json
import re
from dataclasses import dataclass
from typing import Any

import pytest

from aitp_cp.app import ENDPOINTS
from aitp_cp.db.pages import LONG_PAGE_BYTES, PAGE_BYTES
from aitp_cp.events.tail import Tail
from aitp_cp.registry import cache as registry_cache
from aitp_cp.registry.cache import RegistryCache
from tests.support.agents import manifest, new_agent
from tests.support.app import App, running_app
from tests.support.enrolment import registered
from tests.support.rows import execute

pytestmark = pytest.mark.anyio

AGENTS = "/api/registry/agents"

# Manifests of 61 KB, ten of them of quotes, which take twice as many bytes when they are sent.
FILL_AGENTS = """
INSERT INTO agents (aid, display_name, handshake_endpoint, offered_caps, manifest_json, manifest_expires_at, namespace,
                    registered_at)
SELECT 'aid-' || lpad(n::text, 4, '0'), 'name', 'https://agent.example/' || repeat('é', 300), '["cap.read"]',
       repeat(CASE WHEN n <= 10 THEN '"' ELSE 'm' END, 61000), now() + interval '1 day', 'full', now()
FROM generate_series(1, $1::int) AS n
"""

# Of two bytes on the wire each; a list that ends at 1 MiB has 40 such rows, one that ends at 16 MiB has 200.
LONG = "repeat('\"', 60000)"
HOOK = "00000000-0000-4000-8000-000000000001"


@dataclass
class Filled:
    """A list, the bound of its pages, and `rows` rows for it that take more than a page."""

    name: str
    insert: str
    most: int = LONG_PAGE_BYTES
    rows: int = 200


FILL: dict[str, Filled] = {
    "GET /api/registry/agents": Filled(
        "agents",
        f"""INSERT INTO agents (aid, display_name, handshake_endpoint, offered_caps, manifest_json, registered_at)
        SELECT 'aid-' || n, 'n', 'https://agent.example/', jsonb_build_array({LONG}), '', now()""",
        PAGE_BYTES,
        40,
    ),
    "GET /api/dashboard/agents": Filled(
        "agents",
        """INSERT INTO agents (aid, display_name, handshake_endpoint, offered_caps, manifest_json, registered_at)
        SELECT n || repeat('é', 500), repeat('"', 255), 'https://agent.example/', '[]', '', now()""",
        PAGE_BYTES,
        1500,
    ),
    "GET /api/registry/notes": Filled(
        "notes",
        f"""INSERT INTO agent_notes (aid, note, labels, updated_by, updated_at)
        SELECT 'aid-' || n, {LONG}, '[]', 'x', now()""",
        PAGE_BYTES,
        40,
    ),
    "GET /api/audit": Filled(
        "entries",
        f"""INSERT INTO admin_audit_log (id, action, details, created_at)
        SELECT gen_random_uuid(), 'webhook.create', jsonb_build_object('url', {LONG}), now()""",
        PAGE_BYTES,
        40,
    ),
    "GET /api/trust-anchors": Filled(
        "trustAnchors",
        f"""INSERT INTO trust_anchors (id, namespace, issuer_url, jwks_url)
        SELECT gen_random_uuid(), 'n', 'https://' || n || {LONG}, {LONG}""",
        PAGE_BYTES,
        40,
    ),
    "GET /api/webhooks/{id}/deliveries": Filled(
        "deliveries",
        f"""WITH hook AS (
            INSERT INTO webhooks (id, url, events, secret, active)
            VALUES ('{HOOK}', 'https://hooks.example/', '[]', 's', false) RETURNING id
        )
        INSERT INTO webhook_deliveries (id, webhook_id, event_type, payload, body, status, error)
        SELECT gen_random_uuid(), (SELECT id FROM hook), 'x', '{{}}', '', 'failed', {LONG}""",
        PAGE_BYTES,
        40,
    ),
    "GET /api/webhooks/{id}/deliveries/{deliveryId}/attempts": Filled(
        "attempts",
        f"""WITH hook AS (
            INSERT INTO webhooks (id, url, events, secret, active)
            VALUES ('{HOOK}', 'https://hooks.example/', '[]', 's', false) RETURNING id
        ), delivery AS (
            INSERT INTO webhook_deliveries (id, webhook_id, event_type, payload, body, status)
            SELECT '{HOOK}', id, 'x', '{{}}', '', 'failed' FROM hook RETURNING id
        )
        INSERT INTO webhook_attempts (delivery_id, n, at, ms, cut, head)
        SELECT (SELECT id FROM delivery), n, now(), 1, false, {LONG}""",
        PAGE_BYTES,
        40,
    ),
    "GET /api/keys": Filled(
        "keys",
        """INSERT INTO api_keys (id, family, name, shown, digest, scopes, created_at)
        SELECT gen_random_uuid(), gen_random_uuid(), repeat('"', 100), 's', sha256(n::text::bytea), '[]', now()""",
        PAGE_BYTES,
        1000,
    ),
    "GET /api/events/history": Filled(
        "events",
        f"""INSERT INTO audit_events (id, type, ts, payload, seq)
        SELECT gen_random_uuid(), 'x', now(), jsonb_build_object('text', {LONG}), n""",
    ),
    "GET /api/sessions": Filled(
        "sessions",
        f"INSERT INTO handshake_sessions (session_id, status, error) SELECT n, 'failed', {LONG}",
    ),
    "GET /api/tcts": Filled(
        "tcts",
        f"""INSERT INTO issued_tcts (jti, issuer_aid, subject_aid, audience_aid, issued_at, grants)
        SELECT gen_random_uuid(), 'i', 's', 'a', now(), jsonb_build_array({LONG})""",
    ),
    "GET /api/delegations": Filled(
        "delegations",
        f"""INSERT INTO delegations (jti, parent_jti, delegator_aid, delegatee_aid, issued_at, scope)
        SELECT gen_random_uuid(), '{HOOK}', 'i', 's', now(), jsonb_build_array({LONG})""",
    ),
    "GET /api/revocation/entries": Filled(
        "entries",
        f"""INSERT INTO revocation_entries (jti, revoked_at, reason) SELECT gen_random_uuid(), now(), {LONG}""",
    ),
    "GET /api/webhooks": Filled(
        "webhooks",
        f"""INSERT INTO webhooks (id, url, events, secret, active)
        SELECT gen_random_uuid(), {LONG}, '[]', 's', false""",
    ),
    "GET /api/pinned-keys": Filled(
        "pinnedKeys",
        """INSERT INTO pinned_keys (namespace, aid, pubkey, label)
        SELECT repeat('"', 100) || n % 100, repeat('"', 500) || n, repeat('"', 128), repeat('"', 128)""",
        rows=9500,
    ),
    "GET /api/containments": Filled(
        "containments",
        f"""INSERT INTO containments (id, aid, reason, held_delegations, include, contained_at, contained_by, event_id,
                                      plan, plan_digest, remaining, pending)
        SELECT gen_random_uuid(), 'aid-' || n, {LONG}, 'keep', 'all', now(), 'x', gen_random_uuid(), '{{}}', 'x', 0,
               false""",
    ),
}


async def read_all(app: App, path: str, name: str, most: int, **filters: str) -> list[list[dict[str, Any]]]:
    """All pages, read on by cursor to the end; each is as long as a page may be and no shorter."""
    pages: list[list[dict[str, Any]]] = []
    while True:
        response = await app.get(path, params={**filters, "limit": "10000"})
        assert response.status_code == 200
        assert len(response.content) <= most + 500
        body = response.json()
        assert body[name]
        pages.append(body[name])
        if "nextBefore" not in body:
            return pages
        filters["before"] = body["nextBefore"]


async def test_a_page_of_manifests_ends_at_a_mebibyte(database_url: str) -> None:
    """Row A5: 300 agents with 61 KB manifests and `limit=1000`: pages of 1 MiB, and every agent on one of them."""
    async with running_app(database_url) as app:
        await execute(app, FILL_AGENTS, 300)
        pages = await read_all(app, AGENTS, "agents", PAGE_BYTES, include_manifest="true")
        aids = [agent["aid"] for page in pages for agent in page]
        assert aids == [f"aid-{n:04}" for n in range(1, 301)]
        sizes = [len(json.dumps(page).encode()) for page in pages[:-1]]
        assert min(sizes) > PAGE_BYTES - 125_000  # one more would not have fitted
        assert len(pages[0]) < len(pages[1])  # the quotes were counted as they are sent

        plain = await app.http.get(AGENTS, params={"limit": "1000"})
        assert len(plain.json()["agents"]) == 300


async def test_a_row_larger_than_a_page_comes_alone(database_url: str) -> None:
    """Row A5: at least one row, so that a client always gets further."""
    async with running_app(database_url) as app:
        await execute(app, FILL_AGENTS, 3)
        await execute(app, "UPDATE agents SET manifest_json = repeat('x', 3000000) WHERE aid = 'aid-0002'")
        found = []
        for offset in range(3):
            params = {"include_manifest": "true", "offset": str(offset), "limit": "1000"}
            response = await app.http.get(AGENTS, params=params)
            found.append([agent["aid"] for agent in response.json()["agents"]])
        assert found == [["aid-0001"], ["aid-0002"], ["aid-0003"]]


def test_every_list_is_tried() -> None:
    """A new list ends by bytes (`db.pages.within_bytes` or `View.page`) and gets an entry in `FILL`."""
    assert {endpoint.name for endpoint in ENDPOINTS if endpoint.is_list} == {*FILL}


@pytest.mark.parametrize("name", FILL)
async def test_every_list_ends_by_bytes(database_url: str, name: str) -> None:
    """Row A5: whatever the rows of a list are, a page is bounded in bytes, and each row is on one of the pages."""
    list_ = FILL[name]
    async with running_app(database_url) as app:
        await execute(app, f"{list_.insert} FROM generate_series(1, {list_.rows}) AS n")
        path = re.sub(r"\{\w+\}", HOOK, name.removeprefix("GET "))
        pages = await read_all(app, path, list_.name, list_.most)
        rows = [json.dumps(row) for page in pages for row in page]
        assert len(rows) == len(set(rows)) == list_.rows
        assert len(pages) > 1


async def test_the_log_in_order_and_a_tree_end_by_bytes_too(database_url: str) -> None:
    """Row A5: the other two ways to read a list; a tree has no cursor, so it is cut."""
    async with running_app(database_url) as app:
        for name in ("GET /api/events/history", "GET /api/delegations"):
            await execute(app, f"{FILL[name].insert} FROM generate_series(1, 200) AS n")
        found, after = [], 0
        while True:
            response = await app.get("/api/events/history", params={"after": str(after), "limit": "1000"})
            assert len(response.content) <= LONG_PAGE_BYTES + 500
            if not response.json()["events"]:
                break
            found += [event["seq"] for event in response.json()["events"]]
            after = response.json()["nextAfter"]
        assert found == list(range(1, 201))
        tree = await app.get("/api/delegations", params={"rootJti": HOOK})
        assert LONG_PAGE_BYTES - 130_000 < len(tree.content) <= LONG_PAGE_BYTES + 500


async def test_long_endpoints_and_capabilities_count_too(database_url: str) -> None:
    """Row A5: a page without manifests is as bounded as one with them."""
    async with running_app(database_url) as app:
        await execute(app, FILL_AGENTS, 60)
        await execute(app, "UPDATE agents SET handshake_endpoint = 'https://h/' || repeat('e', 30000)")
        await execute(app, "UPDATE agents SET offered_caps = jsonb_build_array(repeat('c', 30000))")
        pages = await read_all(app, AGENTS, "agents", PAGE_BYTES)
        assert sum(map(len, pages)) == 60
        assert len(pages) > 3


async def test_the_registry_cache_is_bounded_by_bytes(database_url: str) -> None:
    """Row 37: a thousand pages of manifests keep at most `REGISTRY_CACHE_MIB`, and a gauge shows how many."""
    async with running_app(database_url, REGISTRY_CACHE_MIB="3") as app:
        cache = app.rt.get(RegistryCache)
        await execute(app, FILL_AGENTS, 60)
        peak = 0
        for n in range(8):
            question = {"include_manifest": "true", "limit": "15", "offset": str(n)}
            await asyncio.gather(*(app.http.get(AGENTS, params=question) for _ in range(3)))
            peak = max(peak, await held(app))
            assert await held(app) == sum(entry.size for entry in cache._entries.values()) == cache.bytes_held
        assert 2 * PAGE_BYTES < peak <= 3 * PAGE_BYTES

        await registered(app, manifest(new_agent()))
        assert await held(app) == 0


async def test_what_means_nothing_is_not_kept(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Row 37: queries that mean the same share one entry, and a stranger's thousand lists replace each other."""
    monkeypatch.setattr(registry_cache, "MAX_LISTS", 20)
    async with running_app(database_url) as app:
        cache = app.rt.get(RegistryCache)
        await execute(app, FILL_AGENTS, 3)
        for n in range(30):
            await app.http.get(f"{AGENTS}?include_manifest=true&x={n}{'y' * 2000}")
        assert not cache._entries
        for n in range(30):
            await app.http.get(f"{AGENTS}?include_manifest=true&x={n}")
        assert len(cache._entries) == 1
        for n in range(50):
            await app.http.get(f"{AGENTS}?namespace={n}")
            await app.http.get(f"{AGENTS}?status=all&namespace={n}")
        assert len(cache._entries) <= len(cache._lists) <= 20


async def test_memory_answers_only_while_the_log_is_followed(database_url: str) -> None:
    """Decision 17: the cache is used only while the tail was confirmed in the last 2 s."""
    async with running_app(database_url) as app:
        cache = app.rt.get(RegistryCache)
        await execute(app, FILL_AGENTS, 1)
        await app.http.get(AGENTS)
        await execute(app, "UPDATE agents SET display_name = 'changed behind its back'")
        assert "changed" not in (await app.http.get(AGENTS)).text  # memory may answer

        tail = app.rt.get(Tail)
        await tail.stop()
        tail._read_to_end -= 2.1
        assert [cache.find(key) for key in cache._lists] == [None]
        assert "changed" in (await app.http.get(AGENTS)).text


async def held(app: App) -> int:
    scrape = (await app.http.get("/api/metrics")).text
    (found,) = re.findall(r'^aitp_control_plane_answer_cache_bytes\{cache="registry"\} (\S+)$', scrape, re.MULTILINE)
    return int(float(found))
