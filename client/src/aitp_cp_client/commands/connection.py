"""Runs a command against the server of the environment, and maps failures to exit codes."""

import os
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, NoReturn, TypeVar

import typer

from aitp_cp_client.commands import exits
from aitp_cp_client.commands.output import output_failed, stop
from aitp_cp_client.commands.parameters import with_opened
from aitp_cp_client.errors import UNVERIFIED, ControlPlaneError
from aitp_cp_client.wire.visible import escaped

if TYPE_CHECKING:
    from aitp_cp_client import ControlPlane

T = TypeVar("T")

URL = "AITP_CP_URL"
KEY = "AITP_CP_API_KEY"
DEFAULT_URL = "http://127.0.0.1:4000"

LONGEST_WAIT_SECS = 10  # a person waits; after a longer `Retry-After` the command exits with UNAVAILABLE


def run(work: "Callable[[ControlPlane], Awaitable[T]]", *, until_interrupted: bool = False) -> T:
    """Return what `work` returns, done at the server that the environment names; exit with the code of a failure."""
    import asyncio  # here, because --help does not need it

    control_plane = _control_plane()
    try:
        with refusals_explained(), _exit_on_sigterm():
            result = asyncio.run(_within(control_plane, work))
            sys.stdout.flush()
            return result
    except OSError as failure:  # an export to standard output
        output_failed(failure)
    except KeyboardInterrupt:
        raise typer.Exit(0 if until_interrupted else exits.INTERRUPTED) from None


at_server = with_opened(run)


@contextmanager
def refusals_explained() -> Iterator[None]:
    """Exit with a sentence and the code of a failed call."""
    try:
        yield
    except ControlPlaneError as failed:
        again = f"; retry in {failed.retry_after:.0f} s" if failed.retry_after else ""
        stop(escaped(f"{failed}{again}"), code_of(failed))


def code_of(failed: ControlPlaneError) -> int:
    """Return the exit code for a failed call."""
    if failed.code == UNVERIFIED:
        return exits.UNVERIFIED
    if failed.status in {401, 403}:
        return exits.NOT_ALLOWED
    if failed.status == 404:
        return exits.NOT_FOUND
    return exits.UNAVAILABLE if failed.is_transient else exits.REFUSED


async def _within(control_plane: "ControlPlane", work: "Callable[[ControlPlane], Awaitable[T]]") -> T:
    async with control_plane:
        return await work(control_plane)


def _control_plane() -> "ControlPlane":
    from aitp_cp_client import ControlPlane, Retries

    url = os.environ.get(URL, "").strip() or DEFAULT_URL
    try:
        return ControlPlane(url, key_of_environment(), retries=Retries(longest_wait_secs=LONGEST_WAIT_SECS))
    except ValueError as wrong:
        stop(f"{wrong}; see {URL} and {KEY}", exits.USAGE)


def key_of_environment() -> str | None:
    """Return the key from the variable or the file. No option, because other users can read the command line.

    Raise `ValueError` without repeating the key.
    """
    key, path = os.environ.get(KEY, "").strip(), os.environ.get(f"{KEY}_FILE", "").strip()
    if _is_quoted(key) or _is_quoted(path):
        raise ValueError(f"{KEY} or {KEY}_FILE is in quotes, and an env file keeps them: remove the quotes")
    if key and path:
        raise ValueError(f"{KEY} is set together with {KEY}_FILE")
    try:
        return (Path(path).read_text(encoding="utf-8").strip() if path else key) or None
    except (OSError, ValueError):
        raise ValueError(f"{KEY}_FILE names a file that cannot be read") from None


def _is_quoted(text: str) -> bool:
    return len(text) > 1 and text[0] in "\"'" and text[-1] == text[0]


@contextmanager
def _exit_on_sigterm() -> Iterator[None]:
    """Raise SystemExit on SIGTERM, so that a partly written file is removed."""

    def exit_now(number: int, frame: FrameType | None) -> NoReturn:
        sys.exit(exits.TERMINATED)

    previous = signal.signal(signal.SIGTERM, exit_now)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
