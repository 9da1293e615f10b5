"""Keyset paging: the order of a list, the position of a row in it, and the cursor of the next page.

A cursor is base64url of a JSON array: the name of the list, then the last row's value of each column of the order. It
holds only the position, so it stays valid after restarts, on other replicas, and without the row itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec

from aitp_cp.clock import EPOCH
from aitp_cp.db import times
from aitp_cp.db.pages import PAGE_BYTES, within_bytes
from aitp_cp.db.pool import Connection, Record
from aitp_cp.db.where import Where
from aitp_cp.errors import FilterInvalid
from aitp_cp_client.wire import base64url

MAX_CURSOR_CHARACTERS = 6000  # a namespace of 128 and an AID of 512 characters, all of four bytes, take 3,500

Place = tuple[Any, ...]

_CASTS = {datetime: "timestamptz", str: "text", UUID: "uuid", int: "bigint"}
_MICROSECOND = timedelta(microseconds=1)
_MAX_BIGINT = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Key:
    """One column of an order; `absent` stands for null, which in a descending order comes before every value."""

    column: str
    kind: type
    descending: bool = False
    absent: Any = None

    @property
    def sql(self) -> str:
        return f"{self.column} DESC" if self.descending else self.column

    @property
    def beyond(self) -> str:
        return "<" if self.descending else ">"


@dataclass(frozen=True, slots=True)
class Window:
    """The rows to read: at most `limit`, after `offset` rows or after the position `before`."""

    limit: int
    offset: int = 0
    before: Place | None = None

    @property
    def rows(self) -> int:
        """One row more than the limit, to see whether there is another page."""
        return self.limit + 1


@dataclass(frozen=True, slots=True)
class Page:
    """The rows of a page, and where the next one begins: position and cursor, None and unset on the last."""

    rows: Sequence[Record]
    next: Place | None
    next_before: str | msgspec.UnsetType


class Order:
    """The total order of one list, by two columns; `name` distinguishes its cursors from those of other lists."""

    def __init__(self, name: str, first: Key, second: Key) -> None:
        self.name = name
        self.keys = (first, second)
        self.sql = f"{first.sql}, {second.sql}"
        self.columns = f"{first.column}, {second.column}"

    def restrict(self, where: Where, position: Place | None) -> None:
        """Restrict to the rows after a position; None means all."""
        if position is None:
            return
        first, second = self.keys
        values = [f"{where.bind(value)}::{_CASTS[key.kind]}" for key, value in zip(self.keys, position, strict=True)]
        if first.descending == second.descending:
            where.always(f"({first.column}, {second.column}) {first.beyond} ({', '.join(values)})")
        else:  # an index serves the first condition, and the second drops the ties that were shown
            where.always(
                f"{first.column} {first.beyond}= {values[0]} AND ({first.column} {first.beyond} {values[0]}"
                f" OR {second.column} {second.beyond} {values[1]})"
            )

    def select(self, columns: str, table: str) -> str:
        """Return the statement of a page of `table`, for `fetch` to complete."""
        return f"SELECT {columns} FROM {table} WHERE {{where}} ORDER BY {self.sql} LIMIT {{limit}} OFFSET {{offset}}"  # noqa: S608 - the parts are constants of a store

    def list(self, columns: str, table: str, *, size: str, most: int = PAGE_BYTES) -> str:
        """Return the same, ended before the sum of `size`, the bytes of a row, exceeds `most`."""
        return within_bytes(self.select(columns, table), columns=columns, size=size, order=self.sql, most=most)

    async def fetch(self, conn: Connection, statement: str, where: Where, window: Window, **parts: str) -> Page:
        """Read the rows of `window` that match; `parts` complete the statement, too."""
        self.restrict(where, window.before)
        limit = where.rows(window.rows)
        offset = where.rows(window.offset) if window.offset else "0"  # a statement may have no place for it
        complete = statement.format(where=where.sql(), limit=limit, offset=offset, **parts)
        return self.page(await conn.fetch(complete, *where.args), window)

    def page(self, rows: Sequence[Record], window: Window) -> Page:
        """Cut the rows of `window` to its limit; a page that is limited in bytes has a column `more`."""
        kept = rows[: window.limit]
        if not kept or not kept[-1].get("more", len(rows) > len(kept)):
            return Page(kept, None, msgspec.UNSET)
        place = self.place(kept[-1])
        return Page(kept, place, self.cursor(place))

    def place(self, row: Record) -> Place:
        return tuple(key.absent if row[key.column] is None else row[key.column] for key in self.keys)

    def cursor(self, place: Place) -> str:
        return base64url.encode(msgspec.json.encode([self.name, *map(_written, place)]))

    def read(self, cursor: str) -> Place:
        """Decode a cursor of this list; raise `FilterInvalid`."""
        try:
            name, *values = _decoded(cursor)
            if name != self.name:
                raise FilterInvalid("before is the cursor of another list")
            return tuple(_value(key.kind, value) for key, value in zip(self.keys, values, strict=True))
        except (ValueError, OverflowError, TypeError):
            raise FilterInvalid("before is not a cursor of this list: send nextBefore unchanged") from None


def _decoded(cursor: str) -> list[Any]:
    if len(cursor) > MAX_CURSOR_CHARACTERS:
        raise ValueError(cursor[:20])
    text = base64url.decode(cursor)
    if base64url.encode(text) != cursor:  # characters that mean nothing were left out
        raise ValueError(cursor[:20])
    return msgspec.json.decode(text, type=list[Any])


def _written(value: Any) -> Any:
    if isinstance(value, datetime):  # finer than what the API shows: older rows have microseconds
        micros = times.micros_beyond(value)
        return (value.astimezone(UTC) - EPOCH) // _MICROSECOND if micros is None else [micros]
    return value


def _value(kind: type, written: Any) -> Any:
    """Convert a value of a cursor; raise `ValueError`, `OverflowError` or `TypeError` if no row can hold it."""
    if kind is datetime and type(written) is int:
        return EPOCH + written * _MICROSECOND
    if kind is datetime and isinstance(written, list) and [type(micros) for micros in written] == [int]:
        return times.beyond(written[0])
    if kind is UUID and isinstance(written, str):
        return UUID(written)
    if kind is int and type(written) is int and abs(written) <= _MAX_BIGINT:
        return written
    if kind is str and isinstance(written, str) and "\0" not in written:
        written.encode()  # a lone surrogate is refused
        return written
    raise ValueError(kind.__name__)
