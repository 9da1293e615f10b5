"""Crowds of agents at the door, and a process that dies among them (contract, section 8)."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import asyncpg
import pytest

from tests.support.agents import Agent, compact, manifest, new_agent
from tests.support.app import AUTH
from tests.support.enrolment import bearer
from tests.support.postgres import migrated_database
from tests.support.process import Process

pytestmark = pytest.mark.anyio

CROWD = 200
NOW = int(time.time())


@pytest.fixture(scope="module")
def dsn() -> Iterator[str]:
    with migrated_database() as url:
        yield url


@pytest.fixture(scope="module")
def server(dsn: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    with Process(dsn, tmp_path_factory.mktemp("enrolment") / "log", LOG_LEVEL="warn") as process:
        yield process
        assert "Traceback" not in process.log()
        assert "deadlock" not in process.log()


class Received(NamedTuple):
    status: int
    said: dict[str, Any]

    @property
    def outcome(self) -> tuple[int, str]:
        return self.status, self.said.get("code", "")


class Client:
    """Asks as many things at once as it is told to."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def ask(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Received:
        async with self._session.request(method, path, data=body, headers=headers) as response:
            return Received(response.status, await response.json())

    async def token(self, body: bytes) -> str:
        return str((await self.ask("POST", "/api/registry/enroll", body)).said["token"])

    async def register(self, body: bytes, token: str | None = None) -> Received:
        token = token or await self.token(body)
        return await self.ask("POST", "/api/registry/agents", body, bearer(token))

    async def listed(self) -> set[str]:
        agents = (await self.ask("GET", "/api/registry/agents?limit=1000")).said["agents"]
        return {entry["aid"] for entry in agents}


@asynccontextmanager
async def client(server: Process) -> AsyncIterator[Client]:
    async with aiohttp.ClientSession(server.url, connector=aiohttp.TCPConnector(limit=0)) as session:
        yield Client(session)


@asynccontextmanager
async def database(dsn: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    conn = await asyncpg.connect(dsn)
    try:
        yield conn
    finally:
        await conn.close()


async def rows_of(dsn: str, aids: list[str]) -> tuple[int, int, int]:
    """How many agents, registration events and registration audit rows there are of these agents."""
    async with database(dsn) as conn:
        row = await conn.fetchrow(
            "SELECT (SELECT count(*) FROM agents WHERE aid = ANY($1)),"
            " (SELECT count(*) FROM audit_events WHERE type = 'agent.registered' AND aid_a = ANY($1)),"
            " (SELECT count(*) FROM admin_audit_log WHERE action = 'agent.register' AND target_id = ANY($1))",
            aids,
        )
    assert row is not None
    return row[0], row[1], row[2]


def outcomes(responses: list[Received]) -> Counter[tuple[int, str]]:
    return Counter(response.outcome for response in responses)


async def test_two_hundred_agents_at_once(server: Process, dsn: str) -> None:
    agents = [new_agent("p256" if number % 10 == 0 else "ed25519") for number in range(CROWD)]
    async with client(server) as http:
        responses = await asyncio.gather(*(http.register(manifest(agent)) for agent in agents))
        assert outcomes(responses) == {(201, ""): CROWD}
        assert await rows_of(dsn, [agent.aid for agent in agents]) == (CROWD, CROWD, CROWD)
        assert {agent.aid for agent in agents} <= await http.listed()


async def test_one_agent_two_hundred_times_at_once(server: Process, dsn: str) -> None:
    agent = new_agent()
    body = manifest(agent)
    async with client(server) as http:
        responses = await asyncio.gather(*(http.register(body) for _ in range(CROWD)))
        assert outcomes(responses) == {(201, ""): CROWD}
        assert len({response.said["registeredAt"] for response in responses}) == 1
    assert await rows_of(dsn, [agent.aid]) == (1, 1, CROWD)


async def test_one_token_fifty_times_at_once(server: Process, dsn: str) -> None:
    agent = new_agent()
    body = manifest(agent)
    async with client(server) as http:
        token = await http.token(body)
        responses = await asyncio.gather(*(http.register(body, token) for _ in range(50)))
    assert outcomes(responses) == {(201, ""): 1, (401, "TOKEN_REPLAYED"): 49}
    assert await rows_of(dsn, [agent.aid]) == (1, 1, 1)


async def test_many_manifests_of_few_agents_at_once_leave_the_newest(server: Process, dsn: str) -> None:
    agents = [new_agent() for _ in range(10)]
    bodies = [manifest(agent, published_at=NOW - age) for age in range(20) for agent in agents]
    async with client(server) as http:
        responses = await asyncio.gather(*(http.register(body) for body in bodies))
        assert set(outcomes(responses)) <= {(201, ""), (409, "MANIFEST_STALE")}
        for agent in agents:
            stored = await http.ask("GET", f"/api/registry/agents/{agent.aid}/manifest")
            assert stored.said["manifest"]["published_at"] == NOW
    accepted = outcomes(responses)[(201, "")]
    assert await rows_of(dsn, [agent.aid for agent in agents]) == (10, accepted, accepted)


async def test_everything_that_writes_an_agent_at_once(server: Process) -> None:
    """Registrations, removals and reports lock the same rows and the same log: in one order, so none waits for ever."""
    agents = [new_agent() for _ in range(12)]

    async def come_and_go(http: Client, agent: Agent) -> set[int]:
        met = set()
        for number in range(6):
            met.add((await http.register(manifest(agent, published_at=NOW - 100 + number))).status)
            met.add((await http.ask("DELETE", f"/api/registry/agents/{agent.aid}", headers=AUTH)).status)
        return met

    async def report(http: Client, start: int) -> set[int]:
        met = set()
        for shift in range(12):
            order = [agents[(start * 5 + shift + step) % 12] for step in range(12)]
            batch = [{"type": "tick", "aid_a": a.aid, "aid_b": b.aid} for a, b in pairwise(order)]
            key = {"Idempotency-Key": f"{start}-{shift}"} if shift % 2 else {}
            met.add((await http.ask("POST", "/api/events", compact(batch), headers=AUTH | key)).status)
        return met

    async with client(server) as http:
        met = await asyncio.gather(
            *(come_and_go(http, agent) for agent in agents), *(report(http, start) for start in range(8))
        )
    assert set().union(*met) <= {200, 201, 404, 409}


async def test_a_process_killed_among_registrations_loses_and_invents_nothing(
    database_url: str, tmp_path: Path
) -> None:
    received: set[str] = set()

    async def keep_registering(http: Client) -> None:
        with suppress(aiohttp.ClientError):
            while True:
                response = await http.register(manifest(new_agent()))
                assert response.status == 201
                received.add(response.said["aid"])

    with Process(database_url, tmp_path / "log", LOG_LEVEL="warn") as server:
        for round in range(1, 3):
            async with client(server) as http:
                crowd = [asyncio.create_task(keep_registering(http)) for _ in range(16)]
                while len(received) < round * 60:
                    await asyncio.sleep(0.005)
                server.kill()
                await asyncio.gather(*crowd)
            server.start()
        async with client(server) as http:
            received.add((await http.register(manifest(new_agent()))).said["aid"])
            present = await http.listed()
    assert received <= present
    async with database(database_url) as conn:
        registered = await conn.fetch("SELECT aid_a FROM audit_events WHERE type = 'agent.registered'")
        audited = await conn.fetch("SELECT target_id FROM admin_audit_log WHERE action = 'agent.register'")
        spent = await conn.fetchval("SELECT count(*) FROM enrollment_jtis")
    assert sorted(row[0] for row in registered) == sorted(row[0] for row in audited) == sorted(present)
    assert spent == len(present)
