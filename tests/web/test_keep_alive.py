"""How long a connection may be idle, whichever way its answers come."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from aitp_cp.app import open_app
from aitp_cp.runtime import open_runtime
from aitp_cp.settings import load
from aitp_cp.web import body, guards
from aitp_cp.web.server import build_server
from tests.support.app import ENVIRONMENT

pytestmark = pytest.mark.anyio

IDLE_SECS = 1
PATHS = {"memory": "/.well-known/aitp-manifest", "handler": "/api/livez", "both": ""}


@pytest.fixture
async def port(database_url: str) -> AsyncIterator[int]:
    settings = load({**ENVIRONMENT, "DATABASE_URL": database_url}, command="serve")
    async with open_runtime(settings) as rt:
        server = build_server(await open_app(rt), host="127.0.0.1", port=0, drain=lambda: asyncio.sleep(0))
        server.config.timeout_keep_alive = IDLE_SECS
        running = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.01)
        yield server.servers[0].sockets[0].getsockname()[1]
        server.should_exit = True
        await running


@pytest.mark.parametrize("way", PATHS)
async def test_a_connection_in_use_stays_and_an_idle_one_is_closed(port: int, way: str) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    loop = asyncio.get_running_loop()
    began = loop.time()
    number, asked = 0, began
    while loop.time() < began + 1.5 * IDLE_SECS:  # longer than it may be idle
        path = PATHS[way] or (PATHS["memory"], PATHS["handler"])[number % 2]
        writer.write(f"GET {path} HTTP/1.1\r\nHost: cp\r\n\r\n".encode())
        paused, asked = loop.time() - asked, loop.time()
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            assert paused > 0.9 * IDLE_SECS  # the machine held this test up for so long
            return
        assert head.startswith(b"HTTP/1.1 200")
        await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].split(b"\r\n", 1)[0]))
        number += 1
        await asyncio.sleep(0.05)
    async with asyncio.timeout(10):
        assert await reader.read() == b""
    writer.close()


@pytest.mark.parametrize("before", [b"", b"GET /api/livez HTTP/1.1\r\nHost: cp\r\n\r\n"])
@pytest.mark.parametrize("piece", [b"", b"G", b"GET /api/livez HTTP/1.1\r\nX-Slow: "])
async def test_a_head_that_does_not_arrive_is_not_waited_for(
    port: int, monkeypatch: pytest.MonkeyPatch, before: bytes, piece: bytes
) -> None:
    monkeypatch.setattr(guards, "HEAD_TIMEOUT_SECS", 0.5)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(before)
    if before:
        assert (await reader.readuntil(b"}")).startswith(b"HTTP/1.1 200")
    writer.write(piece)

    async def trickle() -> None:
        while piece.endswith(b" "):
            await asyncio.sleep(0.1)
            writer.write(b"x")

    trickling = asyncio.create_task(trickle())
    async with asyncio.timeout(10):
        assert await reader.read() == b""
    trickling.cancel()
    writer.close()


async def test_a_body_that_does_not_arrive_is_not_waited_for(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body, "READ_TIMEOUT_SECS", 0.3)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"POST /api/registry/enroll HTTP/1.1\r\nHost: cp\r\nContent-Length: 9\r\n\r\n{")
    async with asyncio.timeout(10):
        response = await reader.read()  # to the end: the connection is closed
    assert response.startswith(b"HTTP/1.1 400")
    assert b"the body did not arrive in 0.3 s" in response
    writer.close()
