"""The entry point: opens closed standard files, handles SIGTERM, and reports unexpected failures."""

import io
import os
import signal
import sys
from types import FrameType
from typing import NoReturn

from aitp_cp_client.commands.exits import INTERRUPTED, REFUSED, UNEXPECTED


def main() -> None:
    # In a container the command is process 1, to which the kernel delivers only signals with a handler.
    signal.signal(signal.SIGTERM, leave_at_once)
    open_standard_files()
    try:
        from aitp_cp_client.commands.main import app  # slow: after the signal handler

        app()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except Exception as failure:
        _explain(failure)


def leave_at_once(number: int, frame: FrameType | None) -> NoReturn:
    """Exit at once on a signal. Commands that need a cleanup install their own handler."""
    os._exit(128 + number)


def open_standard_files() -> None:
    """Open /dev/null for closed standard files: otherwise the next socket would get their number."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    sys.stdin = sys.stdin or os.fdopen(0, closefd=False)
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # for a terminal that cannot show a character


def _explain(failure: Exception) -> NoReturn:
    """Report a failure in one sentence. Its text may hold a secret: the traceback needs LOG_LEVEL=debug."""
    from aitp_cp_client.commands.output import abandon_output, complain
    from aitp_cp_client.tracebacks import format_traceback

    reason = failure.strerror if isinstance(failure, OSError) else None
    complain(f"aitp-cp failed: {reason or 'an unexpected failure'} ({type(failure).__name__})")
    if os.environ.get("LOG_LEVEL", "").lower() in {"debug", "trace"}:
        complain(format_traceback(failure))
    elif reason is None:
        complain("set LOG_LEVEL=debug for a traceback; please report it")
    abandon_output()
    sys.exit(REFUSED if reason else UNEXPECTED)
