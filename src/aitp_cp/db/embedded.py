"""A Postgres server from a wheel, for `dev` and the tests.

One owner per home folder, held by a file lock. Postgres outlives an owner that is killed; the next
owner takes it over.
"""

import fcntl
import os
import re
import shlex
import shutil
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Self
from urllib.parse import quote

from aitp_cp.db.embedded_place import MAJOR, EmbeddedError, Place, own_directory, prepare

__all__ = ["AlreadyRunning", "EmbeddedError", "Server", "start"]

_START_SECONDS = "120"  # recovery after a crash included
_ORPHAN_SECONDS = 10.0  # for the backends of a killed server to end
_LISTEN_SECONDS = 3.0  # from a server's first file to its socket
_IN_USE = "pre-existing shared memory block"
_DEFAULT_PORT = 5432
_LOG_MAX_BYTES = 16 * 1024 * 1024
# The parent's environment may hold secrets and PG* variables; Postgres needs neither.
_ENVIRONMENT = {"PATH": os.defpath, "LC_ALL": "C"}
_SETTINGS = {
    "max_connections": "200",
    "shared_buffers": "64MB",
    "io_method": "sync",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "unix_socket_permissions": "0700",
}
_NOT_DURABLE = {
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
}


class AlreadyRunning(EmbeddedError):
    """Another process owns this home; `pid` is that process, not Postgres."""

    def __init__(self, home: Path, pid: int) -> None:
        super().__init__(f"the embedded Postgres of {home} is in use by process {pid}")
        self.pid = pid


class _Status(NamedTuple):
    pid: int
    options: str  # as pg_ctl prints them, each in quotes


class Server:
    """A running Postgres; made by `start`, also a context manager that stops it."""

    def __init__(self, place: Place, pid: int, port: int | None, lock: int) -> None:
        self.pid = pid
        self.port = port
        self.data = place.data
        self.log_file = place.data / "server.log"
        self._place = place
        self._lock: int | None = lock

    def dsn(self, database: str = "postgres") -> str:
        """Return the URL of a database over the unix socket."""
        host = quote(str(self._place.socket_dir), safe="/")
        return f"postgresql://postgres@/{quote(database, safe='')}?host={host}&port={self.port or _DEFAULT_PORT}"

    def bin(self, name: str) -> Path:
        """Return the path of a Postgres program such as `psql` or `pg_dump`."""
        return self._place.bin_dir / name

    def stop(self) -> None:
        """Shut down fast, then harder; a second call does nothing. Raises EmbeddedError if it survives."""
        if self._lock is None:
            return
        _stop(self._place)
        os.close(self._lock)
        self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def start(home: Path, *, durable: bool = True, port: int | None = None) -> Server:
    """Run the Postgres with its data under `home`, and initialise the data if missing.

    It listens on a unix socket, and with `port` on 127.0.0.1 too. `durable=False` trades safety
    against power loss for speed. Raises AlreadyRunning, or EmbeddedError with the end of the server log.
    """
    home = home.expanduser().resolve()
    try:
        home.mkdir(parents=True, exist_ok=True)
        lock = _claim(home)
        try:
            place = prepare(home)
            _initialise(place, durable)
            return Server(place, _run(place, _options(place, durable, port)), port, lock)
        except BaseException:
            os.close(lock)
            raise
    except OSError as error:
        raise EmbeddedError(f"the embedded Postgres of {home} cannot start: {error}") from error


def _claim(home: Path) -> int:
    lock = os.open(home / "embedded.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        owner = os.pread(lock, 20, 0).strip()
        os.close(lock)
        raise AlreadyRunning(home, int(owner or 0)) from error
    os.ftruncate(lock, 0)
    os.pwrite(lock, str(os.getpid()).encode(), 0)
    return lock


def _initialise(place: Place, durable: bool) -> None:
    """Initialise the data under a temporary name: a killed initdb leaves no partial data folder."""
    if os.path.lexists(place.data):
        _check_version(place)
        return
    part = place.data.with_name("postgres.part")
    shutil.rmtree(part, ignore_errors=True)
    own_directory(part, place.account)
    options = ["-U", "postgres", "--auth=trust", "--encoding=UTF8", "--locale=C"]
    # The builtin provider sorts alike on every platform and needs no locale installed.
    options += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", *([] if durable else ["--no-sync"])]
    done = _execute(place, "initdb", "-D", str(part), *options)
    if done.returncode:
        raise EmbeddedError(f"initdb failed:\n{(done.stderr or done.stdout)[-2000:]}")
    part.rename(place.data)


def _check_version(place: Place) -> None:
    own_directory(place.data, place.account)
    try:
        version = (place.data / "PG_VERSION").read_text().strip()
    except FileNotFoundError as error:
        raise EmbeddedError(f"{place.data} is not a Postgres data folder") from error
    if version != MAJOR:
        raise EmbeddedError(
            f"{place.data} was made by Postgres {version}, and this is {MAJOR}: "
            f"move its content with pg_dump of version {version}, or remove the folder to start again"
        )


def _options(place: Place, durable: bool, port: int | None) -> list[str]:
    sockets = str(place.socket_dir).replace('"', '""')
    settings = _SETTINGS | ({} if durable else _NOT_DURABLE)
    settings |= {
        "port": str(port or _DEFAULT_PORT),
        "listen_addresses": "127.0.0.1" if port else "",
        "unix_socket_directories": f'"{sockets}"',
    }
    return [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]


def _run(place: Place, options: list[str]) -> int:
    """Take over the server of a killed owner if it runs with these options; otherwise start one."""
    left = _status(place)
    if left is not None and _is_postgres(place, left):
        if left.options == " ".join(f'"{option}"' for option in ("-D", ".", *options)):
            return left.pid
        _stop(place)
    # A stale file, perhaps with the pid of another program. Postgres also checks the shared memory: it refuses to
    # start while a process uses the data.
    (place.data / "postmaster.pid").unlink(missing_ok=True)
    deadline = time.monotonic() + _ORPHAN_SECONDS
    while True:
        try:
            return _launch(place, options)
        except EmbeddedError as error:  # the processes of a killed server need a moment to end
            if _IN_USE not in str(error) or time.monotonic() > deadline:
                raise
        time.sleep(0.1)


def _launch(place: Place, options: list[str]) -> int:
    log = place.data / "server.log"
    size = log.stat().st_size if log.exists() else 0
    if size > _LOG_MAX_BYTES:
        log.unlink()
        size = 0
    try:
        done = _pg_ctl(place, "start", "-w", "-t", _START_SECONDS, "-l", log.name, "-o", shlex.join(options))
        status = _status(place)
    except BaseException:
        _stop(place)
        raise
    if done.returncode or status is None:
        with suppress(OSError), log.open("rb") as file:
            file.seek(max(size, log.stat().st_size - 4000))
            raise EmbeddedError(f"Postgres did not start:\n{file.read().decode(errors='replace')}")
        raise EmbeddedError(f"Postgres did not start:\n{done.stderr or done.stdout}")
    return status.pid


def _status(place: Place) -> _Status | None:
    """Return the server that the pid file names, and what it was started with; None if no such process exists."""
    match = re.search(r"PID: (\d+)\)\n\S+ (.*)", _pg_ctl(place, "status").stdout)
    return _Status(int(match[1]), match[2].strip()) if match else None


def _is_postgres(place: Place, server: _Status) -> bool:
    """Return whether the process is Postgres, also while it starts or stops. Waits briefly for its socket."""
    port = re.search(r'"port=(\d+)"', server.options)
    command = ["pg_isready", "-t", "3", "-h", str(place.socket_dir), "-p", port[1] if port else str(_DEFAULT_PORT)]
    deadline = time.monotonic() + _LISTEN_SECONDS
    while _execute(place, *command).returncode not in {0, 1}:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def _stop(place: Place) -> None:
    """Shut down fast, then without a checkpoint; raises EmbeddedError if the server survives both."""
    for mode, seconds in (("fast", "30"), ("immediate", "10")):
        if not _pg_ctl(place, "stop", "-w", "-t", seconds, "-m", mode).returncode or _status(place) is None:
            return
    raise EmbeddedError(f"the Postgres of {place.data} does not stop")


def _pg_ctl(place: Place, *arguments: str) -> "subprocess.CompletedProcess[str]":
    # Run inside the folder: pg_ctl passes paths to a shell, where a quote in a path would be special.
    return _execute(place, "pg_ctl", "-D", ".", *arguments)


def _execute(place: Place, program: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [place.bin_dir / program, *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        cwd=place.data if place.data.is_dir() else "/",
        env=_ENVIRONMENT,
        check=False,
        **place.account.process_options(),
    )
