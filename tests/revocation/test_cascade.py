"""Revoking a token or a delegation takes everything delegated from it, exactly that, once."""

from collections.abc import Sequence
from contextlib import suppress
from uuid import UUID, uuid4

import pytest

from aitp_cp.audit.model import Actor
from aitp_cp.db import Connection
from aitp_cp.revocation import service
from aitp_cp.revocation.model import Request, Revocation
from tests.revocation.support import ENTRIES
from tests.support.app import App

pytestmark = pytest.mark.anyio

CHAIN = 30


class Undo(Exception):
    pass


class Forest:
    """A token, a chain of 30 delegations under it, a branch of three at every fifth, and a forged cycle beside."""

    def __init__(self) -> None:
        self.root = uuid4()
        self.parents: dict[UUID, UUID] = {}
        parent = self.root
        for number in range(CHAIN):
            parent = self.add(parent)
            if number % 5 == 0:
                self.add(self.add(self.add(parent)))
        first, second, third = uuid4(), uuid4(), uuid4()
        self.parents |= {first: third, second: first, third: second}
        self.cycle = {first, second, third}
        self.add(self.add(first))

    def add(self, parent: UUID) -> UUID:
        jti = uuid4()
        self.parents[jti] = parent
        return jti

    def descendants(self, jti: UUID) -> set[UUID]:
        found: set[UUID] = set()
        waiting = [jti]
        while waiting:
            above = waiting.pop()
            fresh = {child for child, parent in self.parents.items() if parent == above} - found
            found |= fresh
            waiting += fresh
        return found

    async def store(self, conn: Connection) -> None:
        await conn.execute(
            "INSERT INTO issued_tcts (jti, issuer_aid, subject_aid, audience_aid, issued_at)"
            " VALUES ($1, 'issuer', 'subject', 'subject', now())",
            self.root,
        )
        await conn.execute(
            "INSERT INTO delegations (jti, parent_jti, delegator_aid, delegatee_aid, issued_at)"
            " SELECT jti, parent, 'a', 'b', now() FROM unnest($1::uuid[], $2::uuid[]) AS new (jti, parent)",
            list(self.parents),
            list(self.parents.values()),
        )


async def revoked(conn: Connection) -> dict[UUID, str]:
    rows = await conn.fetch("SELECT jti, revoked_reason FROM delegations WHERE revoked AND revoked_at IS NOT NULL")
    return {row["jti"]: row["revoked_reason"] for row in rows}


async def test_revoking_any_node_revokes_exactly_its_descendants(app: App) -> None:
    forest = Forest()
    async with app.rt.db.connection() as conn:
        await forest.store(conn)
    for node in (forest.root, *forest.parents):
        with suppress(Undo):
            async with app.rt.db.transaction() as conn:
                request = Request([Revocation(node, app.clock(), "why")], Actor("tester", None), bulk=False)
                [outcome] = await service.revoke(conn, [request], app.clock())
                assert outcome.seq is not None
                expected = dict.fromkeys(forest.descendants(node), "parent_revoked")
                if node != forest.root:
                    expected[node] = "explicit"
                assert await revoked(conn) == expected
                assert await conn.fetchval("SELECT revoked FROM issued_tcts") == (node == forest.root)
                raise Undo


async def test_the_cascade_is_one_event(app: App) -> None:
    forest = Forest()
    async with app.rt.db.connection() as conn:
        await forest.store(conn)
    nodes: Sequence[UUID] = (next(iter(forest.parents)), forest.root, next(iter(forest.cycle)))
    for node in nodes:
        assert (await app.post(ENTRIES, {"jti": str(node)})).status_code == 201
    events = (await app.get("/api/events/history", params={"type": "tct.revoked"})).json()["events"]
    assert [event["payload"]["jti"] for event in events] == [str(node) for node in reversed(nodes)]
    async with app.rt.db.connection() as conn:
        assert set(await revoked(conn)) == set(forest.parents)
