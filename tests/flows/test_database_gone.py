"""The database stops for a few seconds under load: clear refusals meanwhile, and everything resumes."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest

from aitp_cp.app import open_app
from aitp_cp.events.stream import end_streams
from aitp_cp.jobs import Job, Runner
from aitp_cp.runtime import Runtime, open_runtime
from aitp_cp.settings import load as load_settings
from aitp_cp.web.server import build_server
from tests.flows.balancer import Listener, Load
from tests.support.app import ENVIRONMENT
from tests.support.proxy import Proxy
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

PER_SECOND = 60
GONE_SECS = 4.0
RECOVERY_SECS = 3.0
PATIENCE = 15.0
REFUSED = "503 DATABASE_UNAVAILABLE with Retry-After"
TICK = "test.tick"
JOB = "aitp_control_plane_job_last_success_timestamp_seconds"


async def tick(rt: Runtime) -> None:
    async with rt.db.connection() as conn:
        await conn.fetchval("SELECT 1")


@asynccontextmanager
async def served(dsn: str) -> AsyncIterator[tuple[Runtime, int]]:
    """The application with a job, on a port of this process."""
    async with open_runtime(load_settings({**ENVIRONMENT, "DATABASE_URL": dsn}, command="serve")) as rt:
        runner = Runner(rt, [Job(TICK, 0.2, tick)])
        server = build_server(await open_app(rt), host="127.0.0.1", port=0, drain=lambda: end_streams(rt, 0))
        serving = asyncio.create_task(server.serve())
        runner.start()
        await until(lambda: server.started, 10)
        try:
            yield rt, server.servers[0].sockets[0].getsockname()[1]
        finally:
            await end_streams(rt, 0)
            server.should_exit = True
            await serving
            await runner.stop()


def tasks_besides(proxy: Proxy) -> int:
    """A connection through the proxy has three tasks of the proxy's, and a storm leaves the pool with more of them."""
    return len(asyncio.all_tasks()) - 3 * proxy.connections


async def test_a_few_seconds_without_a_database(database_url: str) -> None:
    async with Proxy(database_url) as proxy, served(proxy.dsn) as (rt, port), Listener(port) as listener:
        async with Load(port, PER_SECOND) as load:
            await until(lambda: load.responses["200"] > PER_SECOND and listener.seqs, 15)
        await asyncio.sleep(0.2)
        quiet = tasks_besides(proxy)
        assert set(load.responses) == {"200"}
        stored_before = load.stored

        async with Load(port, PER_SECOND) as during:
            await asyncio.sleep(0.5)
            await proxy.stop()
            await asyncio.sleep(GONE_SECS)
            await proxy.start()
            mended, mended_at, there = time.monotonic(), time.time(), during.stored
            await until(lambda: during.stored > there, RECOVERY_SECS)
            refused = during.responses[REFUSED]
            await until(lambda: (rt.metrics.registry.get_sample_value(JOB, {"job": TICK}) or 0) > mended_at, PATIENCE)
            await asyncio.sleep(max(0.0, RECOVERY_SECS - (time.monotonic() - mended)))
            settled = during.responses[REFUSED]
            await asyncio.sleep(1)
            assert during.responses[REFUSED] == settled
        assert refused > GONE_SECS * PER_SECOND / 2
        assert set(during.responses) == {"200", REFUSED}

        conn = await asyncpg.connect(database_url)
        stored = [row[0] for row in await conn.fetch("SELECT seq FROM audit_events ORDER BY seq")]
        await conn.close()
        # A commit whose answer was lost on the way is stored although it was refused.
        assert len(stored) >= stored_before + during.stored
        await listener.until(stored[-1])
        assert listener.seqs == stored
        assert (listener.connections, dict(listener.endings)) == (1, {})

        await until(lambda: tasks_besides(proxy) <= quiet + 2, PATIENCE)
        assert proxy.connections <= rt.settings.db_pool_max + 1
