"""An event loop that ends when it is told to: by SIGTERM, by SIGINT, or by the end of the parent process."""

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
Told = Callable[[str], None]

SIGNALS = (signal.SIGTERM, signal.SIGINT)
PARENT_ENDED = "the parent ended"
# A process that serves nobody yet is gone within a second, whatever it waits for.
LEAVE_SECS = 0.3

log = structlog.get_logger("aitp_cp.process")


class Ending:
    """Who hears that the process is told to end, and why; the last to take it over."""

    def __init__(self, heard_by: Told) -> None:
        self._heard_by = heard_by

    def tell(self, reason: str) -> None:
        self._heard_by(reason)

    @contextmanager
    def heard_by(self, told: Told) -> Iterator[None]:
        before, self._heard_by = self._heard_by, told
        try:
            yield
        finally:
            self._heard_by = before


def run(
    life: Callable[[Ending], Awaitable[T]],
    runner: Callable[..., T] = asyncio.run,
    *,
    parent: int | None = None,
    code: int | None = None,
    leaving: Callable[[], None] = lambda: None,
) -> T:
    """Run `life` to its end, or cancel it when told to end, and leave with `code` or 128 + the signal.

    `life` may take over what happens then. `parent` is a pipe whose other end only the parent holds; with it the
    signals are the parent's to hear. `leaving` is called before an exit that waits for nothing else.
    """
    codes: list[int] = []

    async def lived() -> T:
        task = asyncio.current_task()
        assert task is not None

        def cancel(reason: str) -> None:
            if codes:
                exit_at_once(reason, leaving)
            codes.append(number_of(reason) if code is None else code)
            if logging.configured():
                log.info("ending", reason=reason)
            threading.Thread(target=_leave_soon, args=(codes[0], leaving), daemon=True).start()
            task.cancel()

        ending = Ending(cancel)
        with _signals(ending) if parent is None else _end_of(parent, ending):
            return await life(ending)

    try:
        return runner(lived())
    except asyncio.CancelledError:
        if not codes:
            raise
        _leave(codes[0], leaving)  # taking the interpreter apart would cost more time than all of this


def exit_at_once(reason: str, leaving: Callable[[], None] = lambda: None) -> NoReturn:
    """The second request to end: nothing is waited for but `leaving`."""
    if logging.configured():
        log.warning("exiting at once", reason=reason)
    _leave(number_of(reason), leaving)


def number_of(reason: str) -> int:
    """The exit code of a process that a signal ended."""
    return 128 + getattr(signal, reason, signal.SIGTERM)


def _leave_soon(code: int, leaving: Callable[[], None]) -> None:
    """An orderly end may wait for a name that does not resolve, or for a database that does not answer."""
    time.sleep(LEAVE_SECS)
    _leave(code, leaving)


def _leave(code: int, leaving: Callable[[], None]) -> NoReturn:
    try:
        leaving()
    except Exception:
        log.exception("something is left behind")
    logging.flush()
    os._exit(code)


@contextmanager
def _signals(ending: Ending) -> Iterator[None]:
    """Hear the signals; whoever handled them before does so again afterwards."""
    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in SIGNALS}
    for number in SIGNALS:
        loop.add_signal_handler(number, ending.tell, number.name)
    try:
        yield
    finally:
        for number, handler in before.items():
            loop.remove_signal_handler(number)
            signal.signal(number, handler or signal.SIG_DFL)  # None for one that Python does not know


@contextmanager
def _end_of(parent: int, ending: Ending) -> Iterator[None]:
    loop = asyncio.get_running_loop()

    def ended() -> None:
        loop.remove_reader(parent)  # the end of a pipe can be read again and again
        ending.tell(PARENT_ENDED)

    loop.add_reader(parent, ended)
    try:
        yield
    finally:
        loop.remove_reader(parent)
