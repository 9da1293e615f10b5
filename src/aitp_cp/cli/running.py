"""Run an event loop until SIGTERM, SIGINT, or the end of the parent process."""

import asyncio
import os
import signal
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn, TypeVar

import structlog

from aitp_cp.telemetry import logging

T = TypeVar("T")
Handler = Callable[[str], None]

SIGNALS = (signal.SIGTERM, signal.SIGINT)
PARENT_ENDED = "the parent ended, or was told to"
LEAVE_SECS = 0.3  # for an orderly end before anything is served, so that the process is gone within a second

log = structlog.get_logger("aitp_cp.process")

_cleanups: list[Callable[[], None]] = []


def before_leaving(cleanup: Callable[[], None]) -> None:
    """Have `cleanup` called before an exit that waits for nothing else and runs no `finally`."""
    _cleanups.append(cleanup)


class Ending:
    """Passes a request to end, with its reason, to the handler that was set last."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler

    def request(self, reason: str) -> None:
        self._handler(reason)

    @contextmanager
    def handled_by(self, handler: Handler) -> Iterator[None]:
        before, self._handler = self._handler, handler
        try:
            yield
        finally:
            self._handler = before


def run(
    life: Callable[[Ending], Awaitable[T]],
    runner: Callable[..., T] = asyncio.run,
    *,
    parent: int | None = None,
    code: int | None = None,
) -> T:
    """Run `life` to its end; on a request to end, cancel it and exit with `code` or 128 + the signal's number.

    `life` may handle the request itself. `parent` is a pipe whose other end only the parent holds; with it, the parent
    handles the signals.
    """
    codes: list[int] = []

    async def lived() -> T:
        task = asyncio.current_task()
        assert task is not None

        def cancel(reason: str) -> None:
            if codes:
                exit_at_once(reason)
            codes.append(exit_code(reason) if code is None else code)
            if logging.configured():
                log.info("ending", reason=reason)
            threading.Thread(target=_leave_soon, args=(codes[0],), daemon=True).start()
            task.cancel()

        ending = Ending(cancel)
        with _on_signals(ending) if parent is None else _on_end_of(parent, ending):
            return await life(ending)

    try:
        return runner(lived())
    except asyncio.CancelledError:
        if not codes:
            raise
        _leave(codes[0])  # tearing the interpreter down would take longer than everything above


def exit_at_once(reason: str) -> NoReturn:
    """Handle a second request to end: clean up, and wait for nothing else."""
    if logging.configured():
        log.warning("exiting_at_once", reason=reason)
    _leave(exit_code(reason))


def exit_code(reason: str) -> int:
    """Return the exit code that a shell reports for a process that a signal ended."""
    return 128 + getattr(signal, reason, signal.SIGTERM)


def _leave_soon(code: int) -> None:
    """An orderly end may wait for a name that does not resolve, or for a database that does not answer."""
    time.sleep(LEAVE_SECS)
    _leave(code)


def _leave(code: int) -> NoReturn:
    try:
        for cleanup in _cleanups:
            cleanup()
    except Exception:
        log.exception("cleanup_failed")
    logging.flush()
    os._exit(code)


@contextmanager
def _on_signals(ending: Ending) -> Iterator[None]:
    """Turn signals into requests to end; the handlers from before return afterwards."""
    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in SIGNALS}
    for number in SIGNALS:
        loop.add_signal_handler(number, ending.request, number.name)
    try:
        yield
    finally:
        for number, handler in before.items():
            loop.remove_signal_handler(number)
            signal.signal(number, handler or signal.SIG_DFL)  # None for one that Python does not know


@contextmanager
def _on_end_of(parent: int, ending: Ending) -> Iterator[None]:
    loop = asyncio.get_running_loop()

    def ended() -> None:
        loop.remove_reader(parent)  # the end of a pipe can be read again and again
        ending.request(PARENT_ENDED)

    loop.add_reader(parent, ended)
    try:
        yield
    finally:
        loop.remove_reader(parent)
