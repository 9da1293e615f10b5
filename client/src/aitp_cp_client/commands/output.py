"""All output of the commands.

`line`, `document`, `table`, `fields` and `out` print results: the command ends with an error if one cannot be written.
`notices` and `err` print notices, which neither fail nor block the command. Text from others passes `escaped` first, so
that an agent's name cannot control the terminal.
"""

import json
import os
import select
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import IO, Any, NoReturn, TextIO, TypeVar, cast

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from aitp_cp_client.commands.exits import BROKEN_PIPE, REFUSED
from aitp_cp_client.paging import Fetch, rows
from aitp_cp_client.wire.visible import escaped

Row = TypeVar("Row")
Columns = Mapping[str, Callable[[Row], object]]

PAGE = 1000  # rows; the server's limit of a page
WIDE = 10_000  # columns; wider than any row, so that rich does not wrap lines
NOTICE_TIMEOUT_SECS = 1.0  # how long a notice waits for a full pipe
PIPE_BYTES = 512  # POSIX: a write of this size to a ready pipe does not block


class _Results(Console):
    def on_broken_pipe(self) -> NoReturn:
        output_failed(BrokenPipeError())

    def print(self, *objects: Any, **options: Any) -> None:
        try:
            super().print(*objects, **options)
        except OSError as failure:
            output_failed(failure)


class _BestEffort:
    """A text file over a standard file; drops all output after the first failure or timeout."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._failed = False

    def write(self, text: str) -> int:
        if not self._failed:
            try:
                self._write(self._file, text)
            except (OSError, ValueError):
                self._failed = True
        return len(text)

    def _write(self, file: TextIO, text: str) -> None:
        try:
            number = file.fileno()
        except OSError:  # a file in memory, in tests
            file.write(text)
            return
        file.flush()
        rest = text.encode(file.encoding or "utf-8", "backslashreplace")
        while rest:
            poll = select.poll()
            poll.register(number, select.POLLOUT)
            if not poll.poll(NOTICE_TIMEOUT_SECS * 1000):
                raise BlockingIOError
            rest = rest[os.write(number, rest[:PIPE_BYTES]) :]

    def flush(self) -> None:
        pass

    def isatty(self) -> bool:
        return self._file.isatty()

    def fileno(self) -> int:
        return self._file.fileno()

    @property
    def encoding(self) -> str:
        return self._file.encoding or "utf-8"

    @property
    def _file(self) -> TextIO:
        return cast("TextIO", getattr(sys, self._name))


out = _Results()
notices = Console(file=cast("IO[str]", _BestEffort("stdout")))
err = Console(file=cast("IO[str]", _BestEffort("stderr")), stderr=True)
_wide = _Results(width=WIDE)


def line(text: str) -> None:
    """Print a line on standard output and flush."""
    try:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    except OSError as failure:
        output_failed(failure)


def note(message: str) -> None:
    """Print a notice for people on standard error."""
    err.print(Text(escaped(message), "yellow"), soft_wrap=True)


def complain(message: str) -> None:
    """Print an error on standard error; it may have several lines."""
    err.print(Text("\n".join(map(escaped, message.split("\n"))), "red"), soft_wrap=True)


def stop(message: str, code: int) -> NoReturn:
    """Print an error and exit with `code`."""
    complain(message)
    raise typer.Exit(code)


def output_failed(failure: OSError) -> NoReturn:
    """Exit because standard output cannot be written; silently if the reader has closed the pipe."""
    abandon_output()
    if isinstance(failure, BrokenPipeError):
        raise typer.Exit(BROKEN_PIPE)
    stop(f"standard output cannot be written: {failure.strerror or type(failure).__name__}", REFUSED)


def abandon_output() -> None:
    """Redirect standard output to /dev/null, so that the interpreter's last flush does not fail."""
    try:
        number = sys.stdout.fileno()
    except (OSError, ValueError):
        return
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, number)
    os.close(devnull)


def iso(moment: datetime) -> str:
    """Return the time as the API shows it."""
    from aitp_cp_client.wire import times  # here, because --help does not need it

    return times.iso(moment)


def compact(record: Any) -> str:
    """Return a record as one line of ASCII JSON, which is safe for any terminal."""
    return json.dumps(_builtins(record), separators=(",", ":"), default=_moment)


def document(record: Any) -> None:
    """Print one JSON document in the shape of the API."""
    line(json.dumps(_builtins(record), indent=2, default=_moment))


def table(rows: Sequence[Row], columns: Columns[Row]) -> None:
    """Print a line per row, or a block per row on a narrow terminal: ids must not be wrapped."""
    lines = Table(*columns)
    for row in rows:
        lines.add_row(*(_cell(of(row)) for of in columns.values()))
    if not sys.stdout.isatty() or _wide.measure(lines).maximum <= Console().width:
        _wide.print(lines)
        return
    for row in rows:
        record(row, columns)
        line("")


def record(row: Row, columns: Columns[Row], *, as_json: bool = False) -> None:
    """Print one row: a member per line, or a JSON document in the shape of the API."""
    if as_json:
        document(row)
    else:
        fields({name: of(row) for name, of in columns.items()})


def fields(record: Mapping[str, object]) -> None:
    """Print one record, a member per line."""
    width = max(map(len, record))
    for name, value in record.items():
        _wide.print(Text.assemble((name.ljust(width), "bold"), "  ", _cell(value)), soft_wrap=True)


def listing(name: str, page: "tuple[list[Row], bool]", columns: Columns[Row], *, as_json: bool) -> None:
    """Print the result of `some` as a table, or as JSON under the API's name of the rows."""
    rows, more = page
    if as_json:
        document({name: rows})
    else:
        table(rows, columns)
    if more:
        note(f"only the first {len(rows)}; --limit shows more")


async def some(fetch: Fetch[Row], limit: int) -> tuple[list[Row], bool]:
    """Fetch at most `limit` rows, page by page; return them and whether there are more."""
    first: list[Row] = []
    async for row in rows(fetch, min(limit + 1, PAGE)):
        first.append(row)
        if len(first) > limit:
            break
    return first[:limit], len(first) > limit


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
    return Text(escaped(text))


def _builtins(record: Any) -> Any:
    from msgspec import to_builtins  # here, because --help does not need it

    return to_builtins(record, builtin_types=(datetime,))


def _moment(value: object) -> str:
    if isinstance(value, datetime):
        return iso(value)
    raise TypeError(type(value).__name__)
