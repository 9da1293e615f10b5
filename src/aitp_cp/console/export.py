"""Lists as files: what a filter matches, as a table or as lines of JSON; each export is a row of the audit."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import msgspec
from msgspec import UNSET
from starlette.requests import Request
from starlette.responses import Response

from aitp_cp.audit import service as audit
from aitp_cp.audit.routes import actor_of
from aitp_cp.clock import iso
from aitp_cp.db import Connection
from aitp_cp.db.keyset import Order, Place, Window
from aitp_cp.db.views import Json
from aitp_cp.errors import BadRequest
from aitp_cp.protocol.json_lines import one_line
from aitp_cp.runtime import Runtime
from aitp_cp.web import csv
from aitp_cp.web.export import Page, Pages, pages, stream_bytes
from aitp_cp.web.query import PageQuery
from aitp_cp.web.responses import encode

MAX_ROWS = 100_000
FORMATS = {"csv": csv.MEDIA_TYPE, "jsonl": "application/x-ndjson"}


class Source(msgspec.Struct, frozen=True):
    """A list that can be exported; `name` is the member of its pages that holds the rows."""

    name: str
    order: Order
    columns: Mapping[str, Callable[[Any], object]]
    read: Callable[[Connection, Window], Awaitable[Json[Any]]]


async def export(rt: Runtime, request: Request, source: Source, query: PageQuery) -> Response:
    """Stream what matches, newest first, at most `MAX_ROWS`; the file and the audit tell whether that is all."""
    format, now = request.query_params.get("format", "csv"), rt.clock()
    if format not in FORMATS:
        raise BadRequest(f"format is {' or '.join(FORMATS)}")

    async def page_at(conn: Connection, place: Place | None, limit: int) -> Page[Place]:
        page = (await source.read(conn, Window(limit, before=place))).read()
        following = None if page.next_before is UNSET else source.order.read(page.next_before)
        return getattr(page, source.name), following

    async with rt.db.transaction() as conn:
        beyond = (await source.read(conn, Window(1, offset=MAX_ROWS))).read()
        truncated = bool(getattr(beyond, source.name))
        members = msgspec.to_builtins(query).items()
        filters = {name: value for name, value in members if value is not None and name not in ("limit", "offset")}
        details = {**filters, "list": source.name, "format": format, "truncated": truncated}
        await audit.record(conn, "console.export", actor_of(rt, request), source.name, details, now)
    rows = pages(rt, page_at, at_most=MAX_ROWS)
    pieces = _table(source, rows, truncated) if format == "csv" else _lines(rows, truncated)
    return await stream_bytes(pieces, FORMATS[format], f"{source.name}-{iso(now)[:10]}.{format}")


async def _table(source: Source, batches: Pages, truncated: bool) -> AsyncIterator[bytes]:
    async for line in csv.rows(source.columns, batches):
        yield line
    if truncated:
        yield csv.line([f"truncated after {MAX_ROWS} rows: older ones match"])


async def _lines(batches: Pages, truncated: bool) -> AsyncIterator[bytes]:
    async for batch in batches:
        for row in batch:
            yield one_line(encode(row)) + b"\n"
    if truncated:
        yield encode({"truncated": True, "rows": MAX_ROWS}) + b"\n"
