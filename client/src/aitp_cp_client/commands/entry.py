"""The first lines of every command: open standard files, a signal that ends it, failures told in a sentence."""

import io
import os
import signal
import sys
from types import FrameType
from typing import NoReturn

UNEXPECTED = 70  # EX_SOFTWARE of sysexits.h
INTERRUPTED = 130


def main() -> None:
    # The kernel delivers no signal without a handler to process 1, which a container's command is.
    signal.signal(signal.SIGTERM, leave_at_once)
    open_standard_files()
    try:
        from aitp_cp_client.commands.main import app  # only now: it takes a while, and the signal may come in it

        app()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except Exception as failure:
        _explain(failure)


def leave_at_once(number: int, frame: FrameType | None) -> NoReturn:
    """End a command that holds nothing worth an orderly end; commands that do put their own handler in this place."""
    os._exit(128 + number)


def open_standard_files() -> None:
    """Put /dev/null in the place of standard files that are closed, or the next socket would take their number."""
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
    """End with a sentence; the text of a failure may repeat a secret, so a traceback is shown only when asked for."""
    from aitp_cp_client.commands.exits import REFUSED
    from aitp_cp_client.commands.output import abandon_output, complain
    from aitp_cp_client.tracebacks import format_traceback

    reason = failure.strerror if isinstance(failure, OSError) else None
    complain(f"aitp-cp cannot go on: {reason or 'an unexpected failure'} ({type(failure).__name__})")
    if os.environ.get("LOG_LEVEL", "").lower() in {"debug", "trace"}:
        complain(format_traceback(failure))
    elif reason is None:
        complain("LOG_LEVEL=debug shows where; please report it")
    abandon_output()
    sys.exit(REFUSED if reason else UNEXPECTED)
