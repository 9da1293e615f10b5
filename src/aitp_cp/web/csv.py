"""Tables for spreadsheets (RFC 4180), in which no cell is a formula (CWE-1236)."""

import csv
import io
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from aitp_cp.web.export import Pages

MEDIA_TYPE = "text/csv"
_STARTS_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def cell(value: object) -> str:
    """Return the text of a cell; text that a spreadsheet would take for a formula gets an apostrophe before it."""
    text = "" if value is None else str(value)
    return f"'{text}" if isinstance(value, str) and text.startswith(_STARTS_FORMULA) else text


async def rows(columns: Mapping[str, Callable[[Any], object]], pages: Pages) -> AsyncIterator[bytes]:
    """Yield the head of a table and a line for each record, whose cells `columns` reads."""
    yield line(columns)
    async for page in pages:
        for record in page:
            yield line(column(record) for column in columns.values())


def line(values: Any) -> bytes:
    out = io.StringIO()
    csv.writer(out, lineterminator="\r\n").writerow([cell(value) for value in values])
    return out.getvalue().encode()
