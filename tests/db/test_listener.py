"""The bell, over connections that are killed, closed to everybody, or silently dead."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest

from aitp_cp.db.connect import CONNECT_TIMEOUT_SECS
from aitp_cp.db.listener import Listener
from tests.support.proxy import proxy
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

CHANNEL = "a_channel"


@asynccontextmanager
async def listening(dsn: str, *, probe_secs: float = 10) -> AsyncIterator[tuple[Listener, list[int]]]:
    rings: list[int] = []
    listener = Listener(dsn, CHANNEL, lambda: rings.append(1), probe_secs=probe_secs)
    listener.start()
    await until(lambda: listener.connected)
    try:
        yield listener, rings
    finally:
        await listener.stop()


async def say(dsn: str, statement: str) -> None:
    conn = await asyncpg.connect(dsn)
    try:
        await conn.execute(statement)
    finally:
        await conn.close()


async def test_rings_when_connected_and_for_each_notification(database_url: str) -> None:
    async with listening(database_url) as (_, rings):
        assert len(rings) == 1
        await say(database_url, f"NOTIFY {CHANNEL}")
        await until(lambda: len(rings) == 2)
        await say(database_url, "NOTIFY another_channel")
        await say(database_url, f"NOTIFY {CHANNEL}, '17'")
        await until(lambda: len(rings) == 3)


async def test_a_killed_connection_is_replaced_and_the_bell_rung(database_url: str) -> None:
    async with listening(database_url) as (listener, rings):
        for turn in range(2, 5):
            await say(
                database_url,
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%' "
                "AND datname = current_database()",
            )
            await until(lambda: len(rings) == turn)  # noqa: B023 - called within this turn
            assert listener.connected


async def test_a_connection_that_is_silently_dead_is_noticed(database_url: str) -> None:
    async with proxy(database_url) as (dsn, freeze), listening(dsn, probe_secs=0.1) as (listener, rings):
        freeze()
        await until(lambda: len(rings) == 2, 20)
        await say(database_url, f"NOTIFY {CHANNEL}")
        await until(lambda: len(rings) == 3)
        assert listener.connected


async def test_stopping_is_quick_whatever_the_state(database_url: str) -> None:
    async with proxy(database_url) as (dsn, freeze), listening(dsn) as (listener, _):
        freeze()
        async with asyncio.timeout(CONNECT_TIMEOUT_SECS):
            await listener.stop()
    hopeless = Listener("postgresql://nobody@127.0.0.1:1/nothing", CHANNEL, lambda: None)
    hopeless.start()
    await asyncio.sleep(0.3)
    assert not hopeless.connected
    async with asyncio.timeout(CONNECT_TIMEOUT_SECS):
        await hopeless.stop()
