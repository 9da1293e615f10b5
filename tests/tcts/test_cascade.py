"""How far a revocation reaches, whatever was reported first."""

from datetime import datetime, timedelta
from itertools import permutations
from random import Random
from typing import Any
from uuid import UUID

import pytest

from aitp_cp.db import Connection, Database
from aitp_cp.tcts import graph, service
from tests.ingest.support import at, by_jti, normalised, only, project, store, store_each

pytestmark = pytest.mark.anyio

NOON = at("12:00")


def uid(number: int) -> UUID:
    return UUID(int=number + 1)


def issued(number: int) -> dict[str, Any]:
    claims = {"jti": str(uid(number)), "iss": "issuer", "sub": "holder"}
    return {"type": "tct.issued", "ts": "2026-03-04T11:00:00Z", "payload": {"tct": claims}}


def delegated(number: int, parent: int) -> dict[str, Any]:
    claims = {"jti": str(uid(number)), "parent_jti": str(uid(parent)), "iss": "giver", "sub": "taker"}
    return {"type": "delegation.issued", "ts": "2026-03-04T11:30:00Z", "payload": claims}


def revoked(number: int, kind: str = "tct", when: datetime = NOON) -> dict[str, Any]:
    return {"type": f"{kind}.revoked", "ts": when.isoformat(), "payload": {"jti": str(uid(number))}}


async def reasons(db: Database) -> dict[int, str | None]:
    found = await by_jti(db, "delegations")
    return {UUID(jti).int - 1: row["revoked_reason"] for jti, row in found.items()}


async def deny(conn: Connection, number: int, when: datetime) -> None:
    await conn.execute("INSERT INTO revocation_entries (jti, revoked_at) VALUES ($1, $2)", uid(number), when)
    await service.revoke(conn, {uid(number): when})


async def test_revoked_before_issued_in_every_order(db: Database) -> None:
    for run, order in enumerate(permutations(range(4))):
        base = 10 * run
        story = [issued(base), delegated(base + 1, base), delegated(base + 2, base + 1), revoked(base)]
        await store_each(db, (story[step] for step in order))
    for row in (await by_jti(db, "issued_tcts")).values():
        assert (row["revoked"], row["revoked_at"]) == (True, NOON)
    for row in (await by_jti(db, "delegations")).values():
        assert (row["revoked"], row["revoked_at"], row["revoked_reason"]) == (True, NOON, "parent_revoked")


@pytest.mark.parametrize("kind", ["tct", "delegation"])
async def test_revoking_a_delegation_spares_its_ancestors_and_siblings(db: Database, kind: str) -> None:
    await store(db, issued(0), delegated(1, 0), delegated(2, 1), delegated(3, 1), delegated(4, 2), revoked(2, kind))
    assert await reasons(db) == {1: None, 2: "explicit", 3: None, 4: "parent_revoked"}
    assert not (await only(db, "issued_tcts"))["revoked"]


async def test_a_revoked_delegation_does_not_revoke_a_token(db: Database) -> None:
    await store(db, issued(0), delegated(1, 0), revoked(0, "delegation"))
    assert not (await only(db, "issued_tcts"))["revoked"]
    assert await reasons(db) == {1: "parent_revoked"}


async def test_a_deep_chain_with_branches_is_revoked_to_its_ends(db: Database) -> None:
    chain = [delegated(number, number - 1) for number in range(1, 31)]
    branches = [delegated(100 + number, number) for number in range(1, 31)]
    events = [*chain, *branches, issued(0)]
    Random(7).shuffle(events)
    await store(db, *events)
    await store(db, revoked(10))
    found = await reasons(db)
    expected = dict.fromkeys((*range(11, 31), *range(110, 131)), "parent_revoked") | {10: "explicit"}
    assert {number: reason for number, reason in found.items() if reason} == expected
    assert len(found) == 60


async def test_the_earliest_revocation_above_counts(db: Database) -> None:
    later, earlier = NOON + timedelta(minutes=5), NOON - timedelta(minutes=5)
    await store(db, issued(0), delegated(1, 0), delegated(2, 1), delegated(3, 2), revoked(1, when=NOON))
    await store(db, revoked(2, when=later))
    await store(db, revoked(0, when=earlier))
    rows = (await by_jti(db, "delegations")).values()
    assert {row["revoked_at"] for row in rows} == {earlier}
    assert await reasons(db) == {1: "explicit", 2: "explicit", 3: "parent_revoked"}


async def test_a_forged_cycle_ends(db: Database) -> None:
    await store(db, delegated(1, 3), delegated(2, 1), delegated(3, 2), delegated(4, 4), delegated(5, 3))
    await store(db, revoked(2), revoked(4))
    assert await reasons(db) == {
        1: "parent_revoked",
        2: "explicit",
        3: "parent_revoked",
        4: "explicit",
        5: "parent_revoked",
    }


async def test_a_delegation_is_revoked_through_any_parent_it_was_ever_reported_with(db: Database) -> None:
    for run, order in enumerate(permutations(range(4))):
        base = 10 * run
        story = [
            delegated(base + 2, base + 8),
            delegated(base + 2, base + 9),
            delegated(base + 3, base + 2),
            revoked(base + 8 + run % 2),
        ]
        await store_each(db, (story[step] for step in order))
    found = await by_jti(db, "delegations")
    assert {row["revoked_reason"] for row in found.values()} == {"parent_revoked"}
    assert {found[str(uid(10 * run + 2))]["parent_jti"].int % 10 for run in range(24)} == {uid(8).int % 10}


async def test_a_revocation_far_above_reaches_every_reported_parent(db: Database) -> None:
    for base, parents in ((0, (8, 9)), (10, (9, 8))):
        both = [delegated(base + 2, base + parent) for parent in parents]
        await store_each(db, [*both, delegated(base + 3, base + 2), delegated(base + 9, base + 7)])
        await store(db, revoked(base + 7))
    assert {row["revoked_reason"] for row in (await by_jti(db, "delegations")).values()} == {"parent_revoked"}


@pytest.mark.parametrize("first", ["entry", "reports"])
async def test_an_entry_of_the_deny_list_works_like_a_reported_revocation(db: Database, first: str) -> None:
    events = [issued(0), delegated(1, 0), delegated(2, 1)]
    if first == "reports":
        await store(db, *events)
    async with db.transaction() as conn:
        await deny(conn, 0, NOON)
    if first == "entry":
        await store_each(db, reversed(events))
    assert (await only(db, "issued_tcts"))["revoked_at"] == NOON
    assert await reasons(db) == {1: "parent_revoked", 2: "parent_revoked"}
    async with db.connection() as conn:
        assert await conn.fetchval("SELECT count(*) FROM revoked_reports") == 0
    async with db.transaction() as conn:
        await deny(conn, 1, NOON + timedelta(minutes=1))
    assert await reasons(db) == {1: "explicit", 2: "parent_revoked"}


async def test_what_an_older_control_plane_revoked_stays_so_and_reaches_new_children(db: Database) -> None:
    await store(db, issued(0), delegated(1, 0))
    async with db.connection() as conn:
        await conn.execute("UPDATE issued_tcts SET revoked = true, revoked_at = $1", NOON)
        await conn.execute("UPDATE delegations SET revoked = true")
    await store(db, delegated(2, 0), delegated(3, 1))
    found = await by_jti(db, "delegations")
    assert found[str(uid(2))]["revoked_at"] == NOON
    assert found[str(uid(3))]["revoked_reason"] == "parent_revoked"


async def test_a_long_chain_revoked_link_by_link_in_one_batch_stays_quick(db: Database) -> None:
    length = 2000
    for start in range(1, length, 500):
        await store(db, *(delegated(number, number - 1) for number in range(start, start + 500)))
    later = (NOON + timedelta(seconds=number) for number in range(length))
    async with db.transaction() as conn:
        await conn.execute("SET LOCAL statement_timeout = '2s'")
        await project(conn, normalised(*(revoked(number, when=next(later)) for number in range(1, 500))))
        while await graph.has_work(conn):  # what the batch left to the job
            assert await service.settle_next(conn)
    found = await by_jti(db, "delegations")
    assert {row["revoked_at"] for row in found.values()} == {NOON}
