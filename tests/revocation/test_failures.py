"""A failure anywhere on the way from the table to the list: the list is whole, or there is none, or it is the last."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import msgspec
import pytest

from aitp_cp.errors import RevocationUnavailable
from aitp_cp.revocation.model import Signed
from aitp_cp.revocation.published import PublishedList
from aitp_cp.runtime import Runtime, open_runtime
from aitp_cp.settings import load
from tests.revocation.support import fill
from tests.support.app import ENVIRONMENT
from tests.support.proxy import Proxy

pytestmark = pytest.mark.anyio

COUNT = 40
# More than the answers to all statements of one renewal take, with the beginning of a connection.
ALL_BYTES = 6000


def length(signed: Signed) -> int:
    return len(msgspec.json.decode(signed.body)["revocation_list"]["entries"])


@asynccontextmanager
async def runtime(dsn: str) -> AsyncIterator[Runtime]:
    """The runtime without its tail, so that all traffic is the list's."""
    async with open_runtime(load({**ENVIRONMENT, "DATABASE_URL": dsn}, command="serve")) as rt:
        yield rt


@asynccontextmanager
async def publishing(rt: Runtime) -> AsyncIterator[PublishedList]:
    published = PublishedList(rt, lambda: 0.0)
    published.start()
    try:
        yield published
    finally:
        await published.stop()


@pytest.fixture
async def rt(proxy: Proxy) -> AsyncIterator[Runtime]:
    async with runtime(proxy.dsn) as opened:
        async with opened.db.connection() as conn:
            await fill(conn, COUNT)
        yield opened


async def test_without_a_good_list_the_answer_is_whole_or_none(rt: Runtime, proxy: Proxy) -> None:
    outcomes: list[int | None] = []
    for size in range(0, ALL_BYTES, 47):
        proxy.cut_after(size)
        async with publishing(rt) as published:
            try:
                outcomes.append(length(await published.get()))
            except RevocationUnavailable:
                outcomes.append(None)
    assert set(outcomes) == {None, COUNT}
    assert outcomes.count(None) > 10  # the cuts did fall into the statements


async def test_with_a_good_list_the_answer_is_that_or_whole(rt: Runtime, proxy: Proxy) -> None:
    async with publishing(rt) as published:
        for size in range(0, ALL_BYTES, 601):
            proxy.cut_after(None)
            published.changed()
            good = await whole(published, rt)
            proxy.cut_after(size)
            published.changed()
            after = await published.get()
            assert after.body == good.body or length(after) == COUNT


async def whole(published: PublishedList, rt: Runtime) -> Signed:
    """A list of now: failures that are over are noticed at the next attempt."""
    began = rt.clock().timestamp()
    async with asyncio.timeout(15):
        while True:
            signed = await published.get()
            if msgspec.json.decode(signed.body)["revocation_list"]["published_at"] >= int(began):
                assert length(signed) == COUNT
                return signed
            await asyncio.sleep(0.01)


async def test_a_connection_that_breaks_once_is_not_noticed(rt: Runtime, database_url: str) -> None:
    async with publishing(rt) as published:
        await published.get()
        admin = await asyncpg.connect(database_url)
        try:
            await admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            await fill(admin, 1)
        finally:
            await admin.close()
        published.changed()
        assert length(await published.get()) == COUNT + 1


async def test_a_table_that_cannot_be_read_is_not_an_empty_one(rt: Runtime, database_url: str) -> None:
    async with publishing(rt) as published:
        good = await published.get()
        admin = await asyncpg.connect(database_url)
        try:
            await admin.execute("ALTER TABLE revocation_entries RENAME TO elsewhere")
            published.changed()
            assert (await published.get()).body == good.body
            await admin.execute("ALTER TABLE elsewhere RENAME TO revocation_entries")
        finally:
            await admin.close()
        await whole(published, rt)


async def test_while_nobody_follows_the_log_every_answer_is_read(rt: Runtime) -> None:
    published = PublishedList(rt, lambda: 60.0)
    published.start()
    try:
        assert length(await published.get()) == COUNT
        async with rt.db.connection() as conn:
            await fill(conn, 1)
        async with asyncio.timeout(10):
            while length(await published.get()) == COUNT:
                await asyncio.sleep(0.01)
    finally:
        await published.stop()
