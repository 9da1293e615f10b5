"""The one door for what commands print, and how they leave.

`out` is for what a command is asked for: when that cannot be written, the command ends and says so. `told` and `err`
are for what is told on the way: nobody needs to read it, so it neither fails nor holds up anything.
"""

import os
import select
import sys
from typing import IO, Any, NoReturn, TextIO, cast

import typer
from rich.console import Console
from rich.text import Text

from aitp_cp_client.commands.exits import BROKEN_PIPE, REFUSED

# The longest wait for a reader of what is only told.
PATIENCE_SECS = 1.0
# A pipe that can be written to takes this much without blocking.
PIPE_BYTES = 512


class _Screen(Console):
    def on_broken_pipe(self) -> NoReturn:
        """Nobody reads any more: that is neither success nor a failure that was found."""
        abandon_output()
        raise SystemExit(BROKEN_PIPE)

    def print(self, *objects: Any, **options: Any) -> None:
        try:
            super().print(*objects, **options)
        except OSError as failure:
            _output_failed(failure)


class _Unheeded:
    """A text file that takes everything: what the real one does not take in time is lost."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lost = False

    def write(self, text: str) -> int:
        if not self._lost:
            try:
                self._write(getattr(sys, self._name), text)
            except (OSError, ValueError):
                self._lost = True
        return len(text)

    def _write(self, file: TextIO, text: str) -> None:
        try:
            number = file.fileno()
        except OSError:  # a test's, in memory
            file.write(text)
            return
        file.flush()
        rest = text.encode(file.encoding or "utf-8", "backslashreplace")
        while rest:
            poll = select.poll()
            poll.register(number, select.POLLOUT)
            if not poll.poll(PATIENCE_SECS * 1000):
                raise BlockingIOError
            rest = rest[os.write(number, rest[:PIPE_BYTES]) :]

    def flush(self) -> None:
        pass

    def isatty(self) -> bool:
        return bool(getattr(sys, self._name).isatty())

    def fileno(self) -> int:
        return int(getattr(sys, self._name).fileno())

    @property
    def encoding(self) -> str:
        return str(getattr(sys, self._name).encoding or "utf-8")


out = _Screen()
told = Console(file=cast("IO[str]", _Unheeded("stdout")))
err = Console(file=cast("IO[str]", _Unheeded("stderr")), stderr=True)


def line(text: str) -> None:
    """Print a line that the command is asked for, as it is."""
    try:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        out.on_broken_pipe()
    except OSError as failure:
        _output_failed(failure)


def complain(message: str) -> None:
    """Print a sentence on standard error."""
    err.print(Text(message, "red"), soft_wrap=True)


def stop(message: str, code: int) -> NoReturn:
    """Say on standard error why the command ends, and end it."""
    complain(message)
    raise typer.Exit(code)


def abandon_output() -> None:
    """Nobody reads any more, or nothing more fits: let what is left in the buffer go nowhere."""
    try:
        number = sys.stdout.fileno()
    except (OSError, ValueError):
        return
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, number)
    os.close(devnull)


def _output_failed(failure: OSError) -> NoReturn:
    abandon_output()
    stop(f"standard output cannot be written: {failure.strerror or type(failure).__name__}", REFUSED)
