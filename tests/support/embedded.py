"""Helpers for tests of the embedded Postgres: homes, owners in other processes, questions."""

import asyncio
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import pytest

from aitp_cp.db import embedded, embedded_place
from tests.support.processes import alive

_SOURCE = Path(embedded.__file__).parents[2]

# Starts a server in argv[1], says so, and then waits to be told to stop (or to be killed). With argv[2] it
# becomes that uid once everything is loaded, for the interpreter itself may be out of an ordinary user's reach.
_OWNER = """
import os, sys
from pathlib import Path
from aitp_cp.db import embedded
if len(sys.argv) > 2:
    os.setgroups([])
    os.setgid(int(sys.argv[2]))
    os.setuid(int(sys.argv[2]))
server = embedded.start(Path(sys.argv[1]), durable=False)
print(server.pid, flush=True)
sys.stdin.read()
server.stop()
"""


@contextmanager
def folder_for_everyone() -> Iterator[Path]:
    """A temporary folder that every account can reach, which pytest's own are not."""
    with tempfile.TemporaryDirectory(prefix="aitp-cp-test-") as name:
        Path(name).chmod(0o755)
        yield Path(name).resolve()


@contextmanager
def temp_directory(folder: Path) -> Iterator[Path]:
    """Make `folder` the process's temp directory for a while."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(folder))
        yield folder


def ask(dsn: str, query: str) -> str:
    async def fetch() -> str:
        conn = await asyncpg.connect(dsn)
        try:
            return str(await conn.fetchval(query))
        finally:
            await conn.close()

    return asyncio.run(fetch())


def running(pid: int) -> bool:
    return pid in alive({pid})


def ends(pid: int) -> bool:
    """Whether the process is gone, or is within ten seconds: its last files go a moment before it does."""
    deadline = time.monotonic() + 10
    while running(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not running(pid)


def start_owner(home: Path, *arguments: str, path: Path = _SOURCE) -> tuple["subprocess.Popen[str]", int]:
    """Another process that owns a server, and the process id of that server."""
    owner = subprocess.Popen(
        [sys.executable, "-c", _OWNER, str(home), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": f"{path}:{_SOURCE}"},
    )
    assert owner.stdout is not None
    return owner, int(owner.stdout.readline())


def copy_wheel(folder: Path) -> Path:
    """Put the wheel's packages into `folder`, as into a site-packages."""
    spec = importlib.util.find_spec(embedded_place.PACKAGE)
    assert spec is not None
    assert spec.submodule_search_locations
    package = Path(spec.submodule_search_locations[0])
    shutil.copytree(package, folder / package.name, ignore=shutil.ignore_patterns("include", "pginstall", "*.a"))
    if (libraries := package.with_name(f"{package.name}.libs")).is_dir():
        shutil.copytree(libraries, folder / libraries.name)
    return folder
