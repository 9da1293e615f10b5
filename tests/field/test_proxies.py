"""Framing tricks through real proxies: nobody gets another's answer, and nothing runs that was not sent whole."""

import socket
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from tests.support.agents import manifest, new_agent
from tests.support.app import API_KEY, AUTH
from tests.support.gateways import gateway, installed
from tests.support.postgres import migrated_database
from tests.support.process import Process
from tests.support.raw import parse
from tests.support.tricks import Trick, tricks

KEY = f"Authorization: Bearer {API_KEY}\r\n".encode()
GATEWAYS = ["nginx", "nginx with WebSockets", "haproxy", "haproxy that reuses"]
ANSWER_SECS = 0.06  # a trick that got no response within this gets none


class ToolMissing(UserWarning):
    """The suite left something out."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    with (
        migrated_database() as dsn,
        Process(dsn, tmp_path_factory.mktemp("proxies") / "log", TRUSTED_PROXY_HOPS="1") as process,
    ):
        yield process
        assert "Traceback" not in process.log()


def left_out(kind: str) -> None:
    said = f"LEFT OUT: {len(played('x'))} framing tricks, for {kind.partition(' ')[0]} is not installed (.ci/setup)"
    with warnings.catch_warnings():
        warnings.simplefilter("always", ToolMissing)
        warnings.warn(said, ToolMissing, stacklevel=1)
    pytest.skip(said)


def enrolled(server: Process) -> str:
    agent = new_agent()
    body = manifest(agent)
    with httpx.Client(base_url=server.url) as http:
        token = http.post("/api/registry/enroll", content=body).json()["token"]
        headers = {"Authorization": f"Bearer {token}"}
        assert http.post("/api/registry/agents", content=body, headers=headers).status_code == 201
    return agent.aid


def ask_innocently(port: int, aid: str, id: str) -> None:
    """An operator asks with a key, on a connection of his own; the answer must be the one to this question."""
    head = f"GET /api/registry/agents/{aid} HTTP/1.1\r\nHost: cp\r\nX-Request-Id: {id}\r\n".encode()
    with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
        sock.sendall(head + KEY + b"\r\n")
        received = b""
        while b"}" not in received and (chunk := sock.recv(65536)):
            received += chunk
    reply = parse(received)
    assert (reply.status, reply.headers.get("x-request-id")) == (200, id), received[:300]
    assert (reply.json()["aid"], reply.json()["status"]) == (aid, "active")


def play(port: int, trick: Trick) -> socket.socket:
    """Send it and wait for a first answer; the connection is still open."""
    sock = socket.create_connection(("127.0.0.1", port), timeout=10)
    with suppress(OSError):
        for number, segment in enumerate(trick):
            if number:
                time.sleep(0.02)
            sock.sendall(segment)
        sock.settimeout(ANSWER_SECS)
        sock.recv(65536)
    return sock


@pytest.mark.parametrize("kind", GATEWAYS)
def test_no_trick_touches_another_clients_request(server: Process, tmp_path: Path, kind: str) -> None:
    """Row A1: each trick is followed by an operator's request, while its connection is open and afterwards."""
    if not installed(kind):
        left_out(kind)
    aid = enrolled(server)
    with gateway(kind, server.port, tmp_path) as port:
        for number, (name, trick) in enumerate(played(aid)):
            try:
                ask_innocently(port, aid, f"before-{number}")
                with play(port, trick):
                    ask_innocently(port, aid, f"during-{number}")
                ask_innocently(port, aid, f"after-{number}")
            except AssertionError as wrong:
                raise AssertionError(f"{kind}: {name}: {wrong}") from wrong
    unfinished = httpx.get(
        f"{server.url}/api/events/history", params={"type": "playground.unfinished"}, headers=AUTH
    ).json()
    assert unfinished["events"] == []


def played(aid: str) -> list[tuple[str, Trick]]:
    hidden = f"DELETE /api/registry/agents/{aid} HTTP/1.1\r\nX-Ignore: ".encode()
    unfinished = b"POST /api/events HTTP/1.1\r\nHost: cp\r\n" + KEY
    return list(tricks(b"/api/registry/enroll", hidden, unfinished))


@pytest.mark.parametrize("kind", ["nginx", "haproxy"])
def test_a_replica_that_ends_costs_no_request(server: Process, tmp_path: Path, kind: str) -> None:
    """A rolling update behind the reference files: requests go on while one of two replicas drains and ends."""
    if not installed(kind):
        left_out(kind)
    dsn = server.environment["DATABASE_URL"]
    with (
        Process(dsn, tmp_path / "log", DRAIN_WINDOW_MS="2500") as leaving,
        gateway(kind, leaving.port, tmp_path, second=server.port) as port,
        ThreadPoolExecutor(4) as pool,
    ):
        stop_at = time.monotonic() + 3.5
        workers = [pool.submit(ask_until, f"http://127.0.0.1:{port}", stop_at) for _ in range(4)]
        time.sleep(0.5)
        assert leaving.terminate() == 0
        responses = Counter(status for worker in workers for status in worker.result())
    assert set(responses) == {200}, (responses, (tmp_path / "gateway.log").read_text(), (tmp_path / "log").read_text())
    assert responses[200] > 20


def ask_until(url: str, stop_at: float) -> list[int]:
    responses = []
    with httpx.Client(base_url=url, headers=AUTH) as http:
        while time.monotonic() < stop_at:
            responses.append(http.post("/api/events", json=[{"type": "playground.rolled"}]).status_code)
            responses.append(http.get("/api/events/history?limit=1").status_code)
            time.sleep(0.02)
    return responses


def test_the_corpus_is_large() -> None:
    """Row A1: at least sixty tricks."""
    assert len(dict(played("x"))) >= 60


@pytest.mark.parametrize("kind", ["nginx", "haproxy"])
def test_the_reference_files_do_what_they_say(server: Process, tmp_path: Path, kind: str) -> None:
    """Rows 4 and A2: deploy/ lets no forged address through, no upgrade, no trailer, and streams without delay."""
    if not installed(kind):
        left_out(kind)
    forged = b"Host: cp\r\nX-Forwarded-For: 203.0.113.9\r\nX-Request-Id: forged-%b\r\n" % kind.encode()
    with gateway(kind, server.port, tmp_path) as port:
        plain = b"GET /api/livez HTTP/1.1\r\n" + forged + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
        with play(port, (plain,)):
            pass
        by_trailer = b"GET /nope HTTP/1.1\r\n" + forged + b"Transfer-Encoding: chunked\r\n\r\n"
        with play(port, (by_trailer + b"0\r\nX-Forwarded-For: 203.0.113.9\r\n\r\n",)):
            pass
        with httpx.Client(base_url=f"http://127.0.0.1:{port}") as http:
            assert http.get("/api/metrics").status_code == 404
            large = http.post("/api/registry/enroll", content=b" " * 70_000)
            assert (large.status_code, large.json()["code"]) == (413, "PAYLOAD_TOO_LARGE")
            with http.stream("GET", "/api/events/stream", headers=AUTH, timeout=2) as stream:
                pieces = stream.iter_raw()
                assert next(pieces).startswith(b"retry: ")
                http.post("/api/events", content=b'[{"type":"playground.seen"}]', headers=AUTH)
                assert any(b"playground.seen" in piece for piece in pieces)
    lines = [line for line in server.log().splitlines() if f"forged-{kind}" in line]
    assert lines
    assert "203.0.113.9" not in server.log()
