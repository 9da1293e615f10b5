"""A containment against what runs at the same moment: whichever commits second sees what the first did."""

import asyncio
from collections.abc import Coroutine
from typing import Any
from uuid import UUID

import pytest

from aitp_cp.audit.model import Actor
from aitp_cp.containment import acting, service
from aitp_cp.containment.model import NewContainment
from aitp_cp.db import Connection
from aitp_cp.db.locks import lock_agent
from aitp_cp.ingest import service as ingest
from aitp_cp.revocation import service as revocation
from aitp_cp.tcts import store as tcts
from tests.containment.support import REASON, claimed, contain, contained, live, path, release, report
from tests.ingest.support import normalised
from tests.revocation.support import get_list
from tests.support.agents import Agent, new_agent, sdk_manifest
from tests.support.app import App
from tests.support.enrolment import register, token_for
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

OPERATOR = Actor("apikey:operator", None)
WAITING = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = $1"


async def blocked(app: App, work: Coroutine[Any, Any, Any], lock: str = "advisory") -> "asyncio.Task[Any]":
    """Start work and return once it waits for a lock of that type."""
    task = asyncio.create_task(work)

    async def waits() -> bool:
        async with app.rt.db.connection() as conn:
            return bool(await conn.fetchval(WAITING, lock))

    await until(waits, 5)
    assert not task.done()
    return task


async def act(app: App, conn: Connection, agent: Agent) -> None:
    assert await service.contain(conn, agent.aid, NewContainment("held open"), OPERATOR, app.rt.clock())


async def test_a_registration_that_runs_ends_contained(app: App) -> None:
    bad = new_agent()
    body = sdk_manifest(bad)
    token = await token_for(app.http, body)
    async with app.rt.db.transaction() as conn:
        await act(app, conn, bad)
        registration = await blocked(app, register(app.http, body, token))
    response = await registration
    assert (response.status_code, response.json()["code"]) == (403, "AGENT_CONTAINED")


async def test_a_containment_waits_for_a_registration_that_runs(app: App) -> None:
    bad = new_agent()
    body = sdk_manifest(bad)
    token = await token_for(app.http, body)
    async with app.rt.db.transaction() as conn:
        # The registration waits for the log, holding its share of the agent's lock.
        await conn.execute("LOCK TABLE audit_events IN EXCLUSIVE MODE")
        registration = asyncio.create_task(register(app.http, body, token))

        async def holds() -> bool:
            async with app.rt.db.connection() as other:
                return bool(await other.fetchval(WAITING, "relation"))

        await until(holds, 5)
        act_ = await blocked(app, contain(app, bad))
    assert (await registration).status_code == 201
    assert (await act_).status_code == 201
    assert (await app.http.get(path(bad.aid))).json()["status"] == "contained"


async def test_a_token_of_a_report_that_runs_is_revoked(app: App) -> None:
    bad = new_agent()
    event = claimed(bad.aid, new_agent().aid)
    async with app.rt.db.transaction() as conn:
        await ingest.store_group(conn, normalised(event), app.rt.clock())
        waiting = await blocked(app, contain(app, bad))
    assert (await waiting).json()["tokens"]["issued"] == 1
    assert await live(app, bad) == []
    assert await get_list(app) == [event["payload"]["tct"]["jti"]]


async def test_a_report_during_a_containment_comes_later_and_others_do_not_wait(app: App) -> None:
    bad, peer = new_agent(), new_agent()
    event = claimed(bad.aid, peer.aid)
    async with app.rt.db.transaction() as conn:
        await lock_agent(conn, bad.aid)
        refused, other = await asyncio.gather(
            app.post("/api/events", [event]), app.post("/api/events", [claimed(peer.aid, new_agent().aid)])
        )
        assert (refused.status_code, refused.json()["code"]) == (503, "INGEST_BUSY")
        assert refused.headers["retry-after"] == "1"
        assert other.json()["inserted"] == 1
        await act(app, conn, bad)
    await report(app, event)
    assert await live(app, bad) == []


@pytest.mark.parametrize("attempts", [1, acting.MAX_ATTEMPTS])
async def test_one_that_deadlocks_with_a_report_runs_again(
    app: App, monkeypatch: pytest.MonkeyPatch, attempts: int
) -> None:
    """A report locks a token and then its entry of the deny list, a containment the other way round."""
    monkeypatch.setattr(acting, "MAX_ATTEMPTS", attempts)
    bad, peer = new_agent(), new_agent()
    [jti] = [UUID(jti) for jti in await report(app, claimed(bad.aid, peer.aid))]
    async with app.rt.db.connection() as conn:
        reporting: Any = conn.transaction()
        await reporting.start()
        await conn.execute("SET LOCAL deadlock_timeout = '60s'")  # so that the containment is the one to end
        await tcts.lock_tcts(conn, [jti])
        act_ = await blocked(app, contain(app, bad), "transactionid")
        await revocation.add(conn, {jti: (bad.aid, peer.aid)}, "reported", app.rt.clock())
        await reporting.rollback()
    response = await act_
    if attempts == 1:
        assert (response.status_code, response.json()["code"]) == (409, "CONFLICT")
        assert (await app.get("/api/containments")).json() == {"containments": []}
    else:
        assert response.status_code == 201
        assert await live(app, bad) == []


async def test_two_at_once_are_one(app: App) -> None:
    bad = new_agent()
    await report(app, claimed(bad.aid, new_agent().aid))
    responses = await asyncio.gather(*(contain(app, bad) for _ in range(4)))
    assert sorted(response.status_code for response in responses) == [200, 200, 200, 201]
    assert len({response.json()["containment"]["id"] for response in responses}) == 1
    assert len((await app.get("/api/containments")).json()["containments"]) == 1


async def test_against_a_release(app: App) -> None:
    bad = new_agent()
    first = await contained(app, bad)
    async with app.rt.db.transaction() as conn:
        await service.release(conn, bad.aid, "over", OPERATOR, app.rt.clock())
        again = await blocked(app, app.post(path(bad.aid, "contain"), REASON))
    response = await again
    assert response.status_code == 201
    assert response.json()["containment"]["id"] != first["containment"]["id"]
    await release(app, bad)
    async with app.rt.db.transaction() as conn:
        await act(app, conn, bad)
        ended = await blocked(app, release(app, bad))
    assert (await ended).status_code == 200
    assert (await app.get("/api/containments", params={"open": "true"})).json() == {"containments": []}


async def test_a_large_one_is_finished_by_the_job(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "AT_ONCE", 5)
    monkeypatch.setattr(service, "BATCH", 4)
    bad, peer, other = new_agent(), new_agent(), new_agent()
    many = await report(app, *(claimed(bad.aid, peer.aid) for _ in range(12)))
    [single] = await report(app, claimed(other.aid, bad.aid))
    plan = (await contain(app, bad, dry=True)).json()
    done = await contained(app, bad, expect=plan["planDigest"])
    assert done["remaining"] == plan["remaining"] == 8
    first = set(await get_list(app))
    assert len(first) == 5
    assert single in first, "peers take turns"
    busy = await release(app, bad)
    assert (busy.status_code, busy.json()["code"]) == (409, "CONFLICT")
    for left in (4, 0, 0):
        async with app.rt.db.transaction() as conn:
            await service.settle_next(conn, app.rt.clock())
        stored = (await app.get(f"/api/containments/{done['containment']['id']}")).json()
        assert stored["remaining"] == left

    async def all_are_listed() -> bool:  # what the process has not done itself follows within a second
        return set(await get_list(app)) == {*many, single}

    await until(all_are_listed)
    assert (await release(app, bad)).status_code == 200
