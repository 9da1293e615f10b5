"""A group of reports into the tables: all of it, once, in a constant number of statements."""

import asyncio
from collections.abc import Iterable
from typing import Any
from uuid import UUID, uuid4

import pytest

from aitp_cp.clock import now
from aitp_cp.db import Connection, Database
from aitp_cp.ingest import service
from tests.ingest.support import by_jti, everything, normalised, only, store

pytestmark = pytest.mark.anyio


def story(number: int) -> list[dict[str, Any]]:
    """Every kind of report that projects anything, about things of their own."""
    token, hop = (str(UUID(int=2 * number + part)) for part in (1, 2))
    at = {"ts": 1_772_600_000 + number, "session_id": f"s-{number}", "aid_a": f"a-{number % 7}", "aid_b": "b"}
    tct = {"jti": token, "iss": "i", "sub": "s", "grants": ["g"]}
    delegation = {"jti": hop, "parent_jti": token, "iss": "s", "sub": "d"}
    return [
        {"type": "handshake.started", **at},
        {"type": "handshake.complete", **at, "payload": {"tct": tct}},
        {"type": "delegation.issued", **at, "payload": delegation},
        {"type": "tct.revoked", **at, "payload": {"jti": token}},
        {"type": "demo.event", **at},
    ]


def batch(numbers: Iterable[int]) -> list[dict[str, Any]]:
    return [event for number in numbers for event in story(number)]


async def statements(conn: Connection, events: list[dict[str, Any]]) -> int:
    """How many statements one group takes."""
    logged: list[str] = []
    watched: Any = conn
    with watched.query_logger(lambda record: logged.append(record.query)):
        await service.store_group(conn, normalised(*events), now())
    return len(logged)


async def test_the_number_of_statements_does_not_depend_on_the_number_of_events(db: Database) -> None:
    async with db.transaction() as conn:
        await statements(conn, batch(range(1)))  # the driver asks for types it has not seen yet
        few, many = [await statements(conn, batch(numbers)) for numbers in (range(1, 2), range(100, 180))]
        assert few == many <= 15
        assert await statements(conn, [{"type": "demo.event", "ts": 1_772_600_000}]) <= 5
    assert len(await by_jti(db, "delegations")) == 82


async def test_a_batch_sent_ten_times_at_once_is_stored_once(db: Database) -> None:
    events = batch(range(20))
    assert sum(await asyncio.gather(*(store(db, *events) for _ in range(10)))) == len(events)
    async with db.connection() as conn:
        before = await everything(conn)
        assert await conn.fetchval("SELECT count(*) FROM audit_events") == len(events)
    assert await store(db, *events) == 0
    async with db.connection() as conn:
        assert await everything(conn) == before
    assert all(row["revoked"] for row in (await by_jti(db, "issued_tcts")).values())


async def test_of_two_events_under_one_id_only_the_one_in_the_log_is_projected(db: Database) -> None:
    first, second = ({"type": "handshake.started", "id": "same", "session_id": name} for name in ("kept", "dropped"))
    assert await store(db, first, second) == 1
    assert await store(db, second) == 0
    assert (await only(db, "handshake_sessions"))["session_id"] == "kept"


async def test_what_is_rolled_back_leaves_nothing_behind(db: Database) -> None:
    async with db.connection() as conn:
        before = await everything(conn)
        undone: Any = conn.transaction()
        await undone.start()
        await service.store_group(conn, normalised(*story(1)), now())
        assert await everything(conn) != before
        await undone.rollback()
        assert await everything(conn) == before
        assert await conn.fetchval("SELECT count(*) FROM audit_events") == 0


async def test_hostile_payloads_are_stored_and_project_what_they_can(db: Database) -> None:
    jti = str(uuid4())
    payloads: list[Any] = [
        {"tct": {"jti": jti, "iss": "i" * 513, "sub": "s"}},
        {
            "tct": {
                "jti": jti,
                "iss": "i",
                "sub": "s",
                "exp": 10**400,
                "iat": -(10**30),
                "cnf": "c" * 200,
                "grants": [{}, 1],
            }
        },
        {"tct": {"claims": {"jti": {"a": 1}}, "token": 5}, "tcts": {"0": 1}},
        {"tcts": [[[]], None, "eyJ.eyJ.x"], "role": 7, "boundary": "b" * 4000, "error": {"deep": [[[[]]]]}},
        [],
        "text",
        7,
    ]
    kinds = ["handshake.complete", "handshake.failed", "delegation.issued", "delegation.revoked", "tct.revoked"]
    events = [{"type": kind, "session_id": "s", "payload": payload} for kind in kinds for payload in payloads]
    assert await store(db, *events) == len(events)
    token = await only(db, "issued_tcts")
    assert (str(token["jti"]), token["expires_at"], token["binding_cnf"], token["grants"]) == (jti, None, None, [])
    assert token["revoked"]
    assert (await only(db, "handshake_sessions"))["boundary"] is None
