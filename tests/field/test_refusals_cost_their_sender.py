"""Requests that are none, or that mean nothing: one line of log each, and a token of their sender's."""

import asyncio
import re

import pytest

from aitp_cp.web import account
from aitp_cp.web.account import LineBudget
from tests.support.app import API_KEY
from tests.support.listening import Listening, listening

pytestmark = pytest.mark.anyio

LIMITS = {"RATE_LIMIT_ENABLED": "true", "RATE_LIMIT_PUBLIC_PER_IP_MIN": "5", "RATE_LIMIT_API_KEY_PER_MIN": "3"}
REFUSED = {
    "a chunk size": b"POST /api/registry/enroll HTTP/1.1\r\nHost: cp\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "a chunk size, nowhere": b"POST /nope HTTP/1.1\r\nHost: cp\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "garbage": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "a large header": b"GET /api/livez HTTP/1.1\r\nHost: cp\r\nX: " + b"x" * 9000 + b"\r\nConnection: close\r\n\r\n",
    "an unknown route": b"GET /nope HTTP/1.1\r\nHost: cp\r\nConnection: close\r\n\r\n",
    "another method": b"PUT /api/audit HTTP/1.1\r\nHost: cp\r\nConnection: close\r\n\r\n",
}


def status(received: bytes) -> int:
    return int(received.split(b" ", 2)[1])


@pytest.mark.parametrize("kind", REFUSED)
async def test_refusals_spend_tokens_and_one_line(
    database_url: str, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    """Row A11: 60 bytes cost 3 KB of traceback, without any limit."""
    async with listening(database_url, None, **LIMITS) as server:
        said = [status(await server.ask(REFUSED[kind])) for _ in range(8)]
        assert 429 not in said[: 5 if "chunk" not in kind else 2]
        assert said[-1] == 429
        public = await server.ask(b"GET /api/registry/agents HTTP/1.1\r\nHost: cp\r\nConnection: close\r\n\r\n")
        assert status(public) == 429
        assert server.metric("rate_limit_drops", bucket="public-ip") >= 3
        livez = await server.ask(b"GET /api/livez HTTP/1.1\r\nHost: cp\r\nConnection: close\r\n\r\n")
        assert status(livez) == 200
    log = capsys.readouterr().out
    assert re.search(r"code=RATE_LIMITED .*reason=public-ip", log)
    assert "Traceback" not in log
    assert "error" not in re.findall(r"\[(\w+) *\]", log)
    assert len(re.findall(r"status=4", log)) <= 8 + 1 + (8 if "chunk" in kind else 0)


BODY = b"GET /api/audit HTTP/1.1\r\nHost: cp\r\nTransfer-Encoding: chunked\r\n\r\n"
UNPARSED = {
    "no host": ((b"GET /api/livez HTTP/1.1\r\n\r\n",), "unmatched", "the request has no Host"),
    "garbage": ((REFUSED["garbage"],), "unmatched", "the request is not valid HTTP"),
    "a trailer": ((BODY + b"0\r\nX: y\r\n\r\n",), "/api/audit", "trailers are not accepted"),
    "a trailer, with an id": (
        (BODY.replace(b"Host: cp", b"Host: cp\r\nX-Request-Id: the-clients-own") + b"0\r\nX: y\r\n\r\n",),
        "/api/audit",
        "trailers are not accepted",
    ),
    "a chunk size, later": (
        (b"POST /api/registry/enroll HTTP/1.1\r\nHost: cp\r\nTransfer-Encoding: chunked\r\n\r\n", b"zz\r\n"),
        "/api/registry/enroll",
        "the request is not valid HTTP",
    ),
}


@pytest.mark.parametrize("kind", UNPARSED)
async def test_the_log_says_what_the_client_was_told(
    database_url: str, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    """Rows A2 and A11: the log had another id, another status, and not what was wrong with the bytes."""
    segments, route, sentence = UNPARSED[kind]
    async with listening(database_url) as server:
        reader, writer = await server.open(segments[0])
        for segment in segments[1:]:
            await asyncio.sleep(0.05)  # the application has begun to read the body
            writer.write(segment)
        async with asyncio.timeout(10):
            received = (await reader.read()).decode()
        writer.close()
    request_id = re.findall(r"x-request-id: (\S+)", received)[0]
    assert (request_id == "the-clients-own") == ("with an id" in kind)
    (line,) = [line for line in capsys.readouterr().out.splitlines() if request_id in line]
    assert f'"error":"{sentence}"' in received
    for part in (f"reason='{sentence}'", f"route={route} ", "status=400", "code=BAD_REQUEST"):
        assert part in f"{line} ", line


async def test_a_key_pays_for_its_own_mistakes(database_url: str) -> None:
    """Row A11: an unknown route with a valid key spends the key's tokens, not those of its address."""
    asked = f"GET /nope HTTP/1.1\r\nHost: cp\r\nConnection: close\r\nAuthorization: Bearer {API_KEY}\r\n\r\n".encode()
    async with listening(database_url, None, **LIMITS) as server:
        assert [status(await server.ask(asked)) for _ in range(4)] == [404, 404, 404, 429]
        assert await _public(server) == 200


async def _public(server: Listening) -> int:
    return status(await server.ask(b"GET /api/registry/agents HTTP/1.1\r\nHost: cp\r\nConnection: close\r\n\r\n"))


async def test_lines_about_strangers_are_bounded(
    database_url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row A11: beyond so many lines a second the number of the others is said once."""
    monkeypatch.setattr(account, "_refusal_lines", LineBudget(5))
    async with listening(database_url, RATE_LIMIT_ENABLED="false") as server:
        for _ in range(40):
            await server.ask(REFUSED["an unknown route"])
        await asyncio.sleep(1.1)
        await server.ask(REFUSED["an unknown route"])
    log = capsys.readouterr().out
    assert log.count("status=404") < 40
    assert "refused_requests_not_logged" in log
