"""The real server in this process, with the real application or with endpoints of the test's own."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from aitp_cp.app import open_app
from aitp_cp.runtime import Runtime, open_runtime
from aitp_cp.settings import load
from aitp_cp.web.edge import Edge
from aitp_cp.web.endpoint import Endpoint
from aitp_cp.web.routing import Router
from aitp_cp.web.server import Server, build_server
from tests.support.app import ENVIRONMENT


class Listening:
    def __init__(self, rt: Runtime, server: Server) -> None:
        self.rt = rt
        self.server = server
        self.port: int = server.servers[0].sockets[0].getsockname()[1]

    def metric(self, name: str, **labels: str) -> float:
        return self.rt.metrics.registry.get_sample_value(f"aitp_control_plane_{name}", labels) or 0.0

    async def open(self, *data: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=2**16)
        writer.writelines(data)
        return reader, writer

    async def ask(self, data: bytes, secs: float = 10) -> bytes:
        """All that is answered until the connection is closed."""
        reader, writer = await self.open(data)
        async with asyncio.timeout(secs):
            received = await reader.read()
        writer.close()
        return received


@asynccontextmanager
async def listening(
    database_url: str, endpoints: Sequence[Endpoint] | None = None, **environment: str
) -> AsyncIterator[Listening]:
    settings = load({**ENVIRONMENT, "DATABASE_URL": database_url, **environment}, command="serve")
    async with open_runtime(settings) as rt:
        app = await open_app(rt) if endpoints is None else Edge(rt, Router(rt, endpoints))
        server = build_server(app, host="127.0.0.1", port=0, drain=lambda: asyncio.sleep(0))
        server.config.timeout_graceful_shutdown = 0
        running = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.01)
        try:
            yield Listening(rt, server)
        finally:
            server.should_exit = True
            await running
