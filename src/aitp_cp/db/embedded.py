"""A real Postgres from a wheel, for `dev` and the tests: nothing to install, nothing shared.

One owner per home folder, held by a file lock. Postgres outlives an owner that is killed; the next
owner takes it over.
"""

import fcntl
import os
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

from aitp_cp.db.embedded_place import MAJOR, EmbeddedError, Place, own_directory, prepare

__all__ = ["AlreadyRunning", "EmbeddedError", "Server", "start"]

_START_SECONDS = 120.0
_ORPHAN_SECONDS = 10.0
_TRACES_OF_A_CRASH = ("pre-existing shared memory block", 'lock file "postmaster.pid" already exists')
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
        """The URL of a database over the unix socket."""
        host = quote(str(self._place.socket_dir), safe="/")
        return f"postgresql://postgres@/{quote(database, safe='')}?host={host}&port={self.port or _DEFAULT_PORT}"

    def bin(self, name: str) -> Path:
        """The path of a Postgres program such as `psql` or `pg_dump`."""
        return self._place.bin_dir / name

    def stop(self) -> None:
        """Shut down fast, then harder; a second call does nothing. Raises EmbeddedError if it survives."""
        if self._lock is None:
            return
        _shut_down(self._place, self.pid)
        os.close(self._lock)
        self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()


def start(home: Path, *, durable: bool = True, port: int | None = None) -> Server:
    """Run the Postgres whose data is under `home`, making it first if it is not there.

    It listens on a unix socket, and with `port` on 127.0.0.1 too. `durable=False` trades safety
    against power loss for speed. Raises AlreadyRunning, or EmbeddedError with the end of the server log.
    """
    home = home.expanduser().resolve()
    lock = -1
    try:
        home.mkdir(parents=True, exist_ok=True)
        lock = _claim(home)
        place = prepare(home)
        _initialise(place, durable)
        pid = _run(place, _command(place, durable, port))
    except BaseException as error:
        if lock >= 0:
            os.close(lock)
        if isinstance(error, OSError):
            raise EmbeddedError(f"the embedded Postgres of {home} cannot start: {error}") from error
        raise
    return Server(place, pid, port, lock)


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
    """Make the data folder beside its final name: an initdb that was killed leaves nothing half-made."""
    if os.path.lexists(place.data):
        _check_version(place)
        return
    part = place.data.with_name("postgres.part")
    shutil.rmtree(part, ignore_errors=True)
    own_directory(part, place.account)
    options = ["-U", "postgres", "--auth=trust", "--encoding=UTF8", "--locale=C"]
    # The builtin provider sorts alike on every platform and needs no locale installed.
    options += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", *([] if durable else ["--no-sync"])]
    done = subprocess.run(
        [place.bin_dir / "initdb", "-D", part, *options],
        capture_output=True,
        text=True,
        cwd="/",
        env=_ENVIRONMENT,
        check=False,
        **place.account.process_options(),
    )
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
            f"move its content with pg_dump of version {version}, or remove the folder to begin anew"
        )


def _command(place: Place, durable: bool, port: int | None) -> list[str]:
    sockets = str(place.socket_dir).replace('"', '""')
    settings = _SETTINGS | ({} if durable else _NOT_DURABLE)
    settings |= {
        "port": str(port or _DEFAULT_PORT),
        "listen_addresses": "127.0.0.1" if port else "",
        "unix_socket_directories": f'"{sockets}"',
    }
    options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    return [str(place.bin_dir / "postgres"), "-D", str(place.data), *options]


def _run(place: Place, command: list[str]) -> int:
    """Take over the server an earlier owner left running, if it runs as wanted; else launch one."""
    pid, _ = _pid_file(place)
    running = _command_line(pid) if pid is not None else ""
    if pid is not None and running == " ".join(command):
        # It may be on its way out; then a new one is wanted after all.
        with suppress(EmbeddedError):
            return _await_ready(place, pid, 0)
    elif pid is not None and f"postgres -D {place.data} " in running:
        _shut_down(place, pid)
    elif running or pid is None:
        # Another program has the number now, or a crash left the file empty: Postgres would give up over both.
        (place.data / "postmaster.pid").unlink(missing_ok=True)
    return _launch_after_crash(place, command)


def _launch_after_crash(place: Place, command: list[str]) -> int:
    """Launch; a killed postmaster holds its file until it is buried, and its backends the memory until they notice."""
    deadline = time.monotonic() + _ORPHAN_SECONDS
    while True:
        try:
            return _launch(place, command)
        except EmbeddedError as error:
            if not any(trace in str(error) for trace in _TRACES_OF_A_CRASH) or time.monotonic() > deadline:
                raise
        time.sleep(0.1)


def _launch(place: Place, command: list[str]) -> int:
    log = _open_log(place)
    try:
        begin = os.lseek(log, 0, os.SEEK_END)
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            env=_ENVIRONMENT,
            start_new_session=True,
            **place.account.process_options(),
        )
    finally:
        os.close(log)
    # It may outlive this object, and this process: that is no mistake worth a ResourceWarning.
    process.returncode = 0
    try:
        return _await_ready(place, process.pid, begin)
    except BaseException:
        _shut_down(place, process.pid)
        raise


def _open_log(place: Place) -> int:
    path = place.data / "server.log"
    with suppress(FileNotFoundError):
        if path.lstat().st_size > _LOG_MAX_BYTES:
            path.unlink()
    log = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
    if os.geteuid() != place.account.uid:
        os.fchown(log, place.account.uid, place.account.gid)
    return log


def _await_ready(place: Place, pid: int, log_begin: int) -> int:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if _pid_file(place) == (pid, "ready"):
            return pid
        if _gone(pid):
            raise EmbeddedError(f"Postgres did not start:\n{_log_tail(place, log_begin)}")
        time.sleep(0.02)
    raise EmbeddedError(f"Postgres was not ready within {_START_SECONDS:.0f} s:\n{_log_tail(place, log_begin)}")


def _log_tail(place: Place, begin: int) -> str:
    try:
        log = os.open(place.data / "server.log", os.O_RDONLY | os.O_NOFOLLOW)
    except OSError as error:
        return f"(no server log: {error.strerror})"
    with open(log, "rb") as file:
        file.seek(max(begin, os.fstat(log).st_size - 4000))
        return file.read().decode(errors="replace")


def _pid_file(place: Place) -> tuple[int | None, str]:
    """The process and the state that Postgres says about itself: line 1 and line 8 of its file."""
    try:
        lines = (place.data / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return None, ""
    pid = abs(int(lines[0])) if lines and lines[0].strip().lstrip("-").isdigit() else None
    return pid, lines[7].strip() if len(lines) > 7 else ""


def _command_line(pid: int) -> str:
    """The arguments of a process; empty if there is none, or only its exit status is left."""
    if Path("/proc/self/cmdline").exists():
        with suppress(OSError):
            return os.fsdecode(Path(f"/proc/{pid}/cmdline").read_bytes()).rstrip("\0").replace("\0", " ")
        return ""
    question = ["/bin/ps", "-ww", "-o", "command=", "-p", str(pid)]
    shown = subprocess.run(question, capture_output=True, text=True, check=False)
    return shown.stdout.strip()


def _shut_down(place: Place, pid: int) -> None:
    for number, seconds in ((signal.SIGINT, 30.0), (signal.SIGQUIT, 10.0), (signal.SIGKILL, 5.0)):
        with suppress(ProcessLookupError):
            os.kill(pid, number)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if _gone(pid):
                return
            time.sleep(0.01)
    raise EmbeddedError(f"Postgres (process {pid}) of {place.data} does not stop")


def _gone(pid: int) -> bool:
    with suppress(ChildProcessError):
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    return not _command_line(pid)
