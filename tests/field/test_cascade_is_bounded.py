"""Whatever hangs below a token, revoking it is quick, and everything below is revoked in the end (rows 33 and A3)."""

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from random import Random
from typing import Any
from uuid import UUID, uuid4

import pytest

from aitp_cp.clock import now
from aitp_cp.db import Connection, Database
from aitp_cp.tcts import cascade, graph, service
from aitp_cp.tcts.jobs import settle
from aitp_cp.tcts.model import Budget
from tests.ingest.support import at, by_jti, normalised, project, report
from tests.revocation.support import ENTRIES, get_list
from tests.support.app import App, running_app
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

NOON = at("12:00")
TINY = Budget(rows=3, secs=1)

STAR = """
INSERT INTO delegations (jti, parent_jti, delegator_aid, delegatee_aid, issued_at)
SELECT gen_random_uuid(), $1, 'giver', 'taker', now() FROM generate_series(1, $2)
"""
CHAIN = """
INSERT INTO delegations (jti, parent_jti, delegator_aid, delegatee_aid, issued_at)
SELECT md5('hop' || n)::uuid, CASE n WHEN 1 THEN $1 ELSE md5('hop' || n - 1)::uuid END, 'giver', 'taker', now()
FROM generate_series(1, $2) AS n
"""
OPEN = "SELECT count(*) FROM delegations WHERE NOT revoked AND delegator_aid = 'giver'"


@pytest.fixture
async def db(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url, max_size=4)
    await database.open()
    yield database
    await database.close()


@pytest.fixture
async def app(database_url: str) -> AsyncIterator[App]:
    async with running_app(database_url) as running:
        yield running


def delegated(child: UUID, parent: UUID) -> dict[str, Any]:
    claims = {"jti": str(child), "parent_jti": str(parent), "iss": "giver", "sub": "taker"}
    return {"type": "delegation.issued", "ts": "2026-03-04T11:30:00Z", "payload": claims}


def revoked(jti: UUID, when: datetime) -> dict[str, Any]:
    return {"type": "tct.revoked", "ts": when.isoformat(), "payload": {"jti": str(jti)}}


class Story:
    """Delegations with wide nodes, long chains, several parents and cycles, among revocations at all times."""

    def __init__(self, seed: int) -> None:
        random = Random(seed)
        ids = [UUID(int=random.getrandbits(128)) for _ in range(120)]
        wide = ids[:2]
        self.parents: dict[UUID, set[UUID]] = {}
        self.steps: list[dict[str, Any]] = []
        self.since: dict[UUID, datetime] = {}
        for place, jti in enumerate(ids[1:], start=1):
            above = random.choice([random.choice(wide), ids[place - 1], random.choice(ids)])
            for parent in {above, *([random.choice(ids)] if random.random() < 0.1 else [])}:
                self.parents.setdefault(jti, set()).add(parent)
                self.steps.append(delegated(jti, parent))
        for jti in [*wide, *random.choices(ids, k=8)]:
            when = NOON + timedelta(minutes=random.randrange(60))
            self.since[jti] = min(when, self.since.get(jti, when))
            self.steps.append(revoked(jti, when))
        random.shuffle(self.steps)

    def expected(self) -> dict[str, tuple[datetime, str]]:
        since = dict(self.since)
        changed = True
        while changed:
            changed = False
            for child, parents in self.parents.items():
                for parent in parents & since.keys():
                    if child not in since or since[parent] < since[child]:
                        since[child], changed = since[parent], True
        own = self.since.keys()
        return {
            str(jti): (since[jti], "explicit" if jti in own else "parent_revoked")
            for jti in self.parents.keys() & since.keys()
        }


@pytest.mark.parametrize("seed", range(6))
async def test_small_batches_end_where_one_unbounded_cascade_would(
    db: Database, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Row 33: however little a transaction settles, and whatever is reported meanwhile, the rows come out the same."""
    for name in ("REPORTED", "LEFT_OVER"):
        monkeypatch.setattr(service, name, TINY)
    monkeypatch.setattr(cascade, "STEP_ROWS", 3)
    monkeypatch.setattr(cascade, "STEP_ITEMS", 2)
    story, random = Story(seed), Random(seed)
    async with db.connection() as conn:
        while story.steps:
            batch = [story.steps.pop() for _ in range(min(len(story.steps), random.randrange(1, 20)))]
            await committed(conn, batch)
            if random.random() < 0.5:
                await settle_one(conn)
        left = await conn.fetchval("SELECT count(*) FROM cascade_work")
        assert left > 0
        while await graph.has_work(conn):
            await settle_one(conn)
    rows = await by_jti(db, "delegations")
    found = {jti: (row["revoked_at"], row["revoked_reason"]) for jti, row in rows.items() if row["revoked"]}
    assert found == story.expected()


async def committed(conn: Connection, events: list[dict[str, Any]]) -> None:
    async with conn.transaction():
        await project(conn, normalised(*events))


async def settle_one(conn: Connection) -> None:
    async with conn.transaction():
        assert await service.settle_next(conn)


async def test_earlier_and_earlier_reports_do_not_keep_a_cascade_from_its_end(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row A3: a pass over the children ends although each report asks for a new one."""
    for name in ("REPORTED", "LEFT_OVER"):
        monkeypatch.setattr(service, name, Budget(rows=20, secs=1))
    root = uuid4()
    async with db.connection() as conn:
        await conn.execute(STAR, root, 200)
        for turn in range(16):
            await committed(conn, [revoked(root, NOON - timedelta(minutes=turn))])
            await settle_one(conn)
        assert await conn.fetchval(OPEN) == 0
        while await graph.has_work(conn):
            await settle_one(conn)
        times = await conn.fetch("SELECT DISTINCT revoked_at FROM delegations")
        assert [row["revoked_at"] for row in times] == [NOON - timedelta(minutes=15)]


@pytest.mark.parametrize("shape", [STAR, CHAIN], ids=["star", "chain"])
async def test_an_operator_never_waits_for_what_hangs_below_a_token(app: App, shape: str) -> None:
    """Row A3: 20,000 delegations, revoked by an operator: answered and listed at once, the rest follows."""
    root = uuid4()
    async with app.rt.db.connection() as conn:
        # Statistics that mislead: as if every delegation had one parent.
        await conn.execute(STAR, uuid4(), 5000)
        await conn.execute("ANALYZE delegations")
        await conn.execute("DELETE FROM delegations")
        await conn.execute(shape, root, 20_000)
    started = time.monotonic()
    response = await app.post(ENTRIES, {"jti": str(root)})
    assert (response.status_code, time.monotonic() - started < 1) == (201, True)
    await until(lambda: is_listed(app, root), 1)
    unrevoked = (await app.get("/api/delegations", params={"active": "true"})).json()["delegations"]
    assert {row["pendingCascade"] for row in unrevoked} == {True}
    ingest = asyncio.create_task(slowest_report(app))
    while await left(app):
        await settle(app.rt)
    assert await ingest < 5  # on a busy machine; bench.cascade measures a second with 60 times as many
    async with app.rt.db.connection() as conn:
        assert await conn.fetchval(OPEN) == 0
    rows = (await app.get("/api/delegations", params={"rootJti": str(root)})).json()["delegations"]
    assert {(row["revoked"], row["pendingCascade"]) for row in rows} == {(True, False)}


async def test_an_operator_does_not_wait_for_a_busy_graph(app: App) -> None:
    """Row A3: a revocation commits while the graph of tokens is locked, and takes effect afterwards."""
    root, child, grandchild = uuid4(), uuid4(), uuid4()
    await report(app, delegated(child, root), delegated(grandchild, child))
    async with app.rt.db.transaction() as conn:
        await project(conn, normalised(delegated(uuid4(), child)))
        started = time.monotonic()
        assert (await app.post(ENTRIES, {"jti": str(child)})).status_code == 201
        assert time.monotonic() - started < 1
        await until(lambda: is_listed(app, child), 1)
    await settle(app.rt)
    rows = (await app.get("/api/delegations", params={"rootJti": str(root)})).json()["delegations"]
    assert sorted(row["revokedReason"] for row in rows) == ["explicit", "parent_revoked", "parent_revoked"]


async def is_listed(app: App, jti: UUID) -> bool:
    return str(jti) in await get_list(app)


async def left(app: App) -> bool:
    async with app.rt.db.connection() as conn:
        return await graph.has_work(conn)


async def slowest_report(app: App) -> float:
    """Reports of others, one after the other, until the cascade has ended; how long the slowest took."""
    slowest = 0.0
    while await left(app):
        started = time.monotonic()
        other = delegated(uuid4(), uuid4()) | {"ts": now().isoformat()}
        other["payload"]["iss"] = "other"
        await report(app, other)
        slowest = max(slowest, time.monotonic() - started)
    return slowest
