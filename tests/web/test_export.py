"""Long answers as streams: bounded, well-formed, and safe to name after anything."""

import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from email.message import Message
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aitp_cp.db import Connection
from aitp_cp.errors import BadRequest, DatabaseUnavailable
from aitp_cp.web.export import CHUNK_BYTES, PAGE_ROWS, ExportQuery, Format, Many, One, Part, attachment, pages, stream
from aitp_cp.web.query import decode_query
from tests.events.support import runtime

pytestmark = pytest.mark.anyio

ROW = {"padding": "x" * 1000}


async def listed(*chunks: list[Any]) -> AsyncIterator[list[Any]]:
    for chunk in chunks:
        yield chunk


async def whole(response: Any) -> bytes:
    return b"".join([chunk async for chunk in response.body_iterator])


async def numbers(conn: Connection, place: int | None, limit: int) -> tuple[list[int], int | None]:
    """A table of 250 numbers, read on by place."""
    query = "SELECT n FROM generate_series(1, 250) AS n WHERE n > $1 ORDER BY n LIMIT $2"
    found = [row["n"] for row in await conn.fetch(query, place or 0, limit)]
    return found, found[-1] if len(found) == limit else None


async def test_a_document_is_json_however_much_there_is() -> None:
    for rows in ([], [[1]], [[1, 2], [3]]):
        response = await stream([One("one", {"a": 1}), Many("many", "row", listed(*rows), "count"), One("last", "z")])
        flat = [number for page in rows for number in page]
        assert json.loads(await whole(response)) == {"one": {"a": 1}, "many": flat, "count": len(flat), "last": "z"}
        assert response.media_type == "application/json"


async def test_lines_hold_one_record_each() -> None:
    parts: list[Part] = [
        One("one", {"a": "\n"}, "first"),
        Many("many", "row", listed([1], [2])),
        One("exportedAt", "now"),
    ]
    response = await stream(parts, Format.JSONL, "name")
    assert response.headers["content-type"] == "application/x-ndjson"
    assert response.headers["content-disposition"] == 'attachment; filename="name.jsonl"'
    assert [json.loads(line) for line in (await whole(response)).splitlines()] == [
        {"kind": "first", "record": {"a": "\n"}},
        {"kind": "row", "record": 1},
        {"kind": "row", "record": 2},
    ]


async def test_only_what_is_sent_is_read() -> None:
    read = 0

    async def endless() -> AsyncIterator[list[Any]]:
        nonlocal read
        while True:
            read += 1
            yield [ROW]

    response = await stream([Many("rows", "row", endless())])
    sent = 0
    async with aclosing(response.body_iterator) as chunks:  # type: ignore[type-var]
        async for chunk in chunks:
            assert len(chunk) <= CHUNK_BYTES + 2000
            sent += len(chunk)
            assert read * 1000 <= sent + CHUNK_BYTES + 2000
            if sent > 50 * CHUNK_BYTES:
                break


async def test_no_connection_is_held_between_pages(shared_database_url: str) -> None:
    seen: list[int] = []
    async with runtime(shared_database_url) as rt:
        async for page in pages(rt, numbers):
            assert rt.db.in_use == 0
            assert len(page) <= PAGE_ROWS
            seen += page
    assert seen == list(range(1, 251))


@pytest.mark.parametrize("at_most", [0, 1, PAGE_ROWS, PAGE_ROWS + 1, 250, 1000])
async def test_pages_end_at_their_limit(shared_database_url: str, at_most: int) -> None:
    async with runtime(shared_database_url) as rt:
        seen = [number async for page in pages(rt, numbers, at_most) for number in page]
    assert seen == list(range(1, min(at_most, 250) + 1))


async def test_what_fails_at_once_is_an_ordinary_error() -> None:
    async def broken() -> AsyncIterator[list[Any]]:
        raise DatabaseUnavailable
        yield []

    with pytest.raises(DatabaseUnavailable):
        await stream([One("one", 1), Many("many", "row", broken())])


def test_a_format_is_json_unless_asked_and_never_guessed() -> None:
    assert decode_query(b"", ExportQuery).format is decode_query(b"format=json", ExportQuery).format is Format.JSON
    assert decode_query(b"format=jsonl", ExportQuery).format is Format.JSONL
    with pytest.raises(BadRequest):
        decode_query(b"format=xml", ExportQuery)


@given(name=st.text(st.characters(exclude_characters="\0"), max_size=400))
def test_no_name_breaks_the_header(name: str) -> None:
    header = attachment(f"{name}.json")
    assert header.isascii()
    assert header.isprintable()
    parsed = Message()
    parsed["content-disposition"] = header
    assert parsed.get_content_disposition() == "attachment"
    plain, _, exact = header.removeprefix('attachment; filename="').partition('"')
    assert plain.endswith(".json")
    assert '"' not in plain
    assert "\\" not in plain
    if exact:
        told = unquote(exact.removeprefix("; filename*=UTF-8''"), errors="strict")
        assert told == (name[:150] + ".json").encode(errors="replace").decode()
    else:
        assert plain == name[:150] + ".json"


def test_an_ordinary_name_is_kept() -> None:
    assert attachment("agent-aid:pubkey:p256:Ab_-9.jsonl") == 'attachment; filename="agent-aid:pubkey:p256:Ab_-9.jsonl"'
    assert attachment("é.json") == "attachment; filename=\"_.json\"; filename*=UTF-8''%C3%A9.json"
