import asyncio

import asyncpg
import pytest

from aitp_cp.db.locks import LOG
from aitp_cp.db.migrations.run import upgrade
from aitp_cp.db.numbering import number_unsequenced
from tests.migrations import existing

pytestmark = pytest.mark.anyio

IN_TIME_ORDER = "SELECT array_agg(seq ORDER BY ts, id) FROM audit_events"
SWEEP_ONE = "DELETE FROM audit_events WHERE id = (SELECT id FROM audit_events WHERE seq IS NULL LIMIT 1)"


async def test_existing_events_are_numbered_by_time(existing_url: str, conn: asyncpg.Connection) -> None:
    await existing.add_events(conn, 25_000)
    steps: list[str] = []
    await upgrade(existing_url, on_step=steps.append)
    assert await conn.fetchval(IN_TIME_ORDER) == list(range(1, 25_013))
    assert [step for step in steps if "numbered" in step] == [f"{n} events numbered" for n in (10000, 20000, 25012)]


async def test_later_events_without_a_number_go_to_the_end(existing_url: str, conn: asyncpg.Connection) -> None:
    await upgrade(existing_url)
    await existing.add_events(conn, 30)
    assert [await number_unsequenced(conn, 20, adopt=True) for _ in range(3)] == [20, 10, 0]
    late = "SELECT array_agg(seq ORDER BY ts, id) FROM audit_events WHERE session_id LIKE 's%' AND seq > 12"
    assert await conn.fetchval(late) == list(range(13, 43))


async def test_an_event_that_is_being_deleted_is_not_waited_for(existing_url: str, conn: asyncpg.Connection) -> None:
    await upgrade(existing_url)
    await existing.add_events(conn, 5)
    sweeper = await asyncpg.connect(existing_url)
    async with sweeper.transaction():
        await sweeper.execute(SWEEP_ONE)
        assert await asyncio.wait_for(number_unsequenced(conn, 100, adopt=True), timeout=5) == 4
    await sweeper.close()
    assert await number_unsequenced(conn, 100, adopt=True) == 0


async def test_numbers_become_visible_in_order(existing_url: str, conn: asyncpg.Connection) -> None:
    """A writer that has its number but has not committed keeps later numbers from being given out."""
    await upgrade(existing_url)
    await existing.add_events(conn, 5)
    writer = await asyncpg.connect(existing_url)
    async with writer.transaction():
        await writer.fetchval("SELECT pg_advisory_xact_lock($1)", LOG.key)
        taken = await writer.fetchval("SELECT nextval('audit_events_seq')")
        adopting = asyncio.create_task(number_unsequenced(conn, 100, adopt=True))
        await asyncio.sleep(0.2)
        assert not adopting.done()
    assert await adopting == 5
    assert await writer.fetchval("SELECT min(seq) FROM audit_events WHERE seq > $1", taken) == taken + 1
    await writer.close()
