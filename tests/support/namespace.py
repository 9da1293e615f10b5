"""A command as process 1 of a pid namespace, which is what the command of a container is."""

import os
import shutil
import signal
import subprocess
import sys
import time
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

UNSHARE = ["unshare", "--pid", "--fork", "--kill-child"]


@cache
def _permitted() -> bool:
    if shutil.which("unshare") is None:
        return False
    return subprocess.run([*UNSHARE, "true"], capture_output=True, check=False).returncode == 0


class Command:
    """`aitp-cp` with these arguments, as process 1 of its namespace or as any other process."""

    def __init__(self, *arguments: str, log: Path, environment: dict[str, str], first: bool = True) -> None:
        if first and not _permitted():
            pytest.skip("LEFT OUT: pid namespaces are not permitted here, nothing was tested as process 1")
        prefix = UNSHARE if first else []
        self._first = first
        self._log = log
        with log.open("ab") as file:
            self._process = subprocess.Popen(
                [*prefix, sys.executable, "-m", "aitp_cp", *arguments],
                env={"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path), **environment},
                stdout=file,
                stderr=file,
            )

    @property
    def pid(self) -> int:
        """Of the command itself, as seen from here."""
        if not self._first:
            return self._process.pid
        path = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        while not (children := path.read_text().split()):
            time.sleep(0.01)
        return int(children[0])

    def running(self) -> bool:
        return self._process.poll() is None

    def tell(self, number: signal.Signals = signal.SIGTERM) -> None:
        os.kill(self.pid, number)

    def wait(self, timeout: float) -> int:
        """The exit code, or 128 and the signal."""
        code = self._process.wait(timeout)
        return code if code >= 0 else 128 - code

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self.running():
            self._process.kill()
            self._process.wait()
