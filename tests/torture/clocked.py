"""`aitp-cp` whose clock can be set while it runs: the file CLOCK_FILE holds the seconds that it is ahead.

What Python asks of the system's time, and so every time of ours; the SDK and the monotonic clock stay as they are.
"""

import mmap
import os
import struct
import time
from collections.abc import Callable
from pathlib import Path

CLOCK_FILE = "TORTURE_CLOCK_FILE"
SKEW_SECS = 40.0  # how far a clock is ever set: no token or signature of ours lives for less than a minute
SECS = struct.Struct("d")


class Clock:
    """The clock of one process, as seen from outside."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.set(0)

    def set(self, ahead_secs: float) -> None:
        if not self.file.exists():
            self.file.write_bytes(bytes(SECS.size))
        with self.file.open("r+b") as file:  # in place: the process has it in its memory
            file.write(SECS.pack(ahead_secs))


def _follow(file: Path) -> None:
    with file.open("rb") as opened:
        ahead = mmap.mmap(opened.fileno(), SECS.size, prot=mmap.PROT_READ)
    time.time = _shifted(time.time, ahead)
    time.time_ns = _shifted_ns(time.time_ns, ahead)


def _shifted(real: Callable[[], float], ahead: mmap.mmap) -> Callable[[], float]:
    return lambda: real() + SECS.unpack(ahead)[0]


def _shifted_ns(real: Callable[[], int], ahead: mmap.mmap) -> Callable[[], int]:
    return lambda: real() + round(SECS.unpack(ahead)[0] * 1e9)


if __name__ == "__main__":
    _follow(Path(os.environ[CLOCK_FILE]))
    from aitp_cp_client.commands.entry import main

    main()
