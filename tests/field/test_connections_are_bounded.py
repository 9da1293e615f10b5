"""What the connections of strangers make the process hold: responses, requests, connections, idle time."""

import asyncio
import json
import re

import httpx
import pytest
import structlog
from starlette.responses import Response

from aitp_cp.settings import load
from aitp_cp.web import connections, guards
from aitp_cp.web.connections import ANSWER_SECS, Connections, Limits, Unsent
from aitp_cp.web.endpoint import Endpoint, Gate
from tests.support.agents import manifest, new_agent
from tests.support.app import API_KEY, ENVIRONMENT
from tests.support.enrolment import register
from tests.support.listening import listening
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

MIB = 2**20
ANSWER_BYTES = 12 * MIB  # the system takes up to some 4 MiB of a response that nobody reads
ASK = b"GET /%b HTTP/1.1\r\nHost: cp\r\n\r\n"
LAST = b"GET /%b HTTP/1.1\r\nHost: cp\r\nConnection: close\r\n\r\n"


async def _large(*_: object) -> Response:
    return Response(b"x" * ANSWER_BYTES)


async def _small(*_: object) -> Response:
    return Response(b"ok")


async def _never(*_: object) -> Response:
    await asyncio.Event().wait()
    raise AssertionError


OWN = [
    Endpoint(f"GET /{name}", handler, "", tag="", gate=Gate.OPEN, responses={200: None})
    for name, handler in (("large", _large), ("small", _small), ("never", _never))
]


def test_the_deadline_of_an_answer_grows_with_its_size() -> None:
    """Row A5: 30 s and size / 64 KiB/s; a client that reads that fast is never late, one that reads less is."""
    unsent = Unsent()
    unsent.written = 18 * MIB
    assert unsent.waits(100, 18 * MIB) < 0
    secs = ANSWER_SECS + 18 * 16
    assert unsent.waits(100 + secs - 1, 17 * MIB) < 0
    assert unsent.waits(100 + secs + 1, 17 * MIB) > 0

    endless, now, taken = Unsent(), 0.0, 0  # an export of any length, read at 70 KiB/s
    for _ in range(1000):
        now, taken = now + 1, taken + 70 * 1024
        endless.written = taken + 100_000
        assert endless.waits(now, 100_000) < 0
    assert endless.waits(now + 1, 0) < 0  # all is taken: the next response has a deadline of its own


async def test_an_answer_that_is_not_taken_is_cut(
    database_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Row A5: a connection closed from this side counts too, because its unsent bytes are still held."""
    monkeypatch.setattr(connections, "ANSWER_SECS", 0.3)
    monkeypatch.setattr(connections, "ANSWER_BYTES_PER_SEC", 100 * MIB)
    async with listening(database_url, OWN) as server:
        for ask in (ASK, LAST):
            _, writer = await server.open(ask % b"large")
            await until(lambda: server.metric("http_connections_open") >= 1)
            async with asyncio.timeout(20):
                while server.server.server_state.connections:
                    await asyncio.sleep(0.02)
            writer.close()
        assert server.metric("http_connections_cut_total", reason="deadline") == 2
    assert capsys.readouterr().out.count("slow_clients_cut") == 2


async def test_all_answers_together_have_one_budget(database_url: str) -> None:
    """Row A5: the slowest are cut first, and whoever reads gets everything."""
    async with listening(database_url, OWN, MAX_UNSENT_MIB="32") as server:
        silent = [await server.open(ASK % b"large") for _ in range(6)]
        await until(lambda: server.metric("http_connections_cut_total", reason="budget") >= 1)
        await asyncio.sleep(1)  # what is left has taken nothing for a while
        assert len(await server.ask(LAST % b"large", 30)) > ANSWER_BYTES
        await asyncio.sleep(1)
        assert server.metric("http_unsent_bytes") <= 32 * MIB
        for _, writer in silent:
            writer.transport.abort()


async def test_requests_ahead_of_their_answers_are_few(database_url: str) -> None:
    """Row A5: while a response is due no other request is taken, and no more than 16 KiB of them are held."""
    async with listening(database_url, OWN) as server:
        _, writer = await server.open(ASK % b"never", (ASK % b"small") * 10_000)
        await until(lambda: server.metric("http_requests_queued") >= 16)
        await asyncio.sleep(0.6)
        assert server.metric("http_requests_queued") <= guards.MAX_HELD_BYTES / len(ASK % b"small")
        assert server.server.server_state.total_requests == 0
        writer.transport.abort()


async def test_a_sender_over_its_limit_is_answered_once(database_url: str) -> None:
    """Row A5: what was sent behind a request over its rate limit is not answered one by one, at the cost of others."""
    limits = {"RATE_LIMIT_ENABLED": "true", "RATE_LIMIT_PUBLIC_PER_IP_MIN": "3"}
    async with listening(database_url, OWN, **limits) as server:
        reader, writer = await server.open((ASK % b"nowhere") * 400)
        async with asyncio.timeout(10):
            responses = await reader.read()
        assert [status(line) for line in responses.split(b"HTTP/1.1 ")[1:]] == [404, 404, 404, 429]
        assert responses.count(b"connection: close") == 1
        writer.close()

        reader, writer = await server.open(ASK % b"nowhere")  # one at a time: the connection stays
        for _ in range(2):
            async with asyncio.timeout(10):
                head = await reader.readuntil(b"\r\n\r\n")
            assert status(head.removeprefix(b"HTTP/1.1 ")) == 429
            assert b"connection: close" not in head
            length = re.search(rb"content-length: (\d+)", head)
            assert length is not None
            await reader.readexactly(int(length[1]))
            writer.write(ASK % b"nowhere")
        writer.transport.abort()


def status(line: bytes) -> int:
    return int(line[:3])


async def test_connections_are_bounded(database_url: str) -> None:
    """Row A5: at the bound those that have been idle for longest make room; those at work stay."""
    async with listening(database_url, OWN, MAX_CONNECTIONS="20") as server:
        _, at_work = await server.open(ASK % b"never")
        idle = [await server.open() for _ in range(40)]
        async with asyncio.timeout(10):
            assert await idle[0][0].read() == b""
        assert (await server.ask(LAST % b"small")).endswith(b"ok")
        assert len(server.server.server_state.connections) <= 21
        assert server.metric("http_connections_cut_total", reason="idle") >= 20
        assert not at_work.transport.is_closing()
        for _, writer in [*idle, (None, at_work)]:
            writer.transport.abort()


async def test_nobody_gets_in_while_all_are_at_work(database_url: str) -> None:
    """Row A5: a connection beyond the bound is closed at once; the log says once that the bound is reached."""
    async with listening(database_url, OWN, MAX_CONNECTIONS="3") as server:
        at_work = [await server.open(ASK % b"never") for _ in range(3)]
        with structlog.testing.capture_logs() as lines:
            async with asyncio.timeout(10):
                while server.metric("http_connections_cut_total", reason="full") < 2:
                    _, writer = await server.open()
                    await asyncio.sleep(0.05)
                    writer.transport.abort()
        assert [line["limit"] for line in lines if line["event"] == "connections_at_limit"] == [3]
        for _, writer in at_work:
            writer.transport.abort()


async def test_idle_connections_outlive_those_of_proxies(database_url: str) -> None:
    """Row 16: proxies keep connections for 60 s; 75 s is the default here, and a setting."""
    settings = load({**ENVIRONMENT, "DATABASE_URL": database_url}, command="serve")
    assert settings.keep_alive_ms == 75_000
    async with listening(database_url, OWN) as server:
        assert server.server.config.timeout_keep_alive == 75  # it was 5
    async with listening(database_url, OWN, KEEP_ALIVE_MS="300") as server:
        assert (await server.ask(ASK % b"small")).endswith(b"ok")


async def test_no_transfer_coding_below_1_1(database_url: str) -> None:
    """Row 23: in HTTP/1.0 chunk sizes stood among the data; the end of the connection is the end of the response."""
    key = f"Authorization: Bearer {API_KEY}\r\n\r\n".encode()
    async with listening(database_url) as server:
        agent = new_agent()
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}") as http:
            assert (await register(http, manifest(agent))).status_code == 201
        exported = await server.ask(f"GET /api/registry/agents/{agent.aid}/export HTTP/1.0\r\n".encode() + key)
        head, _, body = exported.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200")
        assert b"transfer-encoding" not in head.lower()
        assert json.loads(body)["agent"]["aid"] == agent.aid

        reader, writer = await server.open(b"GET /api/events/stream HTTP/1.0\r\n" + key)
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"transfer-encoding" not in head.lower()
        assert (await reader.readline()).startswith(b"retry: ")
        writer.close()
        with_length = await server.ask(b"GET /api/livez HTTP/1.0\r\n\r\n")
        assert b"content-length: 11" in with_length.lower()


async def test_the_bound_follows_the_limit_on_open_files() -> None:
    """Row A5: a process that may open few files takes few connections, rather than failing to accept them."""
    assert Connections(Limits(connections=10))._most == 10
    assert Connections(Limits(connections=10**9))._most < 10**9
