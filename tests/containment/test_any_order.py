"""Reports, containments, releases, registrations, expiry and retention in any order, on two replicas."""

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack
from datetime import timedelta
from time import time

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from aitp_cp.registry import service as registry
from aitp_cp.retention import service as retention
from tests.containment.support import claimed, contain, live, path, proven, release, report, signed
from tests.support.agents import Agent, manifest, new_agent
from tests.support.app import App, running_app
from tests.support.enrolment import register

LEAVE = "UPDATE agents SET deregistered_at = now() - interval '9000 days' WHERE deregistered_at IS NOT NULL"
STEPS = ("claim", "prove", "contain", "contain verified", "release", "register", "deregister", "expire", "sweep")


class Replicas:
    """Two applications on one database; each step runs on either."""

    def __init__(self, runner: asyncio.Runner, apps: tuple[App, App]) -> None:
        self.runner = runner
        self.apps = apps

    def play(self, steps: list[tuple[str, int]]) -> None:
        self.runner.run(self._play(steps))

    async def _play(self, steps: list[tuple[str, int]]) -> None:
        bad, peer = new_agent(), new_agent()
        contained = False
        acts = 0
        for name, replica in steps:
            app = self.apps[replica]
            if name.startswith("contain"):
                response = await contain(app, bad, include="verified" if "verified" in name else "all")
                assert response.status_code == (200 if contained else 201)
                acts, contained = acts + (not contained), True
            elif name == "release":
                assert (await release(app, bad)).status_code == (200 if contained else 409)
                contained = False
            elif name == "register":
                assert not (await self._registers(app, bad) and contained)
            else:
                await self._disturb(app, name, bad, peer)
            await self._look(bad, contained=contained, acts=acts)

    async def _disturb(self, app: App, name: str, bad: Agent, peer: Agent) -> None:
        if name == "claim":
            await report(app, claimed(bad.aid, peer.aid))
        elif name == "prove":
            await report(app, proven(signed(peer, bad)))
        elif name == "deregister":
            await app.delete(path(bad.aid))
        else:
            async with app.rt.db.transaction() as conn:
                if name == "expire":
                    await registry.expire_due(conn, app.rt.clock() + timedelta(days=3))
                else:
                    await conn.execute(LEAVE)
                    await retention.sweep(conn, app.rt.settings, app.rt.clock())

    async def _registers(self, app: App, agent: Agent) -> bool:
        body = manifest(agent, published_at=int(time()))
        enrolled = await app.http.post("/api/registry/enroll", content=body)
        if enrolled.status_code == 403:
            return False
        return (await register(app.http, body, enrolled.json()["token"])).status_code == 201

    async def _look(self, bad: Agent, *, contained: bool, acts: int) -> None:
        for app in self.apps:
            rows = (await app.get("/api/containments", params={"aid": bad.aid})).json()["containments"]
            assert len(rows) == acts
            assert sum(row["releasedAt"] is None for row in rows) == contained
        left = await live(self.apps[0], bad)
        if contained and "all" in {row["include"] for row in rows if row["releasedAt"] is None}:
            assert left == []
        listed = await self.apps[0].get("/api/registry/agents", params={"aid": bad.aid, "status": "all"})
        assert all((agent["status"] == "contained") == contained for agent in listed.json()["agents"])


@pytest.fixture
def replicas(database_url: str) -> Iterator[Replicas]:
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        apps = [runner.run(stack.enter_async_context(running_app(database_url))) for _ in range(2)]
        yield Replicas(runner, (apps[0], apps[1]))
        runner.run(stack.aclose())


STORY = (
    "claim",
    "contain",
    "claim",
    "prove",
    "register",
    "deregister",
    "sweep",
    "prove",
    "release",
    "register",
    "claim",
    "contain verified",
    "expire",
    "prove",
    "release",
    "contain",
)


@example([(name, place % 2) for place, name in enumerate(STORY)])
@settings(max_examples=4, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 1)), min_size=6, max_size=10))
def test_no_order_leaves_a_live_token_or_loses_a_containment(replicas: Replicas, steps: list[tuple[str, int]]) -> None:
    replicas.play(steps)
