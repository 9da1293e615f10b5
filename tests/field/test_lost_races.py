"""A write that loses a race is told so, and loses nothing (contract, part II, sections 2 and 16)."""

import asyncio

import asyncpg
import pytest

from aitp_cp.db import Database
from aitp_cp.errors import Conflict, ShuttingDown
from aitp_cp.idempotency.model import ApiResponse, Once
from aitp_cp.idempotency.service import run_once
from tests.support.app import running_app

pytestmark = pytest.mark.anyio


async def test_the_loser_of_a_deadlock_gets_conflict(database_url: str) -> None:
    """It was 503 `DATABASE_UNAVAILABLE`, though the database was well."""
    async with running_app(database_url) as app:
        barrier = asyncio.Barrier(2)

        async def lock(first: int, second: int) -> None:
            async with app.rt.db.transaction() as conn:
                await conn.execute("SELECT pg_advisory_xact_lock($1)", first)
                await barrier.wait()
                await conn.execute("SELECT pg_advisory_xact_lock($1)", second)

        outcomes = await asyncio.gather(lock(1, 2), lock(2, 1), return_exceptions=True)
        assert [type(outcome) for outcome in outcomes if outcome is not None] == [Conflict]


async def test_a_conflict_is_never_stored(database_url: str) -> None:
    """A replay of it would be refused for as long as the idempotency row lives."""
    tries = 0

    async def effect(conn: object) -> ApiResponse:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise Conflict
        return ApiResponse(201, {"done": True})

    async with running_app(database_url) as app:
        once = Once(("test", "key"), b"\0" * 32)
        with pytest.raises(Conflict):
            await run_once(app.rt.db, once, effect, app.rt.clock())
        response = await run_once(app.rt.db, once, effect, app.rt.clock())
        assert (response.status, response.replayed) == (201, False)


async def test_a_closed_pool_is_a_process_that_stops(database_url: str) -> None:
    """`DATABASE_UNAVAILABLE` means the database only."""
    db = Database(database_url, max_size=2)
    await db.open()
    await db.close()
    with pytest.raises(ShuttingDown):
        async with db.connection():
            raise AssertionError
    probe = await asyncpg.connect(database_url)  # the database itself is there
    await probe.close()
