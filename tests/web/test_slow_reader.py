"""Who takes an answer slowly gets all of it, and who does not take it at all is cut off."""

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest
from starlette.responses import Response

from aitp_cp.runtime import open_runtime
from aitp_cp.settings import load
from aitp_cp.web import connections
from aitp_cp.web.edge import Edge
from aitp_cp.web.endpoint import Endpoint, Gate
from aitp_cp.web.routing import Router
from aitp_cp.web.server import Server, build_server
from tests.support.app import ENVIRONMENT

pytestmark = pytest.mark.anyio

SIZE = 32 * 1024 * 1024  # far more than the system holds on both sides
PATIENCE_SECS = 0.8


@pytest.fixture
async def server(database_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Server]:
    monkeypatch.setattr(connections, "ANSWER_SECS", PATIENCE_SECS)
    monkeypatch.setattr(connections, "ANSWER_BYTES_PER_SEC", SIZE / (4 * PATIENCE_SECS))

    async def large(*_: object) -> Response:
        return Response(b"x" * SIZE)

    async def aborted(*_: object) -> Response:
        for connection in built.server_state.connections:
            connection.transport.abort()
        return Response(b"x")

    endpoints = [
        Endpoint(f"GET /{handler.__name__}", handler, "", tag="", gate=Gate.OPEN, responses={200: None})
        for handler in (large, aborted)
    ]
    settings = load({**ENVIRONMENT, "DATABASE_URL": database_url}, command="serve")
    async with open_runtime(settings) as rt:
        built = build_server(Edge(rt, Router(rt, endpoints)), host="127.0.0.1", port=0, drain=lambda: asyncio.sleep(0))
        running = asyncio.create_task(built.serve())
        while not built.started:
            await asyncio.sleep(0.01)
        yield built
        built.should_exit = True
        await running


async def asked(server: Server, path: str = "/large") -> socket.socket:
    """A connection on which the request has been sent."""
    sock = socket.socket()
    sock.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(sock, server.servers[0].sockets[0].getsockname())
    await loop.sock_sendall(sock, f"GET {path} HTTP/1.1\r\nHost: cp\r\nConnection: close\r\n\r\n".encode())
    return sock


async def test_a_client_that_takes_nothing_is_cut_off(server: Server) -> None:
    with await asked(server):
        async with asyncio.timeout(10):
            while not server.server_state.connections:
                await asyncio.sleep(0.01)
            while server.server_state.connections:
                await asyncio.sleep(0.01)


async def test_a_client_that_takes_its_time_is_given_everything(server: Server) -> None:
    loop = asyncio.get_running_loop()
    received = 0
    with await asked(server) as sock:
        began = loop.time()
        async with asyncio.timeout(30):
            while chunk := await loop.sock_recv(sock, 128 * 1024):
                received += len(chunk)
                if loop.time() - began < 2 * PATIENCE_SECS:
                    await asyncio.sleep(0.01)
        assert loop.time() - began > 1.5 * PATIENCE_SECS
    assert received > SIZE


async def test_a_client_that_leaves_under_its_answer_is_no_error(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    with await asked(server, "/aborted") as sock:
        assert await asyncio.get_running_loop().sock_recv(sock, 1) == b""
    assert [record.message for record in caplog.records if record.name == "uvicorn.error"] == []
