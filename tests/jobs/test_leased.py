"""The loop that works off a leased queue, and the batches of periodic jobs."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence

import pytest

from aitp_cp.db import Connection
from aitp_cp.db.locks import Lock
from aitp_cp.errors import DatabaseUnavailable
from aitp_cp.jobs import Done, LeasedLoop, in_batches, single_flight
from aitp_cp.runtime import Runtime
from tests.support.app import App, running_app

pytestmark = pytest.mark.anyio

LOCK = Lock(1, 4711)


class Squares(LeasedLoop[int, int]):
    """Works off a table of numbers: each is leased once, squared and recorded."""

    max_in_flight = 4

    def __init__(self, rt: Runtime) -> None:
        super().__init__(rt, "squares")
        self.most_in_flight = 0
        self.writes = 0
        self.failures: list[Exception] = []
        self.hold = asyncio.Event()
        self.hold.set()

    async def claim(self, conn: Connection, room: int) -> Sequence[int]:
        rows = await conn.fetch(
            "UPDATE numbers SET leased = leased + 1 WHERE n IN (SELECT n FROM numbers WHERE leased = 0 LIMIT $1"
            " FOR UPDATE SKIP LOCKED) RETURNING n",
            room,
        )
        return [row["n"] for row in rows]

    async def work(self, item: int) -> int:
        self.most_in_flight = max(self.most_in_flight, len(self.in_flight))
        await self.hold.wait()
        await asyncio.sleep(0.001 * (item % 3))
        if item == 13:
            raise ZeroDivisionError
        return item * item

    async def record(self, conn: Connection, done: Sequence[Done[int, int]]) -> None:
        if self.failures:
            raise self.failures.pop()
        self.writes += 1
        for item, square in done:
            await conn.execute("UPDATE numbers SET square = $2 WHERE n = $1", item, square)


@pytest.fixture
async def app(database_url: str) -> AsyncIterator[App]:
    async with running_app(database_url) as running:
        async with running.rt.db.transaction() as conn:
            await conn.execute("CREATE TABLE numbers (n int PRIMARY KEY, leased int DEFAULT 0, square int)")
            await conn.execute("INSERT INTO numbers SELECT generate_series(1, 300)")
        yield running
        async with running.rt.db.transaction() as conn:
            await conn.execute("DROP TABLE numbers")


async def recorded(app: App) -> set[int]:
    async with app.rt.db.connection() as conn:
        return {row["n"] for row in await conn.fetch("SELECT n FROM numbers WHERE square = n * n")}


async def test_every_item_is_leased_once_and_every_result_recorded(app: App) -> None:
    """Results also come while others are being written, and one item fails without hurting another."""
    loops = [Squares(app.rt), Squares(app.rt)]
    for loop in loops:
        loop.start()
    async with asyncio.timeout(20):
        while len(await recorded(app)) < 299:
            await asyncio.sleep(0.02)
    for loop in loops:
        await loop.stop()
    assert await recorded(app) == {*range(1, 301)} - {13}
    async with app.rt.db.connection() as conn:
        assert Counter(row["leased"] for row in await conn.fetch("SELECT leased FROM numbers")) == {1: 300}
    assert max(loop.most_in_flight for loop in loops) == Squares.max_in_flight


async def test_a_stop_claims_no_more_and_records_what_is_in_flight(app: App) -> None:
    loop = Squares(app.rt)
    loop.hold.clear()
    loop.start()
    async with asyncio.timeout(10):
        while len(loop.in_flight) < Squares.max_in_flight:
            await asyncio.sleep(0.005)
    asyncio.get_running_loop().call_later(0.2, loop.hold.set)
    await loop.stop()
    assert len(await recorded(app)) == Squares.max_in_flight


async def test_an_item_that_does_not_end_is_left_to_its_lease(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Squares, "drain_secs", 0.1)
    loop = Squares(app.rt)
    loop.hold.clear()
    loop.start()
    async with asyncio.timeout(10):
        while not loop.in_flight:
            await asyncio.sleep(0.005)
        await loop.stop()
    assert await recorded(app) == set()


async def test_results_wait_for_a_database_that_is_away(app: App) -> None:
    loop = Squares(app.rt)
    loop.failures = [DatabaseUnavailable(), DatabaseUnavailable()]
    await loop.run_due()
    assert len(await recorded(app)) == 299


async def test_batches_end_when_one_is_not_full_or_the_time_is_up(app: App) -> None:
    sizes = iter([3, 3, 2, 3])

    async def batch(conn: Connection) -> int:
        return next(sizes)

    await in_batches(app.rt, batch, size=3, secs=10)
    assert next(sizes) == 3
    endless = 0

    async def full(conn: Connection) -> int:
        nonlocal endless
        endless += 1
        await asyncio.sleep(0.05)
        return 3

    await in_batches(app.rt, full, size=3, secs=0.12)
    assert 1 <= endless <= 3


async def test_one_process_at_a_time_runs_a_batch(app: App) -> None:
    running, most = 0, 0

    async def batch(conn: Connection) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.1)
        running -= 1
        return 1

    guarded = single_flight(LOCK, batch)

    async def once() -> int:
        async with app.rt.db.transaction() as conn:
            return await guarded(conn)

    handled = await asyncio.gather(*(once() for _ in range(4)))
    assert (sorted(handled), most) == ([0, 0, 0, 1], 1)
