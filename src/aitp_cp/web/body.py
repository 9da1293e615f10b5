"""Request bodies: bounded on the bytes read, then decoded into a struct or refused by name."""

from typing import Any, TypeVar

import msgspec
from starlette.requests import ClientDisconnect, Request

from aitp_cp.errors import BodyInvalid, PayloadTooLarge
from aitp_cp.protocol import json_guard
from aitp_cp.web.context import context_of
from aitp_cp.web.endpoint import BODY_LIMIT

T = TypeVar("T")


async def read_body(request: Request) -> bytes:
    """The whole body; raises `PayloadTooLarge` once more bytes arrived than the endpoint allows."""
    endpoint = context_of(request).endpoint
    limit = endpoint.body_limit if endpoint else BODY_LIMIT
    declared = request.headers.get("content-length", "0")
    if declared.isdigit() and int(declared[:20]) > limit:
        raise _too_large(limit)
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > limit:
                raise _too_large(limit)
    except ClientDisconnect as gone:
        raise BodyInvalid("the client closed the connection before the body was complete") from gone
    return bytes(body)


def _too_large(limit: int) -> PayloadTooLarge:
    # The rest of the body is not wanted, so the connection cannot be used again.
    return PayloadTooLarge(f"the body is larger than {limit} bytes", headers={"Connection": "close"})


def decode(body: bytes, shape: type[T]) -> T:
    """The body as `shape`; raises `BodyInvalid` naming the member that is wrong."""
    value = json_guard.decode(body)
    if not isinstance(value, dict):
        raise BodyInvalid("the body must be a JSON object")
    return convert(value, shape)


def convert(value: Any, shape: type[T]) -> T:
    try:
        return msgspec.convert(value, shape)
    except msgspec.ValidationError as refused:
        raise BodyInvalid(str(refused)) from refused
