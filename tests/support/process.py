"""The real command in a process of its own: started, asked, stopped, killed."""

import contextlib
import itertools
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from tests.support.app import ENVIRONMENT

START_SECS = 30


# Below the ports that Linux gives to outgoing connections (32768 and up); each test process has a range of its own.
FIRST_PORT, PORTS_PER_WORKER = 12_000, 2_000
_worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw9").removeprefix("gw")) % 10
# Beginning anywhere: two runs on one machine, which have the same ranges, rarely meet.
_candidates = itertools.cycle((os.getpid() * 37 + number) % PORTS_PER_WORKER for number in range(PORTS_PER_WORKER))


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 on which nothing listens, and that nothing else on the machine takes by chance."""
    for candidate in itertools.islice(_candidates, PORTS_PER_WORKER):
        port = FIRST_PORT + _worker * PORTS_PER_WORKER + candidate
        with socket.socket() as sock, contextlib.suppress(OSError):
            sock.bind(("127.0.0.1", port))
            return port
    raise AssertionError("every port of this test process is taken")


class Process:
    """`aitp-cp serve`, or another `command`, on a free port of this machine; its log is kept for the test to read."""

    module, command = "aitp_cp", "serve"

    def __init__(
        self, database_url: str, log: Path, *arguments: str, port: int | None = None, **environment: str
    ) -> None:
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.folder: Path | None = None  # where it runs, if not here
        self._log = log
        given = {**ENVIRONMENT, "HOST": "127.0.0.1", "DRAIN_WINDOW_MS": "200", **environment}
        self.environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.pathsep.join(sys.path),
            "PORT": str(self.port),
            "DATABASE_URL": database_url,
            **{name: value for name, value in given.items() if value},
        }
        self._arguments = arguments
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *, wait: bool = True, **options: Any) -> Self:
        """Start it; `options` are those of `Popen`, such as another standard output."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", self.module, self.command, *self._arguments],
                cwd=self.folder,
                env=self.environment,
                **{"stdout": log, "stderr": log, **options},
            )
        if wait:
            self.wait_ready()
        return self

    def wait_ready(self) -> None:
        deadline = time.monotonic() + START_SECS
        while time.monotonic() < deadline:
            if self.running.poll() is not None:
                raise AssertionError(f"the process ended with {self.running.returncode}:\n{self.log()}")
            try:
                if httpx.get(f"{self.url}/api/readyz", timeout=2).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.05)
        raise AssertionError(f"not ready after {START_SECS} s:\n{self.log()}")

    @property
    def running(self) -> subprocess.Popen[bytes]:
        assert self._process is not None
        return self._process

    def kill(self) -> None:
        """kill -9: nothing is flushed, nothing is said."""
        self.running.kill()
        self.running.wait()

    def terminate(self, timeout: float = 20) -> int:
        """SIGTERM; the exit code."""
        self.running.send_signal(signal.SIGTERM)
        return self.running.wait(timeout)

    def rss_mib(self) -> float:
        """The memory it holds."""
        pages = int(Path(f"/proc/{self.running.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()
