"""Keys on several processes: what one changes the others know, and what they do while they cannot know."""

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from aitp_cp.audit.model import Actor
from aitp_cp.clock import iso
from aitp_cp.events.tail import Tail
from aitp_cp.keys import service
from aitp_cp.keys.cache import TRUST_SECS, KeyCache
from aitp_cp.keys.model import CreatedKey, Grantor, NewKey
from aitp_cp.protocol.scopes import Role
from tests.events.support import Reader
from tests.keys.support import called, holding, new_key, outcome
from tests.support.app import API_KEY, App, running_app
from tests.support.listening import Listening, listening
from tests.support.waiting import until

pytestmark = pytest.mark.anyio


@pytest.fixture
async def other(app: App, database_url: str) -> AsyncIterator[App]:
    """A second replica of `app`."""
    async with running_app(database_url) as running:
        yield running


async def on_the_command_line(app: App, role: Role) -> CreatedKey:
    """As `aitp-cp keys create` does: past the process."""
    async with app.rt.db.transaction() as conn:
        return await service.create(conn, NewKey("n", role=role), Grantor(actor=Actor("cli", None)), app.clock())


async def test_a_key_works_on_every_replica_at_once(app: App, other: App) -> None:
    key = await new_key(app)
    assert await outcome(other, key) == (200, None)
    made = await on_the_command_line(app, Role.AUDITOR)
    assert await outcome(app, made.key) == await outcome(other, made.key) == (200, None)


async def test_a_revoked_key_is_refused_on_both_replicas_within_a_second(app: App, other: App) -> None:
    key = await new_key(app)
    assert await outcome(app, key) == await outcome(other, key) == (200, None)
    assert (await app.delete(f"/api/keys/{key['id']}")).status_code == 200
    started = time.monotonic()
    assert await outcome(app, key) == (401, "API_KEY_REVOKED")
    while await outcome(other, key) == (200, None):
        assert time.monotonic() - started < 1.0
        await asyncio.sleep(0.01)
    assert await outcome(other, key) == (401, "API_KEY_REVOKED")


async def test_an_overlap_ends_on_the_other_replica(app: App, other: App) -> None:
    old = await new_key(app)
    assert await outcome(other, old) == (200, None)
    fresh = (await app.post(f"/api/keys/{old['id']}/rotate", {"overlapSecs": 5})).json()
    other.clock.ahead = timedelta(seconds=6)
    started = time.monotonic()
    while await outcome(other, old) == (200, None):
        assert time.monotonic() - started < 1.0
        await asyncio.sleep(0.01)
    assert await outcome(other, old) == (401, "API_KEY_EXPIRED")
    assert await outcome(other, fresh) == (200, None)


async def test_without_the_log_keys_pass_for_a_minute_and_then_only_those_of_the_environment(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, cache = await new_key(app), app.rt.get(KeyCache)
    monkeypatch.setattr(cache, "_behind", lambda: TRUST_SECS - 1)
    assert await outcome(app, key) == (200, None)
    monkeypatch.setattr(cache, "_behind", lambda: TRUST_SECS + 1)
    assert await outcome(app, key) == (503, "DATABASE_UNAVAILABLE")
    assert await outcome(app, key["key"][:-1] + "_") == (401, "INVALID_API_KEY")
    assert await outcome(app, API_KEY) == (200, None)
    monkeypatch.undo()
    assert await outcome(app, key) == (200, None)


async def test_a_key_that_cannot_be_read_again_is_trusted_no_longer_than_the_log(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, cache = await new_key(app), app.rt.get(KeyCache)
    cache._changed_at = asyncio.get_running_loop().time() - TRUST_SECS - 1
    assert await outcome(app, key) == (503, "DATABASE_UNAVAILABLE")
    await cache.changed()
    assert await outcome(app, key) == (200, None)


async def test_a_replaced_log_is_a_replaced_set_of_keys(app: App) -> None:
    """After a restore the rows count, not what memory held."""
    kept, gone = await new_key(app), await new_key(app)
    async with app.rt.db.connection() as conn:
        await conn.execute("DELETE FROM api_keys WHERE id = $1", gone["id"])
    cache = app.rt.get(KeyCache)
    cache.on_reset()
    await cache.turn()
    assert await outcome(app, kept) == (200, None)
    assert await outcome(app, gone) == (401, "INVALID_API_KEY")


async def test_the_tail_brings_what_others_changed(app: App) -> None:
    made = await on_the_command_line(app, Role.AUDITOR)
    cache = app.rt.get(KeyCache)
    await until(lambda: made.id in cache._digests)
    assert app.rt.get(Tail).last > 0


async def reading(server: Listening, key: str) -> Reader:
    reader = Reader(server.port, None, {})
    reader.key = key
    await reader.__aenter__()
    assert reader.status == 200
    return reader


async def ended(reader: Reader, secs: float) -> float:
    """How long it took the stream to end."""
    started = time.monotonic()
    async with asyncio.timeout(secs):
        while await reader.frame():
            pass
    return time.monotonic() - started


@pytest.mark.parametrize("how", ["revoked", "expired", "rotated"])
async def test_a_stream_ends_with_its_key(database_url: str, how: str) -> None:
    async with listening(database_url) as server, running_app(database_url) as app:
        expiring = {"expiresAt": iso(app.clock() + timedelta(seconds=1))} if how == "expired" else {}
        key, kept = await new_key(app, **expiring), await new_key(app)
        reader, other = await reading(server, key["key"]), await reading(server, kept["key"])
        if how == "revoked":
            await app.delete(f"/api/keys/{key['id']}")
        if how == "rotated":
            await app.post(f"/api/keys/{key['id']}/rotate", {"overlapSecs": 0})
        assert await ended(reader, 3.0) < (1.0 if how != "expired" else 1.9)
        await app.post("/api/events", [{"type": "after.all"}])
        while (await other.event())["type"] != "after.all":
            pass
        for each in (reader, other):
            await each.__aexit__()


async def test_a_client_that_reads_nothing_is_cut(database_url: str) -> None:
    async with listening(database_url) as server, running_app(database_url) as app:
        key = await new_key(app)
        reader = await reading(server, key["key"])
        reader.stop_reading()
        await app.delete(f"/api/keys/{key['id']}")
        started = time.monotonic()
        while server.metric("sse_streams_open"):
            assert time.monotonic() - started < 1.0
            await asyncio.sleep(0.02)
        await reader.__aexit__()


Environment = dict[str, str]


@pytest.mark.parametrize("production", [True, False])
async def test_the_first_key_opens_or_closes_the_gate(database_url: str, production: bool) -> None:
    environment: Environment = {"API_KEYS": "", "CP_ENV": "production" if production else "development"}
    before = (503, "SERVER_MISCONFIGURED") if production else (200, None)
    async with running_app(database_url, **environment) as app:
        assert await outcome(app, "nothing") == before
        unknown = "acp_" + "0" * 39
        assert await outcome(app, unknown) == before
        made = await on_the_command_line(app, Role.ADMIN)
        assert await outcome(app, made.key) == (200, None)
        await until(lambda: app.rt.get(KeyCache).exist)
        assert await outcome(app, "nothing") == (401, "INVALID_API_KEY")
        revoked = await called(app, made.key, "DELETE", f"/api/keys/{made.id}")
        assert revoked.status_code == 200
    async with running_app(database_url, **environment) as again:  # a row that is not live keeps it closed
        assert await outcome(again, "nothing") == (401, "INVALID_API_KEY")
        assert await outcome(again, made.key) == (401, "API_KEY_REVOKED")


async def test_guesses_spend_the_bucket_of_the_address(database_url: str) -> None:
    limits = {"RATE_LIMIT_ENABLED": "true", "RATE_LIMIT_PUBLIC_PER_IP_MIN": "3"}
    async with running_app(database_url, **limits) as app:
        key = await new_key(app, ratePerMin=2)
        mistyped = key["key"][:-1] + ("0" if key["key"][-1] != "0" else "1")
        assert [(await outcome(app, mistyped))[0] for _ in range(4)] == [401, 401, 401, 429]
        responses = [await called(app, key, "GET", "/api/whoami") for _ in range(3)]
        assert [response.status_code for response in responses] == [200, 200, 429]
        assert responses[0].headers["x-ratelimit-limit"] == "2"
        assert responses[2].json()["bucket"] == "api-key"
        assert (await app.http.get("/api/whoami", headers=holding(API_KEY))).status_code == 200
