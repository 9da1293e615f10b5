"""The database of a command, and what the command says of one that is away or refuses."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import asyncpg

from aitp_cp.cli.exits import DATABASE
from aitp_cp.database_url import DatabaseUrlError
from aitp_cp.db import Database
from aitp_cp.db.failures import sentence
from aitp_cp.errors import DatabaseUnavailable
from aitp_cp.settings import Settings
from aitp_cp_client.commands.output import stop

DRIVER = (asyncpg.PostgresError, asyncpg.InterfaceError)


@asynccontextmanager
async def opened(settings: Settings, *, max_size: int = 1) -> AsyncIterator[Database]:
    """Open the database of the settings; raises `DatabaseUnavailable`."""
    db = Database(settings.dsn, max_size=max_size)
    await db.open()
    try:
        yield db
    finally:
        await db.close()


@contextmanager
def failures_explained(*more: type[Exception], code: int = DATABASE) -> Iterator[None]:
    """Leave with a sentence instead of a traceback; the driver's own texts may repeat the address with its password.

    `more` are failures that come from the database alone where this is used, such as `OSError`.
    """
    caught: tuple[type[Exception], ...] = (DatabaseUnavailable, DatabaseUrlError, *DRIVER, *more)
    try:
        yield
    except caught as failure:
        stop(f"the database {sentence(failure)}; see DATABASE_URL and run `aitp-cp check`", code)
