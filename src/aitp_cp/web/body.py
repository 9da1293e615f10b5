"""Request bodies: read within a limit, then decoded into a struct; an error names the member that is wrong."""

import asyncio
from collections.abc import AsyncIterable, Callable
from contextlib import suppress
from typing import Any, TypeVar

import msgspec
from starlette.requests import ClientDisconnect, Request

from aitp_cp.errors import BodyInvalid, EncodingUnsupported, PayloadTooLarge
from aitp_cp.protocol import http_signature, json_guard
from aitp_cp.web.context import context_of
from aitp_cp.web.endpoint import BODY_LIMIT

READ_TIMEOUT_SECS = 30.0
SWALLOW_BYTES = 1024 * 1024
SWALLOW_SECS = 2.0
_UTF8_MARK = b"\xef\xbb\xbf"
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")  # UTF-32 in little-endian order begins with the first one too

T = TypeVar("T")


Count = Callable[[int], None]


async def read_body(request: Request, count: Count | None = None) -> bytes:
    """Return the whole body without a leading UTF-8 byte order mark; `count` gets the size of each chunk.

    Raises `PayloadTooLarge` once more bytes arrived than the endpoint allows, `EncodingUnsupported` for a content
    coding, `BodyInvalid` for UTF-16 and for a body that its client does not send to the end, or not in time, and
    `SignatureInvalid` for a body that the signer of the request did not send.
    """
    _refuse_codings(request)
    body = await _whole(request, count)
    http_signature.check_body(body, context_of(request).digests)
    if body.startswith(_UTF16_MARKS):
        raise BodyInvalid("the body must be JSON in UTF-8, not UTF-16")
    return body.removeprefix(_UTF8_MARK)


def _refuse_codings(request: Request) -> None:
    """Refuse a compressed body unread: its size says nothing about what it decodes to."""
    listed = ",".join(request.headers.getlist("content-encoding")).split(",")
    if any(coding.strip(" \t").lower() not in {"", "identity"} for coding in listed):
        raise EncodingUnsupported(headers={"Accept-Encoding": "identity"})


async def _whole(request: Request, count: Count | None) -> bytes:
    endpoint = context_of(request).endpoint
    limit = endpoint.body_limit if endpoint else BODY_LIMIT
    chunks = request.stream()
    try:
        async with asyncio.timeout(READ_TIMEOUT_SECS):
            body = await _bounded(chunks, limit, count) if _declared(request) <= limit else None
        if body is not None:
            return body
        # Reading on would tell a client that expects 100 to send the body, which is best never sent.
        if "expect" not in request.headers:
            await _swallow(chunks)
    except ClientDisconnect as gone:
        raise BodyInvalid("the client closed the connection before the body was complete") from gone
    except TimeoutError as late:
        raise BodyInvalid(
            f"the body did not arrive in {READ_TIMEOUT_SECS:g} s", headers={"Connection": "close"}
        ) from late
    raise PayloadTooLarge(f"the body is larger than {limit} bytes", headers={"Connection": "close"})


async def _bounded(chunks: AsyncIterable[bytes], limit: int, count: Count | None = None) -> bytes | None:
    body = bytearray()
    async for chunk in chunks:
        if count is not None:
            count(len(chunk))
        body += chunk
        if len(body) > limit:
            return None
    return bytes(body)


def _declared(request: Request) -> int:
    length = request.headers.get("content-length", "0")
    return int(length[:20]) if length.isdigit() else 0


async def _swallow(chunks: AsyncIterable[bytes]) -> None:
    """Read the rest of a refused body, within limits: many clients read no response before they have sent it all."""
    with suppress(TimeoutError):
        async with asyncio.timeout(SWALLOW_SECS):
            await _bounded(chunks, SWALLOW_BYTES)


def decode(body: bytes, shape: type[T]) -> T:
    """Return the body as `shape`; raises `BodyInvalid` naming the member that is wrong."""
    value = json_guard.decode(body)
    if not isinstance(value, dict):
        raise BodyInvalid("the body must be a JSON object")
    return convert(value, shape)


def convert(value: Any, shape: type[T]) -> T:
    try:
        return msgspec.convert(value, shape)
    except msgspec.ValidationError as refused:
        raise BodyInvalid(str(refused)) from refused
