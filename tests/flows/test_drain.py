"""Two replicas behind a round-robin proxy are restarted in turn under load, and nobody notices."""

import asyncio
import signal
import time
from contextlib import AsyncExitStack
from pathlib import Path

import asyncpg
import httpx
import pytest
from starlette.responses import Response

from aitp_cp.runtime import open_runtime
from aitp_cp.settings import load as load_settings
from aitp_cp.web.edge import Edge
from aitp_cp.web.endpoint import Endpoint, Gate
from aitp_cp.web.routing import Router
from aitp_cp.web.server import build_server
from tests.flows.balancer import Balancer, Listener, Load
from tests.support.app import AUTH, ENVIRONMENT
from tests.support.process import Process

pytestmark = pytest.mark.anyio

ROUNDS = 2
STREAMS = 12
PER_SECOND = 120
# In it the proxy must hear that a replica drains, and send on what it has promised it: a busy machine takes its time.
WINDOW_MS = "2500"
WINDOW_TO_LOOK_MS = "2500"
WINDOW_TO_CUT_MS = 15_000


async def restart(replica: Process, balancer: Balancer) -> int:
    """SIGTERM, the exit code, and the replica back behind the proxy."""
    code = await asyncio.to_thread(replica.terminate)
    await asyncio.to_thread(replica.start)
    await balancer.until(replica.port, ready=True)
    return code


async def test_replicas_restarted_in_turn_lose_no_request_and_no_event(database_url: str, tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        replicas = [
            stack.enter_context(
                Process(database_url, tmp_path / f"log{number}", DRAIN_WINDOW_MS=WINDOW_MS, LOG_LEVEL="warn")
            )
            for number in range(2)
        ]
        balancer = await stack.enter_async_context(Balancer([replica.port for replica in replicas]))
        for replica in replicas:
            await balancer.until(replica.port, ready=True)
        listeners = [await stack.enter_async_context(Listener(balancer.port)) for _ in range(STREAMS)]
        async with Load(balancer.port, PER_SECOND) as load:
            began = time.monotonic()
            codes = [await restart(replica, balancer) for _ in range(ROUNDS) for replica in replicas]
            await asyncio.sleep(0.5)
            took = time.monotonic() - began
        assert codes == [0] * (2 * ROUNDS)
        assert set(load.responses) == {"200"}, load.responses
        assert load.responses.total() > PER_SECOND / 2 * took

        conn = await asyncpg.connect(database_url)
        stored = [row[0] for row in await conn.fetch("SELECT seq FROM audit_events ORDER BY seq")]
        await conn.close()
        assert len(stored) == load.stored
        for listener in listeners:
            await listener.until(stored[-1])
            assert listener.seqs == stored
            assert set(listener.endings) == {"end"}, listener.endings  # each was told, none was cut
        assert sum(listener.connections for listener in listeners) > STREAMS * 2


async def test_a_request_that_outlasts_the_end_is_told_to_come_again(database_url: str) -> None:
    begun = asyncio.Event()

    async def endless(*_: object) -> Response:
        begun.set()
        await asyncio.Event().wait()
        raise AssertionError

    endpoint = Endpoint("GET /endless", endless, "", tag="", gate=Gate.OPEN, responses={200: None})

    settings = load_settings({**ENVIRONMENT, "DATABASE_URL": database_url}, command="serve")
    async with open_runtime(settings) as rt, httpx.AsyncClient() as http:
        edge = Edge(rt, Router(rt, [endpoint]))
        server = build_server(edge, host="127.0.0.1", port=0, drain=lambda: asyncio.sleep(0))
        server.config.timeout_graceful_shutdown = 0
        serving = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        asked = asyncio.create_task(http.get(f"http://127.0.0.1:{port}/endless"))
        await begun.wait()
        rt.draining = server.should_exit = True
        response = await asked
        await serving
    assert (response.status_code, response.json()["code"]) == (503, "SHUTTING_DOWN")
    assert response.headers["retry-after"] == "1"


def test_the_window_answers_and_says_that_it_closes(database_url: str, tmp_path: Path) -> None:
    with Process(database_url, tmp_path / "log", DRAIN_WINDOW_MS=WINDOW_TO_LOOK_MS) as server, httpx.Client() as http:
        assert "connection" not in http.get(f"{server.url}/api/health").headers
        server.running.send_signal(signal.SIGTERM)
        while (ready := http.get(f"{server.url}/api/readyz")).status_code == 200:
            time.sleep(0.01)
        assert (ready.status_code, ready.json()) == (503, {"ready": False, "reason": "shutting_down"})
        history = http.get(f"{server.url}/api/events/history", headers=AUTH)
        assert (history.status_code, history.headers["connection"]) == (200, "close")
        health = http.get(f"{server.url}/api/health")
        assert (health.status_code, health.json()["ok"]) == (200, True)
        assert server.running.wait(20) == 0
        assert "stopped" in server.log()


@pytest.mark.parametrize("arguments", [(), ("--workers", "2")])
def test_a_second_signal_exits_at_once(database_url: str, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    with Process(database_url, tmp_path / "log", *arguments, DRAIN_WINDOW_MS=str(WINDOW_TO_CUT_MS)) as server:
        server.running.send_signal(signal.SIGTERM)
        while httpx.get(f"{server.url}/api/readyz").status_code == 200:
            time.sleep(0.02)
        began = time.monotonic()
        assert server.terminate() == 128 + signal.SIGTERM
        assert time.monotonic() - began < WINDOW_TO_CUT_MS / 2000
