"""Writes exports to a file, atomically, or to standard output."""

import codecs
import json
import os
import stat
import sys
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Protocol
from uuid import uuid4

from rich.progress import DownloadColumn, Progress, TextColumn, TimeElapsedColumn, TransferSpeedColumn

from aitp_cp_client.commands import exits
from aitp_cp_client.commands.output import err, stop


class Sink(Protocol):
    def write(self, data: bytes, /) -> object: ...


async def save(chunks: AsyncGenerator[bytes, None], path: Path | None) -> None:
    """Write all chunks; show the progress on standard error if it is a terminal."""
    columns = TextColumn("exporting"), DownloadColumn(), TransferSpeedColumn(), TimeElapsedColumn()
    hidden = not sys.stderr.isatty() or (path is None and sys.stdout.isatty())
    with (
        _destination(path) as sink,
        Progress(*columns, console=err, transient=True, disable=hidden) as progress,
    ):
        bar = progress.add_task("", total=None)
        async with aclosing(chunks):
            async for chunk in chunks:
                sink.write(chunk)
                progress.advance(bar, len(chunk))


@contextmanager
def _destination(path: Path | None) -> Iterator[Sink]:
    if path is None or str(path) == "-":
        yield Terminal(sys.stdout.buffer) if sys.stdout.isatty() else sys.stdout.buffer
        return
    try:
        with _replaced_at_the_end(path.resolve()) as file:
            yield file
    except OSError as failure:
        stop(f"{path} cannot be written: {failure.strerror or type(failure).__name__}", exits.REFUSED)


@contextmanager
def _replaced_at_the_end(path: Path) -> Iterator[BinaryIO]:
    """Yield a temporary file that replaces `path`, with its permissions, after a complete write."""
    if path.exists() and not path.is_file():  # a device or a pipe cannot be replaced
        with path.open("wb") as file:
            yield file
        return
    part = path.with_name(f".{path.name}.{uuid4().hex}.part")
    try:
        with part.open("xb") as file:
            if path.exists():
                os.fchmod(file.fileno(), stat.S_IMODE(path.stat().st_mode))
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        with suppress(FileNotFoundError):
            part.unlink()


class Terminal:
    """Writes JSON to a terminal and escapes every invisible character, as JSON allows."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def write(self, data: bytes) -> None:
        text = self._decoder.decode(data)
        self._out.write("".join(map(_visible, text)).encode("utf-8", "replace"))
        self._out.flush()


def _visible(char: str) -> str:
    return char if char.isprintable() or char == "\n" else json.dumps(char)[1:-1]
