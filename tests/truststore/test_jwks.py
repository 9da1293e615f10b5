"""Key sets: fetched soon, kept fresh, kept through failures, fetched once by however many replicas."""

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import pytest

from aitp_cp.clock import iso
from aitp_cp.truststore.refresher import JwksRefresher
from tests.support.app import App, running_app
from tests.support.provider import Provider
from tests.truststore.support import ANCHORS, create, later, patch

pytestmark = pytest.mark.anyio

KEYS = {"keys": [{"kty": "OKP", "kid": "one", "crv": "Ed25519", "x": "AAAA", "extra": [1, {"a": None}]}], "more": 1.5}
OTHER = {"keys": [{"kty": "EC", "kid": "two", "crv": "P-256", "x": "AAAA", "y": "AAAA"}]}
DISCOVERY = "/.well-known/openid-configuration"
TOO_LONG = b'{"keys":[],"padding":"' + b"x" * 1024 * 1024 + b'"}'

UNUSABLE: list[tuple[str, tuple[int, bytes]]] = [
    ("/keys", (500, b"{}")),
    ("/keys", (404, b"{}")),
    ("/keys", (302, b"{}")),
    ("/keys", (200, b"")),
    ("/keys", (200, b"<html>")),
    ("/keys", (200, b"[]")),
    ("/keys", (200, b"{}")),
    ("/keys", (200, b'{"keys":{}}')),
    ("/keys", (200, b'{"keys":[1]}')),
    ("/keys", (200, b'{"keys":[]}')),
    ("/keys", (200, b'{"keys":[{"kty":"oct","k":"AAAA"}]}')),
    ("/keys", (200, b'{"keys":[{"a":"\\u0000"}]}')),
    ("/keys", (200, b'{"keys":[{"a":"\\ud800"}]}')),
    ("/keys", (200, b'{"keys":[{"a":1e999}]}')),
    ("/keys", (200, b'{"keys":' + b"[" * 100 + b"]" * 100 + b"}")),
    ("/keys", (200, TOO_LONG)),
    (DISCOVERY, (500, b"{}")),
    (DISCOVERY, (200, b"[]")),
    (DISCOVERY, (200, b'{"jwks_uri":"https://keys.example"}')),
    (DISCOVERY, (200, b'{"issuer":"https://evil.example","jwks_uri":"https://keys.example"}')),
]


async def jwks(app: App, record: dict[str, Any]) -> Any:
    """The cached set, or None while there is none."""
    response = await app.get(f"{ANCHORS}/{record['id']}/jwks")
    if response.status_code == 503:
        assert response.json()["code"] == "JWKS_NOT_CACHED"
        return None
    assert response.headers["Content-Type"] == "application/json"
    shown = (await app.get(f"{ANCHORS}/{record['id']}")).json()
    assert response.headers["X-JWKS-Cached-At"] == shown["jwksCachedAt"]
    return response.json()


async def cached(app: App, record: dict[str, Any], wanted: object = KEYS) -> None:
    """Return once the set is cached."""
    async with asyncio.timeout(10):
        while await jwks(app, record) != wanted:
            await asyncio.sleep(0.01)


def discoverable(provider: Provider, **changes: Any) -> None:
    provider.say(DISCOVERY, {"issuer": provider.url, "jwks_uri": f"{provider.url}/keys", **changes})
    provider.say("/keys", KEYS)


async def test_a_new_anchor_is_discovered_at_once(
    monkeypatch: pytest.MonkeyPatch, refreshing: App, provider: Provider
) -> None:
    monkeypatch.setattr("aitp_cp.truststore.refresher.JwksRefresher.poll_secs", 3600.0)
    refreshing.rt.get(JwksRefresher).wake()
    discoverable(provider)
    record = await create(refreshing, provider.url)
    await cached(refreshing, record)
    assert provider.asked == {DISCOVERY: 1, "/keys": 1}


async def test_an_explicit_url_needs_no_discovery(refreshing: App, provider: Provider) -> None:
    provider.say("/my/keys?v=1", KEYS)
    record = await create(refreshing, "https://issuer.example", jwksUrl=f"{provider.url}/my/keys?v=1")
    await cached(refreshing, record)
    assert provider.asked == {"/my/keys?v=1": 1}


async def test_keys_are_fetched_again_after_the_interval(by_hand: App, provider: Provider) -> None:
    discoverable(provider)
    record, refresher = await create(by_hand, provider.url), by_hand.rt.get(JwksRefresher)
    await refresher.run_due()
    provider.say("/keys", OTHER)
    await later(by_hand, 800)
    await refresher.run_due()
    assert await jwks(by_hand, record) == KEYS
    await later(by_hand, 101)
    await refresher.run_due()
    assert await jwks(by_hand, record) == OTHER


async def test_the_last_good_set_is_kept(by_hand: App, provider: Provider) -> None:
    discoverable(provider)
    record, refresher = await create(by_hand, provider.url), by_hand.rt.get(JwksRefresher)
    await refresher.run_due()
    for path, response in UNUSABLE:
        provider.responses[path] = response
        asked = provider.asked[path]
        await later(by_hand, 901)
        await refresher.run_due()
        assert provider.asked[path] == asked + 1
        assert await jwks(by_hand, record) == KEYS, response

        at = (await by_hand.get(f"{ANCHORS}/{record['id']}")).json()["jwksCachedAt"]
        discoverable(provider)
        await later(by_hand, 61)  # a failure is tried again sooner
        await refresher.run_due()
        assert (await by_hand.get(f"{ANCHORS}/{record['id']}")).json()["jwksCachedAt"] > at


async def test_discovery_must_name_a_web_url(by_hand: App, provider: Provider) -> None:
    discoverable(provider, jwks_uri=None)
    record, refresher = await create(by_hand, provider.url), by_hand.rt.get(JwksRefresher)
    await refresher.run_due()
    for uri in (7, "", "keys", "file:///etc/passwd", "https://a@b.example", "https://" + "x" * 2048):
        discoverable(provider, jwks_uri=uri)
        await later(by_hand, 61)
        await refresher.run_due()
        assert await jwks(by_hand, record) is None
    assert provider.asked == {DISCOVERY: 7}


async def test_a_provider_inside_our_network_is_not_asked(database_url: str, provider: Provider) -> None:
    discoverable(provider)
    async with running_app(database_url) as app:
        record = await create(app, provider.url)
        await app.rt.get(JwksRefresher).run_due()
        assert await jwks(app, record) is None
    assert not provider.asked


async def test_a_changed_source_has_no_keys_of_the_old_one(refreshing: App, provider: Provider) -> None:
    discoverable(provider)
    record = await create(refreshing, provider.url)
    await cached(refreshing, record)
    provider.silent.add("/others")
    changed = (await patch(refreshing, record["id"], {"jwksUrl": f"{provider.url}/others"})).json()
    assert changed["jwksCachedAt"] is None
    assert await jwks(refreshing, record) is None
    await provider.asked_for("/others")

    provider.say("/third", OTHER)
    await patch(refreshing, record["id"], {"jwksUrl": f"{provider.url}/third"})
    await cached(refreshing, record, OTHER)


async def test_a_changed_label_keeps_the_keys(refreshing: App, provider: Provider) -> None:
    discoverable(provider)
    record = await create(refreshing, provider.url)
    await cached(refreshing, record)
    changed = (await patch(refreshing, record["id"], {"label": "new"})).json()
    assert changed["jwksCachedAt"] is not None
    assert await jwks(refreshing, record) == KEYS
    assert provider.asked["/keys"] == 1


async def test_keys_of_a_source_that_was_changed_meanwhile_are_dropped(by_hand: App, provider: Provider) -> None:
    refresher = by_hand.rt.get(JwksRefresher)
    provider.say("/old", KEYS)
    record = await create(by_hand, jwksUrl=f"{provider.url}/old")
    async with provider.news:  # the provider cannot answer before the block ends
        fetching = asyncio.create_task(refresher.run_due())
        async with asyncio.timeout(5):
            while not await claimed(by_hand):
                await asyncio.sleep(0.01)
        await patch(by_hand, record["id"], {"jwksUrl": f"{provider.url}/new"})
    await fetching
    assert provider.asked == {"/old": 1, "/new": 1}
    assert await jwks(by_hand, record) is None
    provider.say("/new", OTHER)
    await later(by_hand, 61)
    await refresher.run_due()
    assert await jwks(by_hand, record) == OTHER


async def claimed(app: App) -> bool:
    async with app.rt.db.connection() as conn:
        return bool(await conn.fetchval("SELECT bool_and(jwks_due_at IS NOT NULL) FROM trust_anchors"))


async def test_replicas_share_the_work(database_url: str, provider: Provider) -> None:
    discoverable(provider)
    async with AsyncExitStack() as stack:
        apps = [
            await stack.enter_async_context(running_app(database_url, WEBHOOK_ALLOWED_CIDRS="127.0.0.0/8"))
            for _ in range(3)
        ]
        records = [
            await create(apps[0], f"https://issuer.example/{number}", jwksUrl=f"{provider.url}/keys")
            for number in range(20)
        ]
        await asyncio.gather(*(app.rt.get(JwksRefresher).run_due() for app in apps))
        assert provider.asked == {"/keys": 20}
        for record in records:
            assert await jwks(apps[1], record) == KEYS


async def test_a_silent_provider_delays_nobody_and_holds_no_connection(refreshing: App, provider: Provider) -> None:
    discoverable(provider)
    provider.silent.add("/never")
    for number in range(3):
        await create(refreshing, f"https://issuer.example/{number}", jwksUrl=f"{provider.url}/never")
    await provider.asked_for("/never", 3)
    async with asyncio.timeout(5):
        while refreshing.rt.db.in_use:
            await asyncio.sleep(0.01)
    record = await create(refreshing, provider.url)
    await cached(refreshing, record)
    assert provider.asked["/never"] == 3


async def test_a_crashed_replicas_claim_comes_back(database_url: str, provider: Provider) -> None:
    discoverable(provider)
    async with running_app(database_url, WEBHOOK_ALLOWED_CIDRS="127.0.0.0/8") as app:
        record = await create(app, provider.url)
        provider.silent.add(DISCOVERY)
        crashing = asyncio.create_task(app.rt.get(JwksRefresher).run_due())
        await provider.asked_for(DISCOVERY)
        for task in asyncio.all_tasks():
            if task.get_name() == "item:truststore.jwks":
                task.cancel()
        await crashing
        provider.silent.clear()

        await app.rt.get(JwksRefresher).run_due()
        assert await jwks(app, record) is None
        await later(app, 51)
        await app.rt.get(JwksRefresher).run_due()
        assert await jwks(app, record) == KEYS


async def test_refreshing_can_be_switched_off(database_url: str, provider: Provider) -> None:
    discoverable(provider)
    async with running_app(database_url, WEBHOOK_ALLOWED_CIDRS="127.0.0.0/8", JWKS_REFRESH_ENABLED="false") as app:
        refresher = app.rt.get(JwksRefresher)
        refresher.start()
        record = await create(app, provider.url)
        await refresher.stop()
        assert await jwks(app, record) is None
    assert not provider.asked


async def test_stopping_lets_a_fetch_finish(database_url: str, provider: Provider) -> None:
    discoverable(provider)
    async with running_app(database_url, WEBHOOK_ALLOWED_CIDRS="127.0.0.0/8") as app:
        refresher = app.rt.get(JwksRefresher)
        record = await create(app, provider.url)
        refresher.start()
        await provider.asked_for(DISCOVERY)
        await refresher.stop()
        assert await jwks(app, record) == KEYS


async def test_a_set_of_an_older_control_plane_is_served(app: App) -> None:
    record = await create(app)
    async with app.rt.db.connection() as conn:
        await conn.execute("UPDATE trust_anchors SET jwks_cache = '{\"keys\": []}', jwks_cached_at = now()")
        at = await conn.fetchval("SELECT jwks_cached_at FROM trust_anchors")
    response = await app.get(f"{ANCHORS}/{record['id']}/jwks")
    assert (response.status_code, response.json(), response.headers["X-JWKS-Cached-At"]) == (200, {"keys": []}, iso(at))
