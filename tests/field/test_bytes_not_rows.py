"""What a stranger can make the process hold is bounded by bytes, not by a number of rows or answers (rows A5, 37)."""

import asyncio
import json
import re
from typing import Any

import pytest

from aitp_cp.db.pages import PAGE_BYTES
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

LONG = "repeat('w', 60000)"
FILL: dict[str, tuple[str, str]] = {
    "/api/audit": (
        "entries",
        f"""INSERT INTO admin_audit_log (id, action, details, created_at)
        SELECT gen_random_uuid(), 'webhook.create', jsonb_build_object('url', {LONG}), now()
        FROM generate_series(1, 40)""",
    ),
    "/api/trust-anchors": (
        "trustAnchors",
        f"""INSERT INTO trust_anchors (id, namespace, issuer_url, jwks_url)
        SELECT gen_random_uuid(), 'n', 'https://' || n || {LONG}, {LONG} FROM generate_series(1, 40) AS n""",
    ),
    "/api/webhooks/00000000-0000-4000-8000-000000000001/deliveries": (
        "deliveries",
        f"""WITH hook AS (
            INSERT INTO webhooks (id, url, events, secret, active)
            VALUES ('00000000-0000-4000-8000-000000000001', 'https://hooks.example/', '[]', 's', false) RETURNING id
        )
        INSERT INTO webhook_deliveries (id, webhook_id, event_type, payload, body, status, error)
        SELECT gen_random_uuid(), hook.id, 'x', '{{}}', '', 'failed', {LONG} FROM hook, generate_series(1, 40)""",
    ),
}


async def read_all(app: App, path: str, name: str, **filters: str) -> list[list[dict[str, Any]]]:
    """All pages, read on by offset until one is empty; each is as long as a page may be and no shorter."""
    pages: list[list[dict[str, Any]]] = []
    offset = 0
    while True:
        answer = await app.get(path, params={**filters, "limit": "1000", "offset": str(offset)})
        assert answer.status_code == 200
        assert len(answer.content) <= PAGE_BYTES + 100
        rows = answer.json()[name]
        if not rows:
            return pages
        pages.append(rows)
        offset += len(rows)


async def test_a_page_of_manifests_ends_at_a_mebibyte(database_url: str) -> None:
    """Row A5: 300 agents with 61 KB manifests and `limit=1000`: pages of 1 MiB, and every agent on one of them."""
    async with running_app(database_url) as app:
        await execute(app, FILL_AGENTS, 300)
        pages = await read_all(app, AGENTS, "agents", include_manifest="true")
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
            answer = await app.http.get(AGENTS, params=params)
            found.append([agent["aid"] for agent in answer.json()["agents"]])
        assert found == [["aid-0001"], ["aid-0002"], ["aid-0003"]]


@pytest.mark.parametrize("path", FILL)
async def test_other_lists_end_at_a_mebibyte_too(database_url: str, path: str) -> None:
    """Row A5: the same for every list whose rows may be large."""
    name, fill = FILL[path]
    async with running_app(database_url) as app:
        await execute(app, fill)
        pages = await read_all(app, path, name)
        ids = [row["id"] for page in pages for row in page]
        assert len(ids) == len(set(ids)) == 40
        assert len(pages) > 1


async def test_long_endpoints_and_capabilities_count_too(database_url: str) -> None:
    """Row A5: a page without manifests is as bounded as one with them."""
    async with running_app(database_url) as app:
        await execute(app, FILL_AGENTS, 60)
        await execute(app, "UPDATE agents SET handshake_endpoint = 'https://h/' || repeat('e', 30000)")
        await execute(app, "UPDATE agents SET offered_caps = jsonb_build_array(repeat('c', 30000))")
        pages = await read_all(app, AGENTS, "agents")
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
