"""serve --workers: several processes behind one port, and a parent that only supervises them.

Each process has listening sockets of its own with SO_REUSEPORT, so the kernel spreads connections evenly. The parent
keeps every socket open: connections that wait for a process that died are served by its successor.
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
from aitp_cp_client.commands.exits import UNEXPECTED

SIGNALS = {signal.SIGTERM, signal.SIGINT, signal.SIGCHLD}
SHORT_LIFE_SECS = 5.0  # a process that ends sooner is restarted after a pause, not in a tight loop
RESTART_PAUSE_SECS = 1.0


def run(settings: Settings, count: int, *, jobs: bool) -> int:
    """Serve from `count` processes until SIGTERM or SIGINT; return the exit code."""
    from aitp_cp.cli import process  # loaded once, before there are several  # noqa: F401

    shared.prepare(count)
    return _Supervisor(settings, open_sockets(settings.host, settings.port, count), jobs=jobs).supervise()


@dataclass(frozen=True, slots=True)
class _Child:
    """A process with its index; `successor_of` is the pid and exit code of the process that it replaces."""

    index: int
    started_at: float
    successor_of: tuple[int, int] | None


class _Supervisor:
    """Starts and replaces the children; it has no threads, no logs and no event loop, so it may fork at any time."""

    def __init__(self, settings: Settings, sockets: list[list[socket]], *, jobs: bool) -> None:
        self._settings = settings
        self._sockets = sockets
        self._jobs = jobs
        # The children drain when the parent closes its end of the pipe, and when the parent dies.
        self._children_end, self._parent_end = os.pipe()
        self._serving = mmap.mmap(-1, len(sockets))  # shared memory: a child writes 1 at its index once it listens
        self._children: dict[int, _Child] = {}
        self._due: list[tuple[float, _Child]] = []  # when to start which successor, earliest first
        self._ending = False
        self._code = 0

    def supervise(self) -> int:
        signal.signal(signal.SIGCHLD, lambda *_: None)  # some systems discard a signal without a handler
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        gc.freeze()  # the collector would write to loaded objects, and unshare their memory
        for index in range(len(self._sockets)):
            self._start(index)
        while self._children or self._due:
            self._handle(self._next_signal())
        return self._code if self._code >= 0 else 128 - self._code

    def _next_signal(self) -> int | None:
        """Wait for a signal, or until the next process is due."""
        if not self._due:
            return signal.sigwait(SIGNALS)
        info = signal.sigtimedwait(SIGNALS, max(0.0, self._due[0][0] - time.monotonic()))
        return info.si_signo if info else None

    def _handle(self, signo: int | None) -> None:
        if signo is None:
            _, child = self._due.pop(0)
            self._start(child.index, child.successor_of)
        elif signo == signal.SIGCHLD:
            self._reap()
        elif self._ending:
            self._end_at_once(signo)
        else:
            self._end()

    def _start(self, index: int, successor_of: tuple[int, int] | None = None) -> None:
        self._serving[index] = 0
        child = _Child(index, time.monotonic(), successor_of)
        pid = os.fork()
        if pid:
            self._children[pid] = child
            return
        os.close(self._parent_end)
        for other, sockets in enumerate(self._sockets):
            if other != index:
                _close(sockets)
        os._exit(self._serve(child))

    def _serve(self, child: _Child) -> int:
        """Serve as the child; a terminal or an init system signals the whole group, which is for the parent alone."""
        from aitp_cp.cli import process

        for signo in (signal.SIGTERM, signal.SIGINT):
            signal.signal(signo, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        shared.take(child.index)
        process.announce(self._settings, warn=child.index == 0 and child.successor_of is None)
        if child.successor_of is not None:
            process.log.warning("worker_replaced", ended=child.successor_of[0], exit_code=child.successor_of[1])
        place = process.Place(self._sockets[child.index], self._children_end)

        def listening() -> None:
            self._serving[child.index] = 1

        try:
            process.serve(self._settings, jobs=self._jobs, place=place, listening=listening)
        except typer.Exit as end:
            return end.exit_code
        except SystemExit as end:
            return end.code if isinstance(end.code, int) else 1
        except BaseException:  # `process` has logged it
            return UNEXPECTED
        return 0

    def _reap(self) -> None:
        """Replace every process that ended by itself; when the first ones cannot start, end them all."""
        for pid, code in _ended():
            child = self._children.pop(pid, None)
            if child is None:  # an orphan of some other process, which process 1 inherits
                continue
            listened, self._serving[child.index] = self._serving[child.index], 0
            shared.forget(child.index)
            if self._ending:
                self._code = self._code or code
            elif code > 0 and not listened and not (child.successor_of and any(self._serving[:])):
                self._code = code
                self._end()
            else:
                if not listened:
                    self._sockets[child.index] = reopen(self._sockets[child.index])
                self._replace(child, (pid, code))

    def _replace(self, child: _Child, ended: tuple[int, int]) -> None:
        pause = child.successor_of is not None and time.monotonic() - child.started_at < SHORT_LIFE_SECS
        due = time.monotonic() + (RESTART_PAUSE_SECS if pause else 0.0)
        self._due.append((due, _Child(child.index, due, ended)))
        self._due.sort(key=lambda entry: entry[0])

    def _end(self) -> None:
        self._ending = True
        self._due.clear()
        os.close(self._parent_end)
        for sockets in self._sockets:
            _close(sockets)

    def _end_at_once(self, signo: int) -> NoReturn:
        for pid in self._children:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        raise typer.Exit(128 + signo)


def _close(sockets: list[socket]) -> None:
    for sock in sockets:
        sock.close()


def _ended() -> Iterator[tuple[int, int]]:
    with suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            yield pid, os.waitstatus_to_exitcode(status)
