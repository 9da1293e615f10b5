"""serve --workers: several processes behind one port, looked after by a parent that does nothing else.

Each has a listening socket of its own with SO_REUSEPORT, so the kernel spreads connections evenly. The parent keeps
every socket open: connections that wait at a process that died are served by its successor.
"""

import gc
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from socket import SO_REUSEADDR, SO_REUSEPORT, SOCK_STREAM, SOL_SOCKET, getaddrinfo, socket
from typing import NoReturn

import typer

from aitp_cp.cli.console import ADDRESS, stop
from aitp_cp.settings import Settings
from aitp_cp.telemetry import SHARED_METRICS

WATCHED = {signal.SIGTERM, signal.SIGINT, signal.SIGCHLD}
# A process that cannot stay up must not be tried in a tight loop.
SHORT_LIFE_SECS = 5.0
# A failure in this time of the first processes is a wrong setting, schema or address, the same at the next try.
START_SECS = 45.0
RESTART_PAUSE_SECS = 1.0


def run(settings: Settings, count: int, *, jobs: bool) -> int:
    """Serve from `count` processes until told to stop; the exit code."""
    with _shared_folder() as folder:
        os.environ[SHARED_METRICS] = folder  # before the metrics library is loaded: it looks once
        from aitp_cp.cli import process

        process.announce(settings)
        return _Family(settings, _sockets(settings.host, settings.port, count), jobs=jobs).live()


@dataclass(frozen=True, slots=True)
class _Child:
    sock: socket
    born: float
    first: bool


class _Family:
    """The parent's view; single-threaded and without an event loop, so that it may fork at any time."""

    def __init__(self, settings: Settings, sockets: list[socket], *, jobs: bool) -> None:
        self._settings = settings
        self._sockets = sockets
        self._jobs = jobs
        self._leash, self._hand = os.pipe()  # the children drain when the hand lets go, also when it dies
        self._children: dict[int, _Child] = {}
        self._ending = False
        self._code = 0

    def live(self) -> int:
        signal.signal(signal.SIGCHLD, lambda *_: None)  # some systems throw away what nobody handles
        signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED)
        gc.freeze()  # what is loaded by now stays shared memory
        for sock in self._sockets:
            self._start(sock, first=True)
        while self._children:
            number = signal.sigwait(WATCHED)
            if number == signal.SIGCHLD:
                self._mourn()
            elif self._ending:
                self._end_at_once(number)
            else:
                self._end()
        return self._code if self._code >= 0 else 128 - self._code

    def _start(self, sock: socket, *, first: bool) -> None:
        pid = os.fork()
        if pid:
            self._children[pid] = _Child(sock, time.monotonic(), first)
            return
        os.close(self._hand)
        for other in self._sockets:
            if other is not sock:
                other.close()
        os._exit(_live_as_child(self._settings, sock, self._leash, jobs=self._jobs))

    def _mourn(self) -> None:
        """Replace every process that ended by itself, unless it could not even begin."""
        for pid, code in _ended():
            child = self._children.pop(pid, None)
            if child is None:
                continue
            _forget_values(pid)
            if self._ending:
                self._code = self._code or code
            elif code > 0 and child.first and time.monotonic() - child.born < START_SECS:
                self._code = code
                self._end()
            else:
                self._replace(child)

    def _replace(self, child: _Child) -> None:
        if not child.first and time.monotonic() - child.born < SHORT_LIFE_SECS:
            time.sleep(RESTART_PAUSE_SECS)
        self._start(child.sock, first=False)

    def _end(self) -> None:
        self._ending = True
        os.close(self._hand)
        for sock in self._sockets:
            sock.close()

    def _end_at_once(self, number: int) -> NoReturn:
        for pid in self._children:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        raise typer.Exit(128 + number)


def _live_as_child(settings: Settings, sock: socket, leash: int, *, jobs: bool) -> int:
    """A signal for the whole group, as from a terminal or an init system, is the parent's to handle."""
    from aitp_cp.cli import process

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, WATCHED)
    try:
        process.serve(settings, jobs=jobs, place=process.Place(sock, leash))
    except typer.Exit as left:
        return left.exit_code
    except SystemExit as left:
        return left.code if isinstance(left.code, int) else 1
    except BaseException:
        process.log.exception("the process failed")
        return 1
    return 0


def _ended() -> Iterator[tuple[int, int]]:
    with suppress(ChildProcessError):
        while (found := os.waitpid(-1, os.WNOHANG))[0]:
            yield found[0], os.waitstatus_to_exitcode(found[1])


def _forget_values(child: int) -> None:
    from prometheus_client.multiprocess import mark_process_dead

    mark_process_dead(child)  # type: ignore[no-untyped-call]  # the library leaves it untyped


def _sockets(host: str, port: int, count: int) -> list[socket]:
    try:
        family, _, _, _, address = getaddrinfo(host, port, type=SOCK_STREAM)[0]
        sockets: list[socket] = []
        for _ in range(count):
            sock = socket(family, SOCK_STREAM)
            sock.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
            sock.setsockopt(SOL_SOCKET, SO_REUSEPORT, 1)
            sock.bind(sockets[0].getsockname() if sockets else address)
            sockets.append(sock)
    except OSError as failure:
        stop(f"cannot listen on {host}:{port} ({failure.strerror})", ADDRESS)
    return sockets


@contextmanager
def _shared_folder() -> Iterator[str]:
    folder = tempfile.mkdtemp(prefix="aitp-cp-metrics-")
    parent = os.getpid()
    try:
        yield folder
    finally:
        if os.getpid() == parent:
            shutil.rmtree(folder, ignore_errors=True)
