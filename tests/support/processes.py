"""The processes of the machine."""

import shutil
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import pytest


class Seen(NamedTuple):
    """One process; `state` is a letter, Z for one that has ended and was not waited for."""

    pid: int
    parent: int
    state: str
    command: str


def processes() -> list[Seen]:
    """Return all of them, as /proc has them, or `ps` where there is none: not every machine has both."""
    return _of_proc() if Path("/proc/self/stat").exists() else _of_ps()


def children(pid: int) -> set[int]:
    return {seen.pid for seen in processes() if seen.parent == pid and seen.state != "Z"}


def alive(pids: set[int]) -> set[int]:
    return {seen.pid for seen in processes() if seen.state != "Z"} & pids


def needs_curl() -> None:
    """Leave a test out that runs commands as they are printed."""
    if shutil.which("curl") is None:
        pytest.skip("LEFT OUT: the commands that are printed are for curl, which is not installed")


def _of_proc() -> list[Seen]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended meanwhile
            state, parent, *_ = (folder / "stat").read_text().rpartition(")")[2].split()
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            found.append(Seen(int(folder.name), int(parent), state, command))
    return found


def _of_ps() -> list[Seen]:
    # Without -ww the width of its lines is whatever it guesses, and hides the end of a long command.
    options = ["-A", "-ww", "-o", "pid=,ppid=,stat=,command="]
    shown = subprocess.run(["ps", *options], capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 3) for line in shown.splitlines()]
    return [Seen(int(pid), int(parent), state[0], " ".join(command)) for pid, parent, state, *command in rows]
