"""serve --workers: several processes behind one port, looked after by a parent that does nothing else.

Each has listening sockets of its own with SO_REUSEPORT, so the kernel spreads connections evenly. The parent keeps
every socket open: connections that wait at a process that died are served by its successor.
"""

import gc
import mmap
import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from socket import socket
from typing import NoReturn

import typer

from aitp_cp.cli.listening import open_sockets, reopen
from aitp_cp.settings import Settings
from aitp_cp.telemetry import shared
from aitp_cp_client.commands.entry import UNEXPECTED

WATCHED = {signal.SIGTERM, signal.SIGINT, signal.SIGCHLD}
# A process that cannot stay up must not be tried in a tight loop.
SHORT_LIFE_SECS = 5.0
RESTART_PAUSE_SECS = 1.0


def run(settings: Settings, count: int, *, jobs: bool) -> int:
    """Serve from `count` processes until told to end; the exit code."""
    from aitp_cp.cli import process  # loaded once, before there are several  # noqa: F401

    shared.prepare(count)
    return _Family(settings, open_sockets(settings.host, settings.port, count), jobs=jobs).live()


@dataclass(frozen=True, slots=True)
class _Child:
    """The process in one of the places; `successor_of` is the process that it replaces, and how that one ended."""

    number: int
    born: float
    successor_of: tuple[int, int] | None


class _Family:
    """The parent's view; single-threaded, silent and without an event loop, so that it may fork at any time."""

    def __init__(self, settings: Settings, sockets: list[list[socket]], *, jobs: bool) -> None:
        self._settings = settings
        self._sockets = sockets
        self._jobs = jobs
        self._parent, self._hand = os.pipe()  # the children drain when the hand lets go, also when it dies
        self._serving = mmap.mmap(-1, len(sockets))  # shared with the children: 1 once the one in that place listens
        self._children: dict[int, _Child] = {}
        self._due: list[tuple[float, _Child]] = []  # who replaces whom, and when
        self._ending = False
        self._code = 0

    def live(self) -> int:
        signal.signal(signal.SIGCHLD, lambda *_: None)  # some systems throw away what nobody handles
        signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED)
        gc.freeze()  # what is loaded by now stays shared memory
        for number in range(len(self._sockets)):
            self._start(number)
        while self._children or self._due:
            self._handle(self._next_signal())
        return self._code if self._code >= 0 else 128 - self._code

    def _next_signal(self) -> int | None:
        """Wait for a signal, or until the next process is due."""
        if not self._due:
            return signal.sigwait(WATCHED)
        heard = signal.sigtimedwait(WATCHED, max(0.0, self._due[0][0] - time.monotonic()))
        return heard.si_signo if heard else None

    def _handle(self, number: int | None) -> None:
        if number is None:
            self._start(self._due[0][1].number, self._due.pop(0)[1].successor_of)
        elif number == signal.SIGCHLD:
            self._bury()
        elif self._ending:
            self._end_at_once(number)
        else:
            self._end()

    def _start(self, number: int, successor_of: tuple[int, int] | None = None) -> None:
        self._serving[number] = 0
        child = _Child(number, time.monotonic(), successor_of)
        pid = os.fork()
        if pid:
            self._children[pid] = child
            return
        os.close(self._hand)
        for other in range(len(self._sockets)):
            if other != number:
                _close(self._sockets[other])
        os._exit(self._live_as_child(child))

    def _live_as_child(self, child: _Child) -> int:
        """A signal for the whole group, as from a terminal or an init system, is the parent's to handle."""
        from aitp_cp.cli import process

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, WATCHED)
        shared.take(child.number)
        process.announce(self._settings, warn=child.number == 0 and child.successor_of is None)
        if child.successor_of is not None:
            process.log.warning("worker_replaced", ended=child.successor_of[0], exit_code=child.successor_of[1])
        place = process.Place(self._sockets[child.number], self._parent)
        hooks = process.Hooks(listening=lambda: self._serving.__setitem__(child.number, 1))
        try:
            process.serve(self._settings, jobs=self._jobs, place=place, hooks=hooks)
        except typer.Exit as left:
            return left.exit_code
        except SystemExit as left:
            return left.code if isinstance(left.code, int) else 1
        except BaseException:  # it is logged
            return UNEXPECTED
        return 0

    def _bury(self) -> None:
        """Replace every process that ended by itself; one that cannot start ends them all."""
        for pid, code in _ended():
            child = self._children.pop(pid, None)
            if child is None:  # an orphan of another family, which process 1 inherits
                continue
            started, self._serving[child.number] = self._serving[child.number], 0
            shared.forget(child.number)
            if self._ending:
                self._code = self._code or code
            elif code > 0 and not started and not (child.successor_of and any(self._serving[:])):
                self._code = code
                self._end()
            else:
                if not started:
                    self._sockets[child.number] = reopen(self._sockets[child.number])
                self._replace(child, (pid, code))

    def _replace(self, child: _Child, ended: tuple[int, int]) -> None:
        pause = child.successor_of is not None and time.monotonic() - child.born < SHORT_LIFE_SECS
        due = time.monotonic() + (RESTART_PAUSE_SECS if pause else 0.0)
        self._due.append((due, _Child(child.number, due, ended)))
        self._due.sort(key=lambda entry: entry[0])

    def _end(self) -> None:
        self._ending = True
        self._due.clear()
        os.close(self._hand)
        for sockets in self._sockets:
            _close(sockets)

    def _end_at_once(self, number: int) -> NoReturn:
        for pid in self._children:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        raise typer.Exit(128 + number)


def _close(sockets: list[socket]) -> None:
    for sock in sockets:
        sock.close()


def _ended() -> Iterator[tuple[int, int]]:
    with suppress(ChildProcessError):
        while (found := os.waitpid(-1, os.WNOHANG))[0]:
            yield found[0], os.waitstatus_to_exitcode(found[1])
