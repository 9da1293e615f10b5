"""Responses from memory over real sockets: what they carry, and that they hide no write."""

import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote
from uuid import uuid4

import httpx
import pytest

from tests.support.agents import manifest, new_agent
from tests.support.app import AUTH
from tests.support.postgres import migrated_database
from tests.support.process import Process
from tests.support.raw import parse, receive, request, send
from tests.support.waiting import eventually

MANIFEST = "/.well-known/aitp-manifest"
LIST = "/.well-known/aitp-revocation-list"
AGENTS = "/api/registry/agents"
HEALTH = "/api/health"
VARYING = {"date", "x-request-id"}


@pytest.fixture(scope="module")
def dsn() -> Iterator[str]:
    with migrated_database() as url:
        yield url


@pytest.fixture(scope="module")
def server(dsn: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    with Process(dsn, tmp_path_factory.mktemp("documents") / "log", CORS_ORIGIN="https://one.example") as process:
        yield process


@pytest.fixture
def http(server: Process) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url) as client:
        yield client


def constant(response: httpx.Response) -> dict[str, str]:
    return {name: value for name, value in response.headers.items() if name not in VARYING}


def register(http: httpx.Client, name: str) -> str:
    """A fresh agent's AID."""
    agent = new_agent()
    body = manifest(agent, display_name=name)
    token = http.post("/api/registry/enroll", content=body).json()["token"]
    done = http.post(AGENTS, content=body, headers={"Authorization": f"Bearer {token}"})
    assert done.status_code == 201, done.text
    return agent.aid


def names(http: httpx.Client) -> set[str]:
    return {agent["displayName"] for agent in http.get(AGENTS, params={"limit": "1000"}).json()["agents"]}


@pytest.mark.parametrize("path", [MANIFEST, LIST, AGENTS, HEALTH, "/api/well-known/aitp-manifest", "/api/metrics"])
@pytest.mark.parametrize("headers", [{}, {"Origin": "https://one.example"}, {"Origin": "https://two.example"}])
def test_every_response_is_the_same(http: httpx.Client, path: str, headers: dict[str, str]) -> None:
    responses = [http.get(path, headers={**headers, "X-Request-Id": f"ask-{number}"}) for number in range(4)]
    assert [response.headers["x-request-id"] for response in responses] == [f"ask-{number}" for number in range(4)]
    assert {response.status_code for response in responses} == {200}
    assert all(response.headers["date"] for response in responses)
    if path != "/api/metrics":  # what it says moves by itself
        assert len({response.content for response in responses}) == 1
        assert all(constant(response) == constant(responses[0]) for response in responses)
    allowed = responses[-1].headers.get("access-control-allow-origin")
    assert allowed == ("https://one.example" if headers.get("Origin") == "https://one.example" else None)


def test_what_could_change_the_answer_is_looked_at(server: Process, http: httpx.Client) -> None:
    etag = [http.get(LIST) for _ in range(3)][-1].headers["etag"]
    known = http.get(LIST, headers={"If-None-Match": etag})
    assert (known.status_code, known.content) == (304, b"")
    head = http.head(LIST)
    assert (head.status_code, head.content, head.headers["etag"]) == (200, b"", etag)
    assert http.post(LIST).status_code == 405
    closing = send(server.port, request(LIST.encode()))
    assert (closing.status, closing.headers["connection"], closing.headers["etag"]) == (200, "close", etag)
    with_body = request(HEALTH.encode(), b"Content-Length: 4", body=b"body")
    assert send(server.port, with_body).json()["ok"] is True


def test_requests_that_arrive_together_are_answered_in_order(server: Process, http: httpx.Client) -> None:
    http.get(MANIFEST)
    wanted = ["livez", "manifest", "manifest", "livez", "health", "manifest"]
    paths = {"livez": "/api/livez", "manifest": MANIFEST, "health": HEALTH}
    sent = [f"GET {paths[what]} HTTP/1.1\r\nHost: cp\r\nX-Request-Id: n{n}\r\n" for n, what in enumerate(wanted)]
    received = send_all(server.port, ("\r\n".join(sent) + "Connection: close\r\n\r\n").encode())
    got = []
    while received:
        reply = parse(received)
        length = int(reply.headers["content-length"])
        got.append((reply.status, reply.headers["x-request-id"], bool(json.loads(reply.body[:length]))))
        received = reply.body[length:]
    assert got == [(200, f"n{n}", True) for n in range(len(wanted))]


def test_each_is_logged_and_counted(server: Process, http: httpx.Client) -> None:
    mark = uuid4().hex
    before = counted(http)
    for number in range(10):
        http.get(MANIFEST, headers={"X-Request-Id": f"{mark}.{number}"})
    assert counted(http) == before + 10
    eventually(lambda: server.log().count(mark) == 10)
    lines = [line for line in server.log().splitlines() if mark in line]
    assert all(f"{mark}.{number}" in line and MANIFEST in line for number, line in enumerate(lines))


def counted(http: httpx.Client) -> float:
    wanted = f'http_request_duration_seconds_count{{method="GET",route="{MANIFEST}",status="2xx"}} '
    lines = http.get("/api/metrics").text.splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if wanted in line)


def test_a_bucket_is_spent_and_refuses(dsn: str, tmp_path: Path) -> None:
    limits = {"RATE_LIMIT_ENABLED": "true", "RATE_LIMIT_PUBLIC_PER_IP_MIN": "5", "RATE_LIMIT_WINDOW_MS": "3600000"}
    with Process(dsn, tmp_path / "log", port=None, **limits) as server, httpx.Client(base_url=server.url) as http:
        responses = [http.get(AGENTS) for _ in range(7)]
        assert [response.status_code for response in responses] == [200] * 5 + [429] * 2
        assert [response.headers["x-ratelimit-remaining"] for response in responses] == [
            "4",
            "3",
            "2",
            "1",
            "0",
            "0",
            "0",
        ]
        assert responses[-1].json()["bucket"] == "public-ip"
        assert {http.get(MANIFEST).status_code for _ in range(20)} == {200}


def test_a_process_reads_what_it_has_written(http: httpx.Client) -> None:
    for number in range(5):
        name = f"own {number} {uuid4()}"
        assert name not in names(http)
        aid = quote(register(http, name), safe="")
        assert name in names(http)
        assert http.get(f"{AGENTS}/{aid}").json()["status"] == "active"
        assert http.get(f"{AGENTS}/{aid}/manifest").headers["x-aitp-agent-status"] == "active"
        http.delete(f"{AGENTS}/{aid}", headers=AUTH).raise_for_status()
        assert name not in names(http)
        assert http.get(f"{AGENTS}/{aid}").json()["status"] == "deregistered"
        assert http.get(f"{AGENTS}/{aid}/manifest").headers["x-aitp-agent-status"] == "deregistered"


def test_another_process_shows_it_within_a_second(dsn: str, http: httpx.Client, tmp_path: Path) -> None:
    with Process(dsn, tmp_path / "log") as other, httpx.Client(base_url=other.url) as there:
        name, jti = f"elsewhere {uuid4()}", str(uuid4())
        assert name not in names(there)
        assert jti not in there.get(LIST).text
        register(http, name)
        http.post("/api/revocation/entries", json={"jti": jti}, headers=AUTH).raise_for_status()
        written = time.monotonic()
        while time.monotonic() - written < 1.0:  # kept warm, so that nothing is forgotten for want of questions
            names(there)
            there.get(LIST)
        assert name in names(there)
        assert jti in there.get(LIST).text


def test_a_head_request_is_answered_before_the_next(server: Process) -> None:
    sent = f"HEAD {LIST} HTTP/1.1\r\nHost: cp\r\n\r\nGET /api/livez HTTP/1.1\r\nHost: cp\r\nConnection: close\r\n\r\n"
    first = parse(send_all(server.port, sent.encode()))
    assert (first.status, "etag" in first.headers) == (200, True)
    assert parse(first.body).json() == {"ok": True}


def send_all(port: int, data: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
        sock.sendall(data)
        return receive(sock)
