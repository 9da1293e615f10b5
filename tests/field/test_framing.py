"""Where a request ends, and for which host it is: what is uncertain is answered once, and nothing behind it is read."""

import socket
import time
from collections.abc import Iterator
from contextlib import suppress

import httpx
import pytest

from tests.support.agents import manifest, new_agent
from tests.support.app import API_KEY, AUTH
from tests.support.postgres import migrated_database
from tests.support.process import Process
from tests.support.raw import Reply, parse, send

KEY = f"Authorization: Bearer {API_KEY}".encode()
EVENT = b'[{"type":"playground.note","payload":{"n":1}}]'
H2C = (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA")
OFFERS = [H2C, (b"Connection: Upgrade", b"Upgrade: foo"), (b"Connection: upgrade", b"Upgrade: websocket")]
SMUGGLED = b"GET /api/livez HTTP/1.1\r\nHost: cp\r\nX-Request-Id: smuggled\r\n\r\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    with migrated_database() as dsn, Process(dsn, tmp_path_factory.mktemp("framing") / "log") as process:
        yield process
        assert "Traceback" not in process.log()


def head(method: bytes, target: bytes, *headers: bytes) -> bytes:
    return b"\r\n".join([method + b" " + target + b" HTTP/1.1", b"Host: cp", *headers, b"", b""])


def chunked(*headers: bytes, method: bytes = b"POST", target: bytes = b"/api/events") -> bytes:
    return head(method, target, KEY, b"Transfer-Encoding: chunked", *headers)


def exchange(server: Process, *segments: bytes, quiet_secs: float = 0.2, first_secs: float = 3.0) -> list[Reply]:
    """Every response on one connection, until the server closes it or says no more."""
    received = bytearray()
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as sock, suppress(OSError):
        for number, segment in enumerate(segments):
            if number:
                time.sleep(0.02)
            sock.sendall(segment)
        sock.settimeout(first_secs)
        while chunk := sock.recv(65536):
            received += chunk
            sock.settimeout(quiet_secs)
    return responses(bytes(received))


def responses(received: bytes) -> list[Reply]:
    found = []
    while received:
        reply = parse(received)
        size = int(reply.headers["content-length"])
        found.append(reply._replace(body=reply.body[:size]))
        received = reply.body[size:]
    return found


def events_in(server: Process) -> int:
    listed = httpx.get(f"{server.url}/api/events/history", params={"limit": "1000"}, headers=AUTH).json()
    return len(listed["events"])


@pytest.mark.parametrize("offer", OFFERS)
def test_an_upgrade_offer_changes_nothing(server: Process, offer: tuple[bytes, ...]) -> None:
    """Row 4: a Java client's offer of h2c; the body is read and answered as HTTP/1.1, in one segment or in two."""
    before = events_in(server)
    asked = head(b"POST", b"/api/events", KEY, b"Content-Length: %d" % len(EVENT), *offer)
    again = head(b"GET", b"/api/livez")
    for segments in ((asked + EVENT,), (asked, EVENT), (asked[:-1], asked[-1:] + EVENT), (asked + EVENT + again,)):
        first, *more = exchange(server, *segments)
        assert first.status == 200, first.body
        assert [reply.json() for reply in more] == [{"ok": True}] * segments[-1].endswith(again)
    assert events_in(server) == before + 4


@pytest.mark.parametrize("offer", OFFERS)
def test_a_body_behind_an_offer_is_never_a_request(server: Process, offer: tuple[bytes, ...]) -> None:
    """Rows 4 and A1: a body that reads like a request, behind blank lines or in a segment of its own."""
    for body in (
        SMUGGLED,
        b"\r\n" * 8 + SMUGGLED,
        b"\r\n" * 40 + b"DELETE /api/registry/agents/x HTTP/1.1\r\nX-Ignore: ",
    ):
        asked = head(b"POST", b"/api/registry/enroll", b"Content-Length: %d" % len(body), *offer)
        for segments in ((asked + body,), (asked, body)):
            replies = exchange(server, *segments)
            assert [reply.status for reply in replies] == [400]
            assert replies[0].json()["code"] == "BODY_INVALID"


def test_the_next_request_is_not_completed_by_what_came_before(server: Process) -> None:
    """Row A1: what a proxy sends next on the connection is answered as it was sent, and deregisters nobody."""
    agent = new_agent()
    body = manifest(agent)
    with httpx.Client(base_url=server.url) as http:
        token = http.post("/api/registry/enroll", content=body).json()["token"]
        headers = {"Authorization": f"Bearer {token}"}
        assert http.post("/api/registry/agents", content=body, headers=headers).status_code == 201
    hostile = b"\r\n" * 16 + f"DELETE /api/registry/agents/{agent.aid} HTTP/1.1\r\nX-Ignore: ".encode()
    offer = (b"Connection: Upgrade", b"Upgrade: foo", b"Content-Length: %d" % len(hostile))
    asked = head(b"POST", b"/api/registry/enroll", *offer)
    innocent = head(b"GET", b"/api/audit", KEY)
    for segments in ((asked + hostile, innocent), (asked, hostile, innocent), (asked, hostile + innocent)):
        first, second = exchange(server, *segments)
        assert (first.status, first.json()["code"]) == (400, "BODY_INVALID")
        assert "entries" in second.json()
    assert httpx.get(f"{server.url}/api/registry/agents/{agent.aid}").json()["status"] == "active"


TRAILERS = [
    b"0\r\n" + KEY + b"\r\n\r\n",
    b"0\r\nX-Forwarded-For: 203.0.113.9\r\n\r\n",
    b"0\r\nContent-Length: 5\r\n\r\n",
    b"2\r\n[]\r\n0\r\nX: y\r\n\r\n",
    b"0\r\nX: y\r\nZ:",
]


@pytest.mark.parametrize("body", TRAILERS)
@pytest.mark.parametrize("target", [b"/api/audit", b"/api/livez", b"/api/registry/agents", b"/nope"])
def test_a_trailer_is_refused(server: Process, body: bytes, target: bytes) -> None:
    """Row A2: a trailer is no header; the request is refused and the connection closed."""
    asked = head(b"GET", target, b"Transfer-Encoding: chunked")
    for segments in ((asked + body + SMUGGLED,), (asked, body, SMUGGLED)):
        replies = exchange(server, *segments)
        assert len(replies) == 1
        assert replies[0].status in {400, 401, 404}  # the last two were said before the trailer came
        assert replies[0].headers["x-request-id"] != "smuggled"


def test_a_trailer_never_authenticates(server: Process) -> None:
    """Row A2: neither the key nor the address of a request can follow its head."""
    asked = head(b"GET", b"/api/audit", b"Transfer-Encoding: chunked")
    assert [reply.status for reply in exchange(server, asked, TRAILERS[0])] == [401]
    assert [reply.status for reply in exchange(server, asked + TRAILERS[0])] == [400]


ENDLESS = {
    "trailers": (b"0\r\n", b"X-Trailer: y\r\n"),
    "one trailer": (b"0\r\n", b"x"),
    "a value": (b"0\r\nX: ", b"x"),
    "an extension": (b"2;", b"x"),
    "zeros": (b"", b"0"),
}
MOST_BYTES = 64 * 2**20  # far more than a connection takes while it lingers, and the system on both sides


@pytest.mark.parametrize("kind", ENDLESS)
def test_framing_without_end_is_bounded(server: Process, kind: str) -> None:
    """Row A2: the parser would gather all of it; a few kilobytes are enough to refuse it."""
    before = server.rss_mib()
    start, more = ENDLESS[kind]
    piece = more * (65536 // len(more))
    sent = 0
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as sock, suppress(OSError):
        sock.sendall(chunked() + start)
        while sent < MOST_BYTES:
            sock.sendall(piece)
            sent += len(piece)
    assert sent < MOST_BYTES  # the connection was closed long before
    assert server.rss_mib() - before < 8


POST = b"POST /api/events HTTP/1.1\r\nHost: cp\r\n" + KEY + b"\r\n"
AMBIGUOUS = {
    "both framings": POST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "both, the other way": POST + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
    "a length twice": POST + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n[]",
    "a list of lengths": POST + b"Content-Length: 2, 2\r\n\r\n[]",
    "a signed length": POST + b"Content-Length: +2\r\n\r\n[]",
    "an empty length": POST + b"Content-Length:\r\n\r\n[]",
    "a coding twice": POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "another coding too": POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "chunked not last": POST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "identity": POST + b"Transfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    "another coding": POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "a quoted coding": POST + b'Transfer-Encoding: "chunked"\r\n\r\n0\r\n\r\n',
    "an empty coding": POST + b"Transfer-Encoding:\r\n\r\n0\r\n\r\n",
    "a coding behind a control": POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "a coding in 1.0": POST.replace(b"HTTP/1.1", b"HTTP/1.0") + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a space before the colon": POST + b"Content-Length : 2\r\n\r\n[]",
    "a folded line": POST + b"X: y\r\n Content-Length: 2\r\n\r\n[]",
    "a bare line feed": POST + b"X: y\nContent-Length: 2\r\n\r\n[]",
    "a bare return": POST + b"X: y\rContent-Length: 2\r\n\r\n[]",
    "an end without return": POST + b"Content-Length: 2\r\n\n[]",
    "two hosts": POST + b"Host: other\r\nContent-Length: 2\r\n\r\n[]",
    "version 0.9": b"POST /api/events\r\n\r\n",
    "version 2.0": POST.replace(b"HTTP/1.1", b"HTTP/2.0") + b"Content-Length: 2\r\n\r\n[]",
    "a fragment": POST.replace(b"/api/events", b"/api/events#x") + b"Content-Length: 2\r\n\r\n[]",
    "CONNECT": b"CONNECT cp:80 HTTP/1.1\r\nHost: cp\r\n\r\n",
    "the authority form": b"GET cp:80 HTTP/1.1\r\nHost: cp\r\n\r\n",
}


@pytest.mark.parametrize("kind", AMBIGUOUS)
def test_ambiguous_framing_is_refused(server: Process, kind: str) -> None:
    """Row A1: 400, once, and what follows is never read, whether it came in the same segment or later."""
    before = events_in(server)
    for segments in ((AMBIGUOUS[kind] + SMUGGLED,), (AMBIGUOUS[kind], SMUGGLED)):
        replies = exchange(server, *segments)
        assert [(reply.status, reply.json()["code"]) for reply in replies] == [(400, "BAD_REQUEST")]
        assert replies[0].headers["connection"] == "close"
    assert events_in(server) == before


BROKEN_CHUNKS = [
    b"zz\r\n",
    b"2\n[]\r\n0\r\n\r\n",
    b"2\r\n[]0\r\n\r\n",
    b"0x2\r\n[]\r\n0\r\n\r\n",
    b"2 \r\n[]\r\n0\r\n\r\n",
    b"-2\r\n[]\r\n0\r\n\r\n",
    b"2;\n[]\r\n0\r\n\r\n",
    b"10000000000000002\r\n[]\r\n0\r\n\r\n",
    b"2\r\n[]\r\n0\n\n",
]


@pytest.mark.parametrize("body", BROKEN_CHUNKS)
def test_a_broken_chunk_is_answered_once(server: Process, body: bytes) -> None:
    """Row A1: the same holds for a request that was answered before its body broke."""
    before = events_in(server)
    for segments in ((chunked() + body + SMUGGLED,), (chunked(), body, SMUGGLED)):
        assert [reply.status for reply in exchange(server, *segments)] == [400]
    early = head(b"POST", b"/nope", b"Transfer-Encoding: chunked")
    assert [reply.status for reply in exchange(server, early, body, SMUGGLED)] == [404]
    assert events_in(server) == before


def test_what_was_not_sent_whole_is_not_executed(server: Process) -> None:
    """Row A1: also where the request's body means nothing to its endpoint."""
    agent = new_agent()
    body = manifest(agent)
    with httpx.Client(base_url=server.url) as http:
        token = http.post("/api/registry/enroll", content=body).json()["token"]
        http.post("/api/registry/agents", content=body, headers={"Authorization": f"Bearer {token}"})
    target = f"/api/registry/agents/{agent.aid}".encode()
    for segments in (
        (head(b"DELETE", target, KEY, b"Content-Length: 9"), b"{"),
        (chunked(method=b"DELETE", target=target), b"5\r\nab"),
        (chunked(method=b"DELETE", target=target) + b"zz\r\n",),
        (chunked(method=b"DELETE", target=target) + TRAILERS[1],),
    ):
        exchange(server, *segments, first_secs=0.3)
    assert httpx.get(f"{server.url}{target.decode()}").json()["status"] == "active"
    replies = exchange(server, head(b"DELETE", target, KEY, b"Content-Length: 2"), b"{}")
    assert [reply.status for reply in replies] == [200]


def test_a_refusal_never_overtakes_an_answer(server: Process) -> None:
    """Row A1: requests ahead of a broken one get their own answers, in order; then it is refused, and that is all."""
    asked = [head(b"GET", b"/api/audit?limit=1", KEY, b"X-Request-Id: ahead-%d" % n) for n in range(3)]
    for broken in (b"garbage\r\n\r\n", chunked() + b"zz\r\n", AMBIGUOUS["both framings"], chunked() + TRAILERS[0]):
        replies = exchange(server, b"".join(asked) + broken + SMUGGLED)
        assert [reply.headers["x-request-id"] for reply in replies[:3]] == ["ahead-0", "ahead-1", "ahead-2"]
        assert [reply.status for reply in replies] == [200, 200, 200, 400]
        assert replies[-1].headers["connection"] == "close"


@pytest.mark.parametrize(
    "close", [b"HTTP/1.1\r\nConnection: close", b"HTTP/1.0\r\nConnection: keep-alive", b"HTTP/1.0\r\nX: y"]
)
def test_nothing_follows_a_last_request(server: Process, close: bytes) -> None:
    """Row A1: what comes behind `Connection: close` is not a request."""
    last = head(b"GET", b"/api/audit?limit=1", KEY).replace(b"HTTP/1.1", close)
    for segments in ((last + SMUGGLED,), (last, SMUGGLED)):
        assert [reply.status for reply in exchange(server, *segments)] == [200]


def test_many_requests_at_once_are_held_within_bounds(server: Process) -> None:
    """Row A5: all are answered in order; a flood of them is answered as far as it is held, and closed."""

    def asked(count: int) -> bytes:
        return b"".join(head(b"GET", b"/api/livez", b"X-Request-Id: n%d" % n) for n in range(count))

    ids = [reply.headers["x-request-id"] for reply in exchange(server, asked(100))]
    assert ids == [f"n{n}" for n in range(100)]
    ids = [reply.headers["x-request-id"] for reply in exchange(server, asked(3000))]
    assert ids == [f"n{n}" for n in range(len(ids))]
    assert 16 <= len(ids) < 3000


LIVE = b"GET /api/livez HTTP/1.1\r\n"
WITHOUT_A_HOST = {
    "none": LIVE + b"\r\n",
    "none, with a body": POST.replace(b"Host: cp\r\n", b"") + b"Content-Length: 2\r\n\r\n[]",
    "none beside an absolute target": b"GET http://cp/api/livez HTTP/1.1\r\n\r\n",
    "two": LIVE + b"Host: cp\r\nHost: other\r\n\r\n",
    "two alike": LIVE + b"Host: cp\r\nhost: cp\r\n\r\n",
    "two of 1.0": LIVE.replace(b"1.1", b"1.0") + b"Host: cp\r\nHost: cp\r\n\r\n",
    "a list": LIVE + b"Host: cp, other\r\n\r\n",
    "a path": LIVE + b"Host: cp/\r\n\r\n",
    "a URL": LIVE + b"Host: http://cp\r\n\r\n",
    "a user": LIVE + b"Host: user@cp\r\n\r\n",
    "a query": LIVE + b"Host: cp?x\r\n\r\n",
    "a space": LIVE + b"Host: c p\r\n\r\n",
    "quotes": LIVE + b'Host: "cp"\r\n\r\n',
    "another alphabet": LIVE + "Host: cp.\u4f8b\r\n\r\n".encode(),
    "a named port": LIVE + b"Host: cp:http\r\n\r\n",
    "two ports": LIVE + b"Host: cp:80:80\r\n\r\n",
    "half an address": LIVE + b"Host: [::1\r\n\r\n",
    "an address without brackets": LIVE + b"Host: ::1\r\n\r\n",
    "of 1.0": LIVE.replace(b"1.1", b"1.0") + b"Host: c p\r\n\r\n",
    "an absolute target with a user": b"GET http://cp@other/api/livez HTTP/1.1\r\nHost: cp\r\n\r\n",
    "an absolute target without a host": b"GET http:///api/livez HTTP/1.1\r\nHost: cp\r\n\r\n",
    "an absolute target of another scheme": b"GET ftp://cp/api/livez HTTP/1.1\r\nHost: cp\r\n\r\n",
}


@pytest.mark.parametrize("kind", WITHOUT_A_HOST)
def test_a_request_without_one_valid_host_is_refused(server: Process, kind: str) -> None:
    """RFC 9112, section 3.2: 400, and nothing behind it is read."""
    replies = exchange(server, WITHOUT_A_HOST[kind] + SMUGGLED, quiet_secs=0.05)
    assert [(reply.status, reply.json()["code"]) for reply in replies] == [(400, "BAD_REQUEST")]


@pytest.mark.parametrize(
    "host", ["", "cp", "cp:", "cp:4000", "a_b.example", "c%70", "192.0.2.1:80", "[2001:db8::1]:80", " cp \t"]
)
def test_a_host_may_be_any_host(server: Process, host: str) -> None:
    """RFC 3986, section 3.2.2; an empty one is for targets without an authority, and a probe may send it."""
    asked = LIVE + b"Host:" + host.encode() + b"\r\nConnection: close\r\n\r\n"
    assert [reply.status for reply in exchange(server, asked)] == [200]


def test_old_probes_need_no_host(server: Process) -> None:
    """HTTP/1.0 has none; HAProxy's `option httpchk` without a version sends this."""
    for method, status in ((b"OPTIONS", 204), (b"GET", 200)):
        assert send(server.port, method + b" /api/livez HTTP/1.0\r\n\r\n").status == status


@pytest.mark.parametrize(
    ("target", "host", "status"),
    [
        ("http://cp/api/livez?x", "other", 200),
        ("HTTP://a_b:80/api/livez", "other", 200),
        ("https://[::1]/api/livez", "", 200),
        ("http://cp", "cp", 404),
        ("http://cp?x=/api/livez", "cp", 404),
        ("http://rebound.example/console/events", "localhost", 421),
        ("http://localhost/console/events", "rebound.example", 303),
    ],
)
def test_an_absolute_target_names_the_host(server: Process, target: str, host: str, status: int) -> None:
    """RFC 9112, section 3.2.2: it is accepted, and what `Host` says beside it is ignored."""
    asked = f"GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()
    assert send(server.port, asked).status == status


def test_the_log_names_no_smuggled_request(server: Process) -> None:
    """Row A1: none of the requests above was executed."""
    assert "smuggled" not in server.log()
