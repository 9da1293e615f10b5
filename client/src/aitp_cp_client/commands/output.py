"""Tables for people, JSON for scripts; nothing an agent chose to be called reaches a terminal as a command."""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from aitp_cp_client.commands import console
from aitp_cp_client.paging import Fetch, rows
from aitp_cp_client.wire.times import iso

Row = TypeVar("Row")
Columns = Mapping[str, Callable[[Row], object]]

# The server's own limit of one page.
PAGE = 1000
# More than any row has.
WIDE = 10_000


class _Screen(Console):
    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def plain(text: str) -> str:
    """The text with everything that is no visible character written as an escape."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def line(text: str) -> None:
    """A line on standard output, at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def complain(message: str) -> None:
    console.complain(plain(message))


def note(message: str) -> None:
    """For people, beside the output."""
    console.err.print(Text(plain(message), "yellow"), soft_wrap=True)


def compact(record: Any) -> str:
    """A record on one line of JSON, in ASCII: safe in any terminal, file or pipe."""
    return json.dumps(_builtins(record), separators=(",", ":"), default=_moment)


def document(record: Any) -> None:
    """One JSON document in the shape of the API."""
    line(json.dumps(_builtins(record), indent=2, default=_moment))


def table(rows: Sequence[Row], columns: Columns[Row]) -> None:
    """A line per row, or where the screen is too narrow a block: ids are there to be copied, so nothing is broken."""
    shown = Table(*columns)
    for row in rows:
        shown.add_row(*(_cell(of(row)) for of in columns.values()))
    page = _page()
    if page.measure(shown).maximum <= _screen_width():
        page.print(shown)
        return
    for row in rows:
        fields({name: of(row) for name, of in columns.items()})
        page.print()


def fields(record: Mapping[str, object]) -> None:
    """One record, a member per line."""
    page, width = _page(), max(map(len, record))
    for name, value in record.items():
        page.print(Text.assemble((name.ljust(width), "bold"), "  ", _cell(value)), soft_wrap=True)


def listing(name: str, found: "tuple[list[Row], bool]", columns: Columns[Row], *, as_json: bool) -> None:
    """Rows as a table, or under the name the API gives them; `found` also says whether there are more."""
    rows, more = found
    if as_json:
        document({name: rows})
    else:
        table(rows, columns)
    if more:
        note(f"only the first {len(rows)}; --limit shows more")


async def some(fetch: Fetch[Row], limit: int) -> tuple[list[Row], bool]:
    """At most `limit` rows of a list that is read page by page, and whether there are more."""
    found: list[Row] = []
    async for row in rows(fetch, min(limit + 1, PAGE)):
        found.append(row)
        if len(found) > limit:
            break
    return found[:limit], len(found) > limit


def _page() -> Console:
    """Lines are as long as they are; a terminal wraps them without putting anything in between."""
    return _Screen(width=WIDE)


def _screen_width() -> int:
    return Console().width if sys.stdout.isatty() else WIDE


def _cell(value: object) -> Text:
    match value:
        case None:
            return Text("—", "dim")
        case datetime():
            text = iso(value)
        case list():
            text = ", ".join(map(str, value))
        case _:
            text = str(value)
    return Text(plain(text))


def _builtins(record: Any) -> Any:
    return msgspec.to_builtins(record, builtin_types=(datetime,))


def _moment(value: object) -> str:
    if isinstance(value, datetime):
        return iso(value)
    raise TypeError(type(value).__name__)
