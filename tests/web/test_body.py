"""What a request body may be (contract, section 2)."""

from collections.abc import AsyncIterator

import httpx
import pytest

from tests.support.app import AUTH, App

pytestmark = pytest.mark.anyio

ENROLL = "/api/registry/enroll"
EVENTS = "/api/events"
SMALL, LARGE = 64 * 1024, 256 * 1024


async def post(app: App, path: str, content: bytes | AsyncIterator[bytes], **headers: str) -> httpx.Response:
    return await app.http.post(path, content=content, headers=AUTH | headers)


async def pieces(size: int) -> AsyncIterator[bytes]:
    """A body whose length nobody declares."""
    for start in range(0, size, 1000):
        yield b" " * min(1000, size - start)


@pytest.mark.parametrize(("path", "limit"), [(ENROLL, SMALL), ("/api/registry/agents", SMALL), (EVENTS, LARGE)])
async def test_the_limit_is_on_the_bytes_read(app: App, path: str, limit: int) -> None:
    for too_long in (b" " * (limit + 1), pieces(limit + 1)):
        response = await post(app, path, too_long)
        assert (response.status_code, response.json()["code"]) == (413, "PAYLOAD_TOO_LARGE")
    for just_fits in (b" " * limit, pieces(limit)):
        response = await post(app, path, just_fits)
        assert (response.status_code, response.json()["code"]) == (400, "BODY_INVALID")


async def test_a_length_that_lies_changes_nothing(app: App) -> None:
    response = await post(app, ENROLL, b" " * (SMALL + 1), **{"Content-Length": "5"})
    assert (response.status_code, response.json()["code"]) == (413, "PAYLOAD_TOO_LARGE")


@pytest.mark.parametrize("path", [ENROLL, "/api/registry/agents", EVENTS])
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"{",
        b"nonsense",
        b"{'a': 1}",
        b'{"a": NaN}',
        b'{"a": Infinity}',
        b'{"a": 1,}',
        b'{"a": 1} {"b": 2}',
        b"\xff\xfe",
        b'"\xed\xa0\x80"',
        b'{"a": "\\ud800"}',
        b'{"\\udfff": 1}',
        "{}".encode("utf-16"),
        b'{"a": 1e999999}',
        b"9" * 5000,
        b"[" * 60_000,
        b'{"a":' * 65 + b"1" + b"}" * 65,
    ],
    ids=lambda value: repr(value[:24]) if isinstance(value, bytes) else value,
)
async def test_what_is_no_json_or_cannot_be_kept(app: App, path: str, body: bytes) -> None:
    response = await post(app, path, body)
    assert (response.status_code, response.json()["code"]) == (400, "BODY_INVALID")
    assert set(response.json()) == {"error", "code"}


async def test_depth_is_bounded_before_anything_recurses(app: App) -> None:
    response = await post(app, ENROLL, b"[" * 30_000 + b"]" * 30_000)
    assert (response.status_code, response.json()["code"]) == (400, "BODY_INVALID")


async def test_the_content_type_does_not_matter(app: App) -> None:
    for content_type in ("text/plain", "application/x-www-form-urlencoded", "application/json; charset=utf-8", ""):
        response = await post(app, EVENTS, b"[]", **{"Content-Type": content_type})
        assert response.status_code == 200
