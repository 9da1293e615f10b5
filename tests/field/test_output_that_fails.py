"""What is only told never stops what is done; what is asked for and cannot be printed is told in a sentence."""

import asyncio
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from aitp_cp.db.migrations import HEAD
from aitp_cp.db.schema import current_revision
from tests.cli.support import GOOD, environment
from tests.support.process import Process
from tests.support.processes import children

COMMAND = [sys.executable, "-m", "aitp_cp"]
NO_SPACE = "No space left on device"
# What a command prints when it works, and so cannot leave out.
ASKED_FOR = [("--help",), ("--version",), ("keygen",), ("openapi",), ("conformance", "--list")]


def run(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    given = {"stderr": subprocess.PIPE, "env": environment(), "timeout": 60, **options}
    return subprocess.run([*COMMAND, *arguments], text=True, check=False, **given)


@contextmanager
def stopped(server: Process) -> Iterator[None]:
    try:
        yield
    finally:
        server.kill()


def at_head(dsn: str) -> bool:
    async def revision() -> str | None:
        conn = await asyncpg.connect(dsn)
        try:
            return await current_revision(conn)
        finally:
            await conn.close()

    return asyncio.run(revision()) == HEAD


@pytest.mark.parametrize("arguments", ASKED_FOR, ids=" ".join)
def test_on_a_full_disk_what_is_asked_for_fails_with_a_sentence(arguments: tuple[str, ...]) -> None:
    """Row 19: no traceback, no success."""
    with open("/dev/full", "w") as full:
        failed = run(*arguments, stdout=full)
    assert failed.returncode == 1
    assert NO_SPACE in failed.stderr
    assert len(failed.stderr.splitlines()) == 1


def test_a_file_that_may_not_grow_is_a_full_disk(tmp_path: Path) -> None:
    """Row 19: RLIMIT_FSIZE, the real thing on a real file."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))

    with (tmp_path / "out").open("w") as out:
        failed = run("openapi", stdout=out, preexec_fn=limit)
    assert (failed.returncode, len(failed.stderr.splitlines())) == (1, 1)
    assert "File too large" in failed.stderr


@pytest.mark.parametrize("arguments", [("keygen",), ("openapi",), ("conformance", "--list")], ids=" ".join)
def test_a_reader_that_has_gone_ends_the_command_quietly(arguments: tuple[str, ...]) -> None:
    """Row 19: as a shell expects of a program in a pipe."""
    reader, writer = os.pipe()
    os.close(reader)
    done = run(*arguments, stdout=writer)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize("broken", ["full", "gone", "closed"])
def test_a_migration_is_done_whoever_reads_of_it(empty_database_url: str, broken: str) -> None:
    """Row 19: `migrate > /dev/full`, `migrate | head -1`, `migrate >&-`."""
    given = environment(DATABASE_URL=empty_database_url)
    shell = {"full": "{} > /dev/full", "gone": "{} | true", "closed": "{} >&- 2>&- <&-"}[broken]
    script = f"set -o pipefail; {shell.format(' '.join([*COMMAND, 'migrate']))}"
    done = subprocess.run(["bash", "-c", script], env=given, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert at_head(empty_database_url)


def test_a_migration_that_nobody_reads_of_does_not_wait(empty_database_url: str) -> None:
    """Row 19: the pipe is full and its reader stalls, as a pager does."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    try:
        while True:
            os.write(writer, b"x" * 4096)
    except BlockingIOError:
        os.set_blocking(writer, True)
    done = run("migrate", stdout=writer, env=environment(DATABASE_URL=empty_database_url), timeout=30)
    os.close(writer)
    os.close(reader)
    assert (done.returncode, done.stderr) == (0, "")
    assert at_head(empty_database_url)


def test_serve_migrates_and_serves_on_a_full_disk(empty_database_url: str, tmp_path: Path) -> None:
    """Row 19: nothing that `serve --migrate` says is worth not starting."""
    with open("/dev/full", "w") as full:
        server = Process(empty_database_url, tmp_path / "log", "--migrate").start(stdout=full, stderr=full)
        with stopped(server):
            assert httpx.get(f"{server.url}/api/readyz").status_code == 200
            assert server.terminate() == 0


@pytest.mark.parametrize("dry_run", [True, False])
def test_a_sweep_is_done_whoever_reads_of_it(database_url: str, dry_run: bool) -> None:
    """Row 19: the table of a sweep is only told; that of a dry run is what was asked for."""
    with open("/dev/full", "w") as full:
        arguments = ("retention", "run", *(["--dry-run"] if dry_run else []))
        done = run(*arguments, stdout=full, env=environment(DATABASE_URL=database_url))
    assert done.returncode == int(dry_run)
    assert "Traceback" not in done.stderr


def test_check_says_that_it_cannot_say(database_url: str) -> None:
    """Row 19: a table nobody can read is no success."""
    with open("/dev/full", "w") as full:
        done = run("check", stdout=full, env=environment(**GOOD, DATABASE_URL=database_url))
    assert done.returncode == 1
    assert NO_SPACE in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("arguments", [("--help",), ("check",), ("retention", "run", "--dry-run")], ids=" ".join)
def test_a_terminal_that_knows_only_ascii(database_url: str, arguments: tuple[str, ...]) -> None:
    """Row 19: PYTHONIOENCODING=ascii loses no character and no command."""
    given = environment(**GOOD, DATABASE_URL=database_url, PYTHONIOENCODING="ascii")
    done = run(*arguments, stdout=subprocess.PIPE, env=given)
    assert done.stdout.isascii()
    assert done.stdout.count("\n") > 3
    assert done.stderr == ""


@pytest.mark.parametrize("arguments", [("serve",), ("serve", "--workers", "2")], ids=" ".join)
def test_standard_files_that_are_closed_are_no_sockets(
    database_url: str, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    """Standard input, output and error may be closed at start: no log line goes to whoever got their numbers."""
    server = Process(database_url, tmp_path / "log", *arguments[1:], DRAIN_WINDOW_MS="0")
    server.start(stdout=None, stderr=None, stdin=None, preexec_fn=lambda: os.closerange(0, 3), close_fds=True)
    with stopped(server):
        pids = {server.running.pid, *children(server.running.pid)}
        for pid in pids:
            assert {os.readlink(f"/proc/{pid}/fd/{number}") for number in range(3)} == {"/dev/null"}
        for _ in range(5):
            assert httpx.get(f"{server.url}/api/livez").status_code == 200
        assert server.terminate() == 0


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("--help",), 0),
        (("keygen",), 0),
        (("check",), 0),
        (("retention", "run"), 0),
        (("agents", "list"), 5),
        (("worker",), 2),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_every_command_runs_with_closed_standard_files(
    database_url: str, arguments: tuple[str, ...], code: int
) -> None:
    """Standard input, output and error may be closed at start."""
    given = environment(**GOOD, DATABASE_URL=database_url, AITP_CP_URL="http://127.0.0.1:1")
    if arguments == ("worker",):
        given["PORT"] = "wrong"
    closed = "exec <&- >&- 2>&-; "
    script = closed + " ".join([*COMMAND, *arguments])
    assert subprocess.run(["bash", "-c", script], env=given, timeout=60, check=False).returncode == code


@pytest.mark.parametrize("command", ["serve", "worker", "check", "migrate", "retention"])
def test_a_user_without_a_name(command: str) -> None:
    """Row 26: a uid without a passwd entry, and a DSN without a user; a sentence and no traceback."""
    nameless = ["unshare", "--user", "--map-user=54321"]
    if subprocess.run([*nameless, "true"], capture_output=True, check=False).returncode:
        pytest.skip("LEFT OUT: user namespaces are not permitted here, so no account without a name was tested")
    arguments = ("retention", "run") if command == "retention" else (command,)
    given = environment(**GOOD, DATABASE_URL="postgresql://127.0.0.1:1/cp", PORT="0")
    done = subprocess.run(
        [*nameless, *COMMAND, *arguments], env=given, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode > 0
    assert "Traceback" not in done.stdout + done.stderr
    assert done.stderr or command == "check"


def test_a_failure_that_nobody_foresaw_is_a_sentence(tmp_path: Path) -> None:
    """Row 26: no traceback reaches an operator, unless it is asked for."""
    given = environment(**GOOD, DATABASE_URL="postgresql://127.0.0.1:1/cp", PORT="0")
    broken = (
        "import aitp_cp.cli.check as check; check.check = lambda: {}['a secret']; "
        "from aitp_cp_client.commands.entry import main; main()"
    )
    for level, stack in (("info", False), ("debug", True)):
        done = subprocess.run(
            [sys.executable, "-c", broken, "check"],
            env=given | {"LOG_LEVEL": level},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 70
        assert "an unexpected failure (KeyError)" in done.stderr
        assert ("Traceback" in done.stderr) == stack
        assert ("a secret" in done.stderr) == stack
