"""Long responses, streamed: while the client reads, no pool connection is held and at most one page is in memory."""

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Annotated, Any, ClassVar, TypeVar
from urllib.parse import quote

import msgspec
from msgspec import Meta
from starlette.responses import StreamingResponse

from aitp_cp.db import Connection
from aitp_cp.errors import BadRequest
from aitp_cp.protocol.json_lines import one_line
from aitp_cp.runtime import Runtime
from aitp_cp.web.responses import encode

# An event's payload may have 64 KiB, so a page has at most a few megabytes.
PAGE_ROWS = 50
CHUNK_BYTES = 32 * 1024
MAX_NAME = 150

_UNSAFE = re.compile(r"[^A-Za-z0-9._:@+=~-]")

Place = TypeVar("Place")
Page = tuple[Sequence[Any], Place | None]
Pages = AsyncIterator[Sequence[Any]]


class Format(StrEnum):
    """One JSON document, or a `{"kind","record"}` object per line."""

    JSON = "json"
    JSONL = "jsonl"

    @property
    def media_type(self) -> str:
        return "application/json" if self is Format.JSON else "application/x-ndjson"


@dataclass(frozen=True, slots=True)
class One:
    """A member of the document that is there at once; without a `kind` it has no line of its own."""

    name: str
    record: Any
    kind: str | None = None


@dataclass(frozen=True, slots=True)
class Many:
    """A member of the document that is a list read page by page, followed by its length under `count_as`."""

    name: str
    kind: str
    pages: Pages
    count_as: str | None = None


Part = One | Many


class ExportQuery(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    REFUSAL: ClassVar = BadRequest

    format: Annotated[Format, Meta(description="one JSON document, or one `{kind, record}` per line")] = Format.JSON


async def pages(
    rt: Runtime,
    read: Callable[[Connection, Place | None, int], Awaitable[Page[Place]]],
    at_most: int | None = None,
) -> Pages:
    """What `read(conn, place, limit)` gives from place to place, until it names none or `at_most` rows were read."""
    place: Place | None = None
    left = at_most
    while left is None or left > 0:
        rows, place = await rt.db.read(partial(_read, read, place, PAGE_ROWS if left is None else min(PAGE_ROWS, left)))
        if rows:
            yield rows
        if place is None:
            return
        left = None if left is None else left - len(rows)


async def _read(
    read: Callable[[Connection, Place | None, int], Awaitable[Page[Place]]],
    place: Place | None,
    limit: int,
    conn: Connection,
) -> Page[Place]:
    return await read(conn, place, limit)


async def stream(parts: Sequence[Part], format: Format = Format.JSON, filename: str | None = None) -> StreamingResponse:
    """Return the response made of `parts`, as an attachment when `filename` (without extension) is given.

    What fails before the first chunk is still an ordinary error; after that the response is cut short.
    """
    body = _document(parts) if format is Format.JSON else _lines(parts)
    return await stream_bytes(body, format.media_type, None if filename is None else f"{filename}.{format}")


async def stream_bytes(pieces: AsyncIterator[bytes], media_type: str, filename: str | None = None) -> StreamingResponse:
    """Return the response made of `pieces`, as an attachment when `filename` is given; fails as `stream` does."""
    body = _chunked(pieces)
    first = await anext(body, b"")
    headers = {} if filename is None else {"Content-Disposition": attachment(filename)}
    return StreamingResponse(_joined(first, body), headers=headers, media_type=media_type)


def attachment(filename: str) -> str:
    """Return a Content-Disposition (RFC 6266) whose header no filename can break; the exact name in RFC 5987 form."""
    stem, dot, extension = filename.rpartition(".")
    name = stem[:MAX_NAME] + dot + extension
    plain = _UNSAFE.sub("_", name)
    header = f'attachment; filename="{plain}"'
    return header if plain == name else f"{header}; filename*=UTF-8''{quote(name, safe='', errors='replace')}"


async def _document(parts: Sequence[Part]) -> AsyncIterator[bytes]:
    separator = b"{"
    for part in parts:
        yield separator + encode(part.name) + b":"
        separator = b","
        if isinstance(part, One):
            yield encode(part.record)
            continue
        count = 0
        yield b"["
        async for page in part.pages:
            for record in page:
                yield (b"," if count else b"") + encode(record)
                count += 1
        yield b"]" if part.count_as is None else b"]," + encode(part.count_as) + b":" + encode(count)
    yield b"}"


async def _lines(parts: Sequence[Part]) -> AsyncIterator[bytes]:
    for part in parts:
        if isinstance(part, One):
            if part.kind is not None:
                yield _line(part.kind, part.record)
            continue
        async for page in part.pages:
            for record in page:
                yield _line(part.kind, record)


def _line(kind: str, record: Any) -> bytes:
    return one_line(encode({"kind": kind, "record": record})) + b"\n"


async def _chunked(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    waiting = bytearray()
    async for piece in pieces:
        waiting += piece
        if len(waiting) >= CHUNK_BYTES:
            yield bytes(waiting)
            waiting.clear()
    if waiting:
        yield bytes(waiting)


async def _joined(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for chunk in rest:
        yield chunk
