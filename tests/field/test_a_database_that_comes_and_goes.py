"""A database that breaks connections while a process starts is waited for; it is no reason to end."""

import asyncio

import pytest

from aitp_cp.cli import process
from aitp_cp.settings import Settings, load
from tests.support.app import ENVIRONMENT
from tests.support.proxy import Proxy

pytestmark = pytest.mark.anyio

CUTS = 16


def settings(dsn: str) -> Settings:
    return load({**ENVIRONMENT, "DATABASE_URL": dsn}, command="serve")


async def bytes_of_a_start(between: Proxy) -> int:
    most = 10**9
    between.cut_after(most)
    async with process.opened(settings(between.dsn)):
        assert between.left is not None
        return most - between.left


async def test_a_start_is_cut_off_anywhere(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "DATABASE_RETRY_SECS", 0.02)
    async with Proxy(database_url) as between:
        size = await bytes_of_a_start(between)
        for cut in range(CUTS):
            between.cut_after(size * cut // CUTS)
            restored = asyncio.get_running_loop().call_later(0.2, between.cut_after, None)
            async with process.opened(settings(between.dsn)) as (rt, _):
                restored.cancel()
                between.cut_after(None)
                assert await rt.db.ping(5)
