"""Server, migration, listener and check connect in one way, also through a real PgBouncer (row 13)."""

import asyncio
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import asyncpg
import pytest

from aitp_cp.db.migrations import REVISIONS
from tests.cli.support import GOOD, run, said, shell
from tests.events.support import append_numbers, replica
from tests.support.bouncer import bouncer, installed
from tests.support.process import Process, free_port
from tests.support.waiting import until

Through = Callable[..., AbstractContextManager[str]]


@pytest.fixture
def through() -> Iterator[Through]:
    """A PgBouncer in a mode, in a folder that its account can reach."""
    if installed() is None:
        said = "LEFT OUT: what goes through PgBouncer, for it is not installed (.ci/setup)"
        with warnings.catch_warnings():
            warnings.simplefilter("always", UserWarning)  # else an error, as every other warning here
            warnings.warn(said, stacklevel=1)
        pytest.skip(said)
    with tempfile.TemporaryDirectory(prefix="aitp-bouncer-") as name:
        Path(name).chmod(0o755)
        yield lambda dsn, mode, **more: bouncer(dsn, Path(name) / mode, mode, **more)


def alter(dsn: str, setting: str) -> None:
    async def execute() -> None:
        conn = await asyncpg.connect(dsn)
        await conn.execute(f"ALTER DATABASE {dsn.split('?')[0].rpartition('/')[2]} {setting}")
        await conn.close()

    asyncio.run(execute())


def test_session_mode(empty_database_url: str, through: Through, tmp_path: Path) -> None:
    """Row 13: with its default settings, and a database with a 1 s statement_timeout: migrate, check and serve work."""
    alter(empty_database_url, "SET statement_timeout = '1s'")
    with through(empty_database_url, "session") as dsn:
        migrated = run("migrate", DATABASE_URL=dsn)
        assert (migrated.returncode, f"revision {REVISIONS[-1]}" in said(migrated)) == (0, True), said(migrated)
        checked = run("check", **GOOD, DATABASE_URL=dsn, DB_POOL_MAX="10")
        assert checked.returncode == 0, said(checked)
        for row in ("ok pooler each connection keeps its server process", "ok notifications arrive", "ok schema"):
            assert row in said(checked)
        with Process(dsn, tmp_path / "log"):
            pass


@pytest.mark.anyio
async def test_the_listener_hears_through_session_mode(database_url: str, through: Through) -> None:
    """Row 13: the bell rings through the pooler, and streams get events at once."""
    with through(database_url, "session") as dsn:
        async with replica(dsn) as one, one.stream() as stream:
            await until(lambda: one.tail._listener.connected)
            places = await append_numbers(one.rt, range(3))
            assert (await stream.places(3))[-3:] == places


SESSION_MODE = "Use session mode (PgBouncer: pool_mode = session)"


@pytest.mark.parametrize("mode", ["transaction", "statement"])
def test_other_modes_are_refused_by_name(empty_database_url: str, through: Through, mode: str) -> None:
    """Row 13: check, migrate and serve all say what is wrong and what helps, and nothing is changed."""
    with through(empty_database_url, mode) as dsn:
        checked, migrated = run("check", **GOOD, DATABASE_URL=dsn), run("migrate", DATABASE_URL=dsn)
        served = shell("serve", **GOOD, DATABASE_URL=dsn, HOST="127.0.0.1", PORT=str(free_port()))
        assert [done.returncode for done in (checked, migrated, served)] == [1, 3, 3], said(served)
        for done in (checked, migrated, served):
            assert SESSION_MODE in said(done), said(done)


def test_a_pooler_with_a_single_server_connection(database_url: str, through: Through) -> None:
    """Row 13: in transaction mode the second session waits for the first; that is told apart from a slow server."""
    with through(database_url, "transaction", size=1) as dsn:
        assert SESSION_MODE in said(run("check", **GOOD, DATABASE_URL=dsn))


def test_a_parameter_that_the_pooler_does_not_let_through(database_url: str, through: Through) -> None:
    """Row 13: the refusal names the parameter and the pooler's setting."""
    with through(database_url, "session") as dsn:
        checked = run("check", **GOOD, DATABASE_URL=f"{dsn}&options=-c%20work_mem%3D8MB")
        assert "startup parameter options: add it to its ignore_startup_parameters" in said(checked)


def test_the_version_is_shown_as_the_server_says_it(database_url: str) -> None:
    """Row 13: 15.18 is shown as 15.18, not as 15.0."""

    async def version() -> str:
        conn = await asyncpg.connect(database_url)
        try:
            return str(await conn.fetchval("SHOW server_version")).split()[0]
        finally:
            await conn.close()

    checked = run("check", **GOOD, DATABASE_URL=database_url)
    shown = asyncio.run(version())
    assert not shown.endswith(".0")
    assert f"ok database PostgreSQL {shown}" in said(checked)
