"""What no well-behaved client sends, over real sockets to the real command (contract, section 2)."""

import json
import re
import socket
import time
from collections.abc import Iterator
from contextlib import suppress

import httpx
import pytest

from tests.support.agents import manifest, new_agent
from tests.support.app import API_KEY, AUTH, SEED
from tests.support.postgres import migrated_database
from tests.support.process import Process
from tests.support.raw import Reply, chunked, parse, receive, request, send
from tests.support.waiting import eventually

KEY = f"Authorization: Bearer {API_KEY}".encode()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    with migrated_database() as dsn, Process(dsn, tmp_path_factory.mktemp("edge") / "log") as process:
        yield process
        assert "Traceback" not in process.log()
        assert process.terminate() == 0


def assert_error(reply: Reply, status: int, code: str) -> None:
    assert (reply.status, reply.json()["code"]) == (status, code)
    assert set(reply.json()) == {"error", "code"}
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert reply.headers["cache-control"] == "no-store"
    assert re.fullmatch(r"[0-9a-f-]{36}", reply.headers["x-request-id"])
    assert int(reply.headers["content-length"]) == len(reply.body)


PATHS = [b"/", b"/api", b"/api/health", b"/api/registry/agents", b"/api/registry/agents/", b"/.well-known/", b"/nope/"]


@pytest.mark.parametrize("path", PATHS)
def test_a_nul_in_any_path(server: Process, path: bytes) -> None:
    for target in (path + b"%00", path + b"/%00", path + b"a%00b/c"):
        assert_error(send(server.port, request(target)), 400, "BAD_REQUEST")
    assert_error(send(server.port, request(path + b"\0")), 400, "BAD_REQUEST")


@pytest.mark.parametrize("path", PATHS)
def test_too_much_of_a_header_or_a_query(server: Process, path: bytes) -> None:
    assert_error(send(server.port, request(path, b"X-Large: " + b"h" * 10_240)), 431, "HEADERS_TOO_LARGE")
    assert_error(send(server.port, request(path + b"?q=" + b"q" * 1_000_000)), 414, "URI_TOO_LONG")
    assert_error(send(server.port, request(path + b"?q=" + b"q" * 30_000)), 414, "URI_TOO_LONG")


@pytest.mark.parametrize(
    "head",
    [
        request(b"/api/livez", b"X-Large: " + b"h" * 2_000_000),
        request(b"/api/livez", *(b"X-%d: h" % number for number in range(50_000))),
        request(b"/api/livez", b"X-" + b"n" * 2_000_000 + b": h"),
        request(b"/api/livez", b"Cookie: " + b"c" * 200_000, b"Cookie: " + b"d" * 200_000),
    ],
    ids=["one value", "many headers", "one name", "cookies"],
)
def test_a_head_without_end_is_not_gathered(server: Process, head: bytes) -> None:
    assert_error(send(server.port, head), 431, "HEADERS_TOO_LARGE")


def test_a_path_without_end(server: Process) -> None:
    assert_error(send(server.port, request(b"/api/" + b"p" * 2_000_000)), 414, "URI_TOO_LONG")
    assert_error(send(server.port, request(b"/api/" + b"p" * 10_000)), 414, "URI_TOO_LONG")


def test_a_head_that_arrives_in_small_pieces_is_served(server: Process) -> None:
    whole = request(b"/api/livez", b"X-Some: " + b"h" * 6000)
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as sock:
        for start in range(0, len(whole), 100):
            sock.sendall(whole[start : start + 100])
        assert parse(receive(sock)).json() == {"ok": True}


@pytest.mark.parametrize(
    "target",
    [
        b"/api/%ed%a0%80",
        b"/api/registry/agents/%ed%a0%80",
        b"/api/registry/agents/%ED%BF%BF/manifest",
        b"/api/registry/agents/%ff%fe",
        b"//",
        b"//api/health",
        b"/api//health",
        b"/api/registry//agents",
        b"/..",
        b"/api/../api/health",
        b"/api/%2e%2e/api/health",
        b"/api/registry/agents/../../health",
        b"/../../etc/passwd",
        b"/api/registry/agents/..%2f..%2fetc",
        b"/api/%zz",
        b"/api/%0d%0aX-Injected:%20yes",
        b"/api/health;x=1",
        b"/api/health%20",
        b"/API/health",
    ],
)
def test_strange_paths_are_not_found(server: Process, target: bytes) -> None:
    assert_error(send(server.port, request(target, KEY)), 404, "NOT_FOUND")


@pytest.mark.parametrize("filter", [b"aid", b"capability", b"namespace", b"displayName", b"status"])
def test_strange_filters(server: Process, filter: bytes) -> None:
    target = b"/api/registry/agents?" + filter + b"="
    assert_error(send(server.port, request(target + b"%00")), 400, "FILTER_INVALID")
    for strange in (b"%ed%a0%80", b"%ff", b"%", b"%zz", b"../..", b"'%20OR%20''='", b"%F0%9F%98%80", b"%5C"):
        reply = send(server.port, request(target + strange))
        assert (reply.status, reply.json()) == (200, {"agents": []}), strange
    assert_error(send(server.port, request(b"/api/registry/agents?" + b"a=b&" * 200)), 400, "BAD_REQUEST")


@pytest.mark.parametrize(
    "bytes_",
    [
        b"hello\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET\r\n\r\n",
        b"BREW /api/livez HTTP/1.1\r\nHost: cp\r\n\r\n",
        b"get /api/livez HTTP/1.1\r\nHost: cp\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /api/livez HTTP/9.9\r\nHost: cp\r\n\r\n",
        b"GET /api/li vez HTTP/1.1\r\nHost: cp\r\n\r\n",
        b"GET ?a=b HTTP/1.1\r\nHost: cp\r\n\r\n",
        b"CONNECT evil:443 HTTP/1.1\r\nHost: cp\r\n\r\n",
        request("/api/ü".encode()),
        request(b"/api/\xed\xa0\x80"),
        request(b"/api/registry/agents?aid=\xed\xa0\x80"),
        request(b"/api/livez", b"X-A: a\0b"),
        request(b"/api/livez", b"X-A: a\x01b"),
        request(b"/api/livez", b"X A: b"),
        request(b"/api/livez", b": b"),
        request(b"/api/livez", b"no colon"),
        request(b"/api/livez", b"X-A: b\r\n folded"),
        request(b"/api/events", b"Content-Length: 1", b"Content-Length: 2", method=b"POST", body=b"[]"),
        request(b"/api/events", b"Content-Length: -1", method=b"POST"),
        request(b"/api/events", b"Content-Length: 0x2", method=b"POST", body=b"[]"),
        request(b"/api/events", b"Content-Length: " + b"9" * 40, method=b"POST"),
        request(b"/api/events", b"Content-Length: 2", b"Transfer-Encoding: chunked", method=b"POST", body=b"0\r\n\r\n"),
        request(b"/api/events", KEY, b"Transfer-Encoding: chunked", method=b"POST", body=b"zz\r\n"),
    ],
    ids=lambda value: repr(value[:30]),
)
def test_what_is_not_http(server: Process, bytes_: bytes) -> None:
    reply = send(server.port, bytes_)
    assert_error(reply, 400, "BAD_REQUEST")
    assert reply.headers["connection"] == "close"


def test_garbage_behind_a_request_does_not_take_its_answer(server: Process) -> None:
    body = manifest(new_agent())
    length = b"Content-Length: %d" % len(body)
    asked = request(b"/api/registry/enroll", length, method=b"POST", body=body).replace(b"Connection: close\r\n", b"")
    reply = send(server.port, asked + b"\0\0 garbage\r\n\r\n")
    assert reply.status == 200
    assert json.loads(reply.body[: int(reply.headers["content-length"])])["expiresIn"] == 300


def test_requests_that_are_sent_together_are_answered_in_order(server: Process) -> None:
    ids = [f"pipelined-{number}" for number in range(50)]
    asked = [f"GET /api/livez HTTP/1.1\r\nHost: cp\r\nX-Request-Id: {id}\r\n\r\n".encode() for id in ids]
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as sock:
        sock.sendall(b"".join(asked) + request(b"/api/livez"))
        received = receive(sock).decode()
    assert re.findall(r"x-request-id: (pipelined-\d+)", received) == ids


LIMITS = [(b"/api/registry/enroll", 64 * 1024), (b"/api/registry/agents", 64 * 1024), (b"/api/events", 256 * 1024)]


@pytest.mark.parametrize(("path", "limit"), LIMITS)
def test_a_body_that_is_too_long(server: Process, path: bytes, limit: int) -> None:
    for size in (limit + 1, limit * 2, 3_000_000):
        declared = request(path, KEY, b"Content-Length: %d" % size, method=b"POST", body=b" " * size)
        undeclared = request(path, KEY, b"Transfer-Encoding: chunked", method=b"POST", body=chunked(b" " * size))
        for message in (declared, undeclared):
            response = post_whatever_happens(server.port, message)
            assert (response.status, response.json()["code"]) == (413, "PAYLOAD_TOO_LARGE")


def post_whatever_happens(port: int, message: bytes) -> Reply:
    """The server may stop reading long before the client has stopped sending."""
    received = bytearray()
    with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
        with suppress(OSError):
            sock.sendall(message)
        with suppress(OSError):
            while chunk := sock.recv(65536):
                received += chunk
    return parse(bytes(received))


@pytest.mark.parametrize(("path", "limit"), LIMITS)
def test_a_body_that_is_a_little_too_long_is_read_to_its_end(server: Process, path: bytes, limit: int) -> None:
    size = limit + 100_000
    reply = send(
        server.port, request(path, KEY, b"Content-Length: %d" % size, method=b"POST", body=b" " * size)
    )  # which would raise if the connection were reset
    assert_error(reply, 413, "PAYLOAD_TOO_LARGE")


def test_a_length_beyond_reason_is_refused_before_the_body(server: Process) -> None:
    head = (b"Content-Length: 9999999999", b"Expect: 100-continue")
    began = time.monotonic()
    assert_error(send(server.port, request(b"/api/registry/enroll", *head, method=b"POST")), 413, "PAYLOAD_TOO_LARGE")
    assert time.monotonic() - began < 5  # `send` would wait ten for a server that waits for the body


def test_a_client_that_leaves_in_the_middle_of_its_body(server: Process) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as sock:
        sock.sendall(request(b"/api/registry/enroll", b"Content-Length: 500", method=b"POST", body=b"{"))
    assert httpx.get(f"{server.url}/api/livez").status_code == 200


def test_head_and_options(server: Process) -> None:
    head = send(server.port, request(b"/api/registry/agents", method=b"HEAD"))
    assert (head.status, head.body) == (200, b"")
    listed = send(server.port, request(b"/api/registry/agents"))
    assert head.headers["content-length"] == listed.headers["content-length"] == str(len(listed.body))
    preflight = send(
        server.port,
        request(b"/api/events", b"Origin: http://a", b"Access-Control-Request-Method: POST", method=b"OPTIONS"),
    )
    assert (preflight.status, preflight.body) == (204, b"")
    assert preflight.headers["access-control-allow-origin"] == "*"
    assert_error(send(server.port, request(b"*", method=b"OPTIONS")), 404, "NOT_FOUND")
    assert_error(send(server.port, request(b"/api/livez", method=b"PROPFIND")), 405, "METHOD_NOT_ALLOWED")


def test_an_upgrade_that_is_not_offered_is_ignored(server: Process) -> None:
    upgrade = (b"Upgrade: websocket", b"Sec-WebSocket-Key: AAAA", b"Sec-WebSocket-Version: 13")
    asked = request(b"/api/livez", *upgrade).replace(b"Connection: close", b"Connection: Upgrade, close")
    assert send(server.port, asked).json() == {"ok": True}


def test_the_absolute_form_and_an_old_version_are_served(server: Process) -> None:
    assert send(server.port, request(b"http://elsewhere/api/livez")).json() == {"ok": True}
    assert send(server.port, b"GET /api/livez HTTP/1.0\r\n\r\n").json() == {"ok": True}


@pytest.mark.parametrize(
    "key", [b"", b" ", b"\t", b"k" * 256, b"tab\tinside", b"\xc2\x85", b"k" * 2000], ids=lambda value: repr(value[:9])
)
def test_idempotency_keys_that_are_none(server: Process, key: bytes) -> None:
    headers = (KEY, b"Content-Length: 2", b"Idempotency-Key: " + key)
    reply = send(server.port, request(b"/api/events", *headers, method=b"POST", body=b"[]"))
    assert_error(reply, 400, "IDEMPOTENCY_KEY_INVALID")


def test_the_log_names_the_request_and_keeps_the_secrets(server: Process) -> None:
    agent = new_agent()
    body = manifest(agent)
    with httpx.Client(base_url=server.url) as http:
        token = http.post("/api/registry/enroll", content=body).json()["token"]
        headers = {"Authorization": f"Bearer {token}", "X-Request-Id": "log-me-once"}
        assert http.post("/api/registry/agents", content=body, headers=headers).status_code == 201
        http.get("/api/audit", headers=AUTH)
        http.get("/api/audit", headers={"Authorization": "Bearer wrong-secret"})
    eventually(lambda: "INVALID_API_KEY" in server.log())
    log = server.log()
    assert log.count("log-me-once") == 1
    for secret in (API_KEY, token, "wrong-secret", SEED, "an-enrollment-secret"):
        assert secret not in log
