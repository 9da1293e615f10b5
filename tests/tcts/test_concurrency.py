"""Two transactions at once: one adds to the graph of tokens while the other revokes in it."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any
from uuid import UUID

import pytest

from aitp_cp.db import Connection, Database
from tests.ingest.support import by_jti, normalised, only, project, store
from tests.tcts.test_cascade import NOON, delegated, deny, issued, reasons, revoked

pytestmark = pytest.mark.anyio

Write = Callable[[Connection], Awaitable[Any]]


def reports(*events: dict[str, Any]) -> Write:
    return lambda conn: project(conn, normalised(*events))


async def side_by_side(db: Database, first: Write, second: Write) -> None:
    """`second` starts while `first` is done but not yet committed."""
    async with AsyncExitStack() as stack:
        mine = await stack.enter_async_context(db.connection())
        theirs = await stack.enter_async_context(db.connection())
        async with mine.transaction():
            await first(mine)
            waiting = asyncio.create_task(committed(theirs, second))
            await asyncio.sleep(0.1)
        await waiting


async def committed(conn: Connection, write: Write) -> None:
    async with conn.transaction():
        await write(conn)


@pytest.mark.parametrize(
    "revocation", [reports(revoked(0)), lambda conn: deny(conn, 0, NOON)], ids=["reported", "entry"]
)
@pytest.mark.parametrize("revocation_first", [True, False])
async def test_a_child_added_beside_the_revocation_of_its_parent(
    db: Database, revocation: Write, revocation_first: bool
) -> None:
    await store(db, issued(0))
    child = reports(delegated(1, 0))
    await side_by_side(db, *((revocation, child) if revocation_first else (child, revocation)))
    assert await reasons(db) == {1: "parent_revoked"}


@pytest.mark.parametrize(
    "revocation", [reports(revoked(0)), lambda conn: deny(conn, 0, NOON)], ids=["reported", "entry"]
)
@pytest.mark.parametrize("revocation_first", [True, False])
async def test_a_token_reported_beside_its_revocation(db: Database, revocation: Write, revocation_first: bool) -> None:
    token = reports(issued(0))
    await side_by_side(db, *((revocation, token) if revocation_first else (token, revocation)))
    assert (await only(db, "issued_tcts"))["revoked"]


@pytest.mark.parametrize("numbers", [(1, 2), (2, 1)])
async def test_two_hops_of_a_revoked_chain_added_side_by_side(db: Database, numbers: tuple[int, int]) -> None:
    await store(db, issued(0), revoked(0))
    first, second = (reports(delegated(number, number - 1)) for number in numbers)
    await side_by_side(db, first, second)
    assert await reasons(db) == {1: "parent_revoked", 2: "parent_revoked"}


async def test_tokens_alone_do_not_wait_for_each_other(db: Database) -> None:
    async with db.transaction() as mine, db.transaction() as theirs:
        await project(mine, normalised(issued(0)))
        async with asyncio.timeout(4):  # before a lock times out
            await project(theirs, normalised(issued(1)))
    assert len(await by_jti(db, "issued_tcts")) == 2


async def test_many_writers_of_the_same_rows_end_where_one_would(db: Database) -> None:
    sessions = [
        {"type": kind, "ts": 1_772_600_000 + number, "session_id": f"s-{number % 5}", "run_id": f"r-{number % 3}"}
        for number, kind in enumerate(["handshake.started", "handshake.failed", "handshake.complete"] * 10)
    ]
    tokens = [issued(number % 4) for number in range(12)] + [delegated(10 + number, number % 6) for number in range(12)]
    events = [*sessions, *tokens, revoked(1), revoked(12, "delegation")]
    batches = [events[start::4] for start in range(4)] + [events[::-1], events]
    await asyncio.gather(*(store(db, *batch) for batch in batches))
    assert {row["revoked_reason"] for row in (await by_jti(db, "delegations")).values()} == {
        "explicit",
        "parent_revoked",
        None,
    }
    tokens_found = await by_jti(db, "issued_tcts")
    assert [jti for jti, row in tokens_found.items() if row["revoked"]] == [str(UUID(int=2))]
    async with db.connection() as conn:
        assert await conn.fetchval("SELECT count(*) FROM handshake_sessions WHERE status = 'complete'") == 5
