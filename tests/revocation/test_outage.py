"""The database goes away: the list stays what it was, as long as it may, and then says that it cannot be had."""

import asyncio
import time
from contextlib import AsyncExitStack
from datetime import timedelta

import asyncpg
import pytest

from aitp_cp.db import urgent
from aitp_cp.db.connections import ACQUIRE_TIMEOUT_SECS
from tests.revocation.support import LIST, listed, revoke
from tests.support.app import App, running_app
from tests.support.proxy import Proxy
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

# Well below the 45 s after which a list is renewed anyway, and well above what a busy machine adds.
SOON_SECS = 15.0


async def refused(app: App) -> bool:
    response = await app.http.get(LIST)
    if response.status_code != 503:
        return False
    assert response.json()["code"] == "REVOCATION_UNAVAILABLE"
    assert response.headers["Retry-After"] == "30"
    assert response.headers["Cache-Control"] == "no-store"
    return True


async def insert_elsewhere(dsn: str) -> str:
    conn = await asyncpg.connect(dsn)
    try:
        return str(await conn.fetchval("INSERT INTO revocation_entries (jti) VALUES (gen_random_uuid()) RETURNING jti"))
    finally:
        await conn.close()


async def test_stopped_and_started(distant: App, proxy: Proxy, database_url: str) -> None:
    await revoke(distant, reason="before")
    good = await distant.http.get(LIST)
    await proxy.stop()

    for secs in (1, 59, 61, 150, 299):
        distant.clock.ahead = timedelta(seconds=secs)
        response = await distant.http.get(LIST)
        assert (response.status_code, response.content) == (200, good.content)
        assert response.headers["ETag"] == good.headers["ETag"]
    distant.clock.ahead = timedelta(seconds=301)
    assert await refused(distant)
    assert await refused(distant)
    assert (await distant.http.get(LIST, headers={"If-None-Match": good.headers["ETag"]})).status_code == 503

    meanwhile = await insert_elsewhere(database_url)
    await proxy.start()

    async def is_fresh() -> bool:
        response = await distant.http.get(LIST)
        return response.status_code == 200 and set(listed(response)) == {*listed(good), meanwhile}

    await until(is_fresh, SOON_SECS)


async def test_back_before_the_list_was_too_old(distant: App, proxy: Proxy, database_url: str) -> None:
    await revoke(distant)
    good = await distant.http.get(LIST)
    await proxy.stop()
    meanwhile = await insert_elsewhere(database_url)
    distant.clock.ahead = timedelta(seconds=61)
    assert (await distant.http.get(LIST)).content == good.content
    await proxy.start()

    async def is_fresh() -> bool:
        return meanwhile in listed(await distant.http.get(LIST))

    await until(is_fresh, SOON_SECS)


async def test_the_bound_is_configured(proxy: Proxy) -> None:
    async with running_app(proxy.dsn, REVOCATION_MAX_STALENESS_SECS="10") as app:
        await revoke(app)
        assert (await app.http.get(LIST)).status_code == 200
        await proxy.stop()
        app.clock.ahead = timedelta(seconds=9)
        assert (await app.http.get(LIST)).status_code == 200
        app.clock.ahead = timedelta(seconds=11)
        assert await refused(app)


async def test_a_list_past_its_own_expiry_is_not_served(proxy: Proxy) -> None:
    async with running_app(proxy.dsn, REVOCATION_LIST_TTL_SECS="30") as app:
        assert (await app.http.get(LIST)).status_code == 200
        await proxy.stop()
        app.clock.ahead = timedelta(seconds=31)
        assert await refused(app)


async def test_a_clock_that_is_set_back_makes_nothing_younger(distant: App, proxy: Proxy) -> None:
    distant.clock.ahead = timedelta(hours=1)
    good = await distant.http.get(LIST)
    await proxy.stop()
    distant.clock.ahead = timedelta(hours=-1)
    assert (await distant.http.get(LIST)).content == good.content
    distant.clock.ahead = timedelta(hours=1, seconds=301)
    assert await refused(distant)


async def test_a_silent_database_holds_nobody_up(distant: App, proxy: Proxy, database_url: str) -> None:
    await revoke(distant)
    good = await distant.http.get(LIST)
    proxy.stall()
    distant.clock.ahead = timedelta(seconds=61)

    started = time.monotonic()
    responses = await asyncio.gather(*(distant.http.get(LIST) for _ in range(20)))
    # All at once, when the first loses patience: not one after another, nor when the pool or the driver gives up.
    assert time.monotonic() - started < ACQUIRE_TIMEOUT_SECS
    assert {response.content for response in responses} == {good.content}

    async def answers_at_once() -> bool:
        asked = time.monotonic()
        assert (await distant.http.get(LIST)).content == good.content
        return time.monotonic() - asked < 0.1

    await until(answers_at_once, SOON_SECS)
    meanwhile = await insert_elsewhere(database_url)
    proxy.resume()

    async def is_fresh() -> bool:
        return meanwhile in listed(await distant.http.get(LIST))

    await until(is_fresh, SOON_SECS)


async def test_connections_that_went_dead_are_replaced(distant: App, proxy: Proxy, database_url: str) -> None:
    await distant.http.get(LIST)
    async with AsyncExitStack() as everything:
        for _ in range(distant.rt.db.max_size):
            with urgent():
                await everything.enter_async_context(distant.rt.db.connection())
    proxy.freeze()
    meanwhile = await insert_elsewhere(database_url)
    distant.clock.ahead = timedelta(seconds=61)

    async def is_fresh() -> bool:
        return meanwhile in listed(await distant.http.get(LIST))

    await until(is_fresh, SOON_SECS)


async def test_a_process_that_never_had_a_list_does_not_make_one_up(database_url: str) -> None:
    jti = await insert_elsewhere(database_url)
    keeper = await asyncpg.connect(database_url)
    try:
        async with keeper.transaction():
            await keeper.execute("LOCK TABLE revocation_entries IN ACCESS EXCLUSIVE MODE")
            async with running_app(database_url) as app:
                assert await refused(app)
                await keeper.execute("ROLLBACK")

                async def is_there() -> bool:
                    response = await app.http.get(LIST)
                    return response.status_code == 200 and listed(response) == [jti]

                await until(is_there, SOON_SECS)
    finally:
        await keeper.close()


async def test_a_revocation_that_cannot_be_stored_is_refused(distant: App, proxy: Proxy) -> None:
    good = await distant.http.get(LIST)
    await proxy.stop()
    response = await distant.post("/api/revocation/entries", {"jti": "7c9e6679-7425-40de-944b-e07fc1f90ae7"})
    assert (response.status_code, response.json()["code"]) == (503, "DATABASE_UNAVAILABLE")
    assert (await distant.http.get(LIST)).content == good.content
