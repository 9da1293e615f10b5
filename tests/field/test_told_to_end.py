"""SIGTERM at any moment of a command's life, as process 1 of a container or not."""

import asyncio
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import wraps
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from aitp_cp.cli.exits import DATABASE
from aitp_cp.db.locks import MIGRATION
from tests.support.app import ENVIRONMENT
from tests.support.namespace import Command
from tests.support.process import Process, free_port
from tests.support.processes import alive, children
from tests.support.waiting import eventually

AT_MOST_SECS = 1.0
TERMINATED = 128 + signal.SIGTERM


class SilentDatabase:
    """Takes connections and never says a word, like a database behind a firewall that drops packets."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.dsn = f"postgresql://cp@127.0.0.1:{self._listener.getsockname()[1]}/cp"
        self._connections: list[socket.socket] = []

    def asked(self) -> None:
        """Wait until somebody connects."""
        self._listener.settimeout(20)
        self._connections.append(self._listener.accept()[0])

    def close(self) -> None:
        for sock in (self._listener, *self._connections):
            sock.close()


@pytest.fixture
def silent() -> Iterator[SilentDatabase]:
    database = SilentDatabase()
    yield database
    database.close()


def environment(dsn: str) -> dict[str, str]:
    return {**ENVIRONMENT, "DATABASE_URL": dsn, "HOST": "127.0.0.1", "PORT": str(free_port()), "DRAIN_WINDOW_MS": "0"}


class Late(AssertionError):
    pass


@contextmanager
def ends_in_time() -> Iterator[None]:
    began = time.monotonic()
    yield
    if time.monotonic() - began > AT_MOST_SECS:
        raise Late


def never_late(test: Callable[..., None]) -> Callable[..., None]:
    """Repeat a test that was late: a machine that is busy with something else makes it so once, but not three times."""

    @wraps(test)
    def repeated(**given: Any) -> None:
        for _ in range(2):
            with suppress(Late):
                test(**given)
                return
        test(**given)

    return repeated


@never_late
@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("serve",), 0),
        (("serve", "--workers", "2"), 0),
        (("serve", "--migrate"), 0),
        (("worker",), 0),
        (("migrate",), TERMINATED),
        (("retention", "run"), TERMINATED),
        (("check",), TERMINATED),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, tuple) else "",
)
def test_while_the_database_does_not_answer(
    silent: SilentDatabase, tmp_path: Path, first: bool, arguments: tuple[str, ...], code: int
) -> None:
    """Row 10: out within a second, whatever is waited for."""
    with Command(*arguments, log=tmp_path / "log", first=first, environment=environment(silent.dsn)) as command:
        silent.asked()
        command.tell()
        with ends_in_time():
            assert command.wait(20) == code
        assert "Traceback" not in command.log()


@never_late
@pytest.mark.parametrize("arguments", [("migrate",), ("serve", "--migrate")])
def test_while_another_migration_works(empty_database_url: str, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """Row 10: `migrate` waits for its turn, and leaves nothing behind when told to end."""

    async def story() -> None:
        other = await asyncpg.connect(empty_database_url)
        await other.execute("SELECT pg_advisory_lock($1)", MIGRATION.key)
        with Command(*arguments, log=tmp_path / "log", environment=environment(empty_database_url)) as command:
            waiting = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'aitp-cp migrate'"
            while not await other.fetchval(waiting):
                await asyncio.sleep(0.02)
            command.tell()
            try:
                with ends_in_time():
                    assert command.wait(20) == (0 if arguments[0] == "serve" else TERMINATED)
                while await other.fetchval(waiting):
                    await asyncio.sleep(0.02)
            finally:
                await other.close()

    asyncio.run(story())


@pytest.mark.parametrize("arguments", [("serve",), ("serve", "--workers", "2")])
def test_from_the_first_line_on(silent: SilentDatabase, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """Row 10: told again and again from its very beginning, it is gone before it has loaded anything."""
    with Command(*arguments, log=tmp_path / "log", environment=environment(silent.dsn)) as command:
        deadline = time.monotonic() + 10
        with suppress(ProcessLookupError, IndexError, FileNotFoundError):
            while command.running() and time.monotonic() < deadline:
                command.tell()
                time.sleep(0.02)
        assert command.wait(1) in {0, TERMINATED}


@never_late
def test_children_that_wait_watch_their_parent(silent: SilentDatabase, tmp_path: Path) -> None:
    """Row 10: the parent is killed while they wait for the database."""
    with Command(
        "serve", "--workers", "2", log=tmp_path / "log", first=False, environment=environment(silent.dsn)
    ) as command:
        silent.asked()
        silent.asked()
        orphans = children(command.pid)
        assert len(orphans) == 2
        command.tell(signal.SIGKILL)
        with ends_in_time():
            eventually(lambda: not alive(orphans))


def test_as_process_one_it_drains(database_url: str, tmp_path: Path) -> None:
    """Row 10: the ordinary end of a container."""
    given = environment(database_url)
    with Command("serve", "--workers", "2", log=tmp_path / "log", environment=given) as command:

        def ready() -> bool:
            with suppress(httpx.TransportError):
                return httpx.get(f"http://127.0.0.1:{given['PORT']}/api/readyz").status_code == 200
            return False

        eventually(ready)
        eventually(lambda: command.log().count("Started server process") == 2)  # one that starts leaves at once
        command.tell()
        assert command.wait(20) == 0
        assert command.log().count("stopped") == 2


def test_workers_that_cannot_start_end_their_parent(empty_database_url: str, tmp_path: Path) -> None:
    """Row 42: with the child's exit code."""
    with Command(
        "serve", "--workers", "2", log=tmp_path / "log", environment=environment(empty_database_url)
    ) as command:
        assert command.wait(20) == DATABASE
        assert "run `aitp-cp migrate`" in " ".join(command.log().split())


def test_workers_that_cannot_start_again_end_their_parent(database_url: str, tmp_path: Path) -> None:
    """Row 42: also later, when none is left that serves; while one serves the others are tried again."""
    with Process(database_url, tmp_path / "log", "--workers", "2") as server:

        async def break_schema() -> None:
            conn = await asyncpg.connect(database_url)
            await conn.execute("UPDATE aitp_cp_version SET version_num = '9999_from_the_future'")
            await conn.close()

        asyncio.run(break_schema())
        one, other = children(server.running.pid)
        os.kill(one, signal.SIGKILL)
        eventually(lambda: server.log().count("worker_replaced") >= 2)
        for _ in range(20):  # none is given to the one that is not there
            assert httpx.get(f"{server.url}/api/livez", timeout=5).status_code == 200
        assert server.running.poll() is None
        os.kill(other, signal.SIGKILL)
        assert server.running.wait(20) == DATABASE
