"""Check whether a database can serve at all; `check`, `migrate`, `serve` and `worker` use the same checks."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import asyncpg

from aitp_cp.db.connect import connect, ending
from aitp_cp.db.loss import named_loss

OLDEST_SERVER = 14
COMMAND_TIMEOUT_SECS = 5.0

_VERSION = "SELECT split_part(current_setting('server_version'), ' ', 1), current_setting('server_version_num')::int"
_ENCODING = "SELECT pg_encoding_to_char(encoding) FROM pg_database WHERE datname = current_database()"

_STORED_BY = ("fsync", "full_page_writes")
_DURABILITY = """
SELECT current_setting('fsync') AS fsync, current_setting('full_page_writes') AS full_page_writes,
       current_setting('synchronous_commit') AS synchronous_commit,
       current_setting('synchronous_standby_names') <> '' AS standbys
"""

# A pooler that lends a server connection per transaction loses prepared statements between two of them.
_LOST_STATEMENT = (asyncpg.InvalidSQLStatementNameError, asyncpg.DuplicatePreparedStatementError)
_BY_TRANSACTION = (
    "a pooler in between lends a server connection for one transaction only: session settings, notifications and the "
    "migration lock do not survive that. Use session mode (PgBouncer: pool_mode = session), or go past the pooler"
)


async def unfit(dsn: str) -> str | None:
    """Return why this database can never serve, in a sentence that says what to do; raises the driver's errors."""
    async with session(dsn) as conn:
        reason = await unfit_server(conn)
    return reason or await pooled_by_transaction(dsn)


async def version(conn: asyncpg.Connection) -> tuple[str, int]:
    """Return the server's version, such as 15.18, and its major number."""
    row = await conn.fetchrow(_VERSION)
    assert row is not None
    return row[0], row[1] // 10_000


async def unfit_server(conn: asyncpg.Connection) -> str | None:
    shown, major = await version(conn)
    if major < OLDEST_SERVER:
        return f"PostgreSQL {shown} is older than {OLDEST_SERVER}: upgrade the server"
    encoding = await conn.fetchval(_ENCODING)
    if encoding != "UTF8":
        return (
            f"the database stores text as {encoding}, which cannot hold every event: create one with ENCODING 'UTF8' "
            "(TEMPLATE template0) and move the rows with pg_dump"
        )
    return None


async def undurable(conn: asyncpg.Connection) -> str | None:
    """Return a sentence when a request that was answered 200 can be lost in a crash, whatever a session sets."""
    row = await conn.fetchrow(_DURABILITY)
    assert row is not None
    if off := [name for name, value in row.items() if name in _STORED_BY and value == "off"]:
        return f"{' and '.join(off)} off on the server: a crash can lose or destroy what was answered 200"
    if row["synchronous_commit"] == "local" and row["standbys"]:
        return "synchronous_commit is local: what was answered 200 may be missing on the standby after a failover"
    return None


async def pooled_by_transaction(dsn: str) -> str | None:
    """Return a sentence when two sessions share a server process, or a session has no transactions of its own."""
    for _ in range(2):  # one lost connection is an accident; one lost at every BEGIN is a pooler that refuses it
        async with session(dsn) as first, session(dsn) as second:
            with suppress(asyncpg.ConnectionDoesNotExistError):
                return _BY_TRANSACTION if await _share(first, second) else None
    return _BY_TRANSACTION


async def _share(first: asyncpg.Connection, second: asyncpg.Connection) -> bool:
    try:
        pid = await _pid(first)
        async with second.transaction():  # holds its server process; a pooler would have lent `first` the same
            pid_of_second = await second.fetchval("SELECT pg_backend_pid()")
            try:
                pid_later = await _pid(first)
            except TimeoutError:
                # A pooler with one connection lends it to `second`, which works; a silent database answers nobody.
                await second.fetchval("SELECT 1")
                return True
    except _LOST_STATEMENT:
        return True
    return bool(pid_of_second == pid or pid_later != pid)


@asynccontextmanager
async def session(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    """Connect for as long as the block lasts; a loss is raised as `ConnectionDoesNotExistError`."""
    with ending(await connect(dsn, command_timeout=COMMAND_TIMEOUT_SECS, statement_cache_size=0)) as conn:
        async with named_loss(conn):
            yield conn


async def _pid(conn: asyncpg.Connection) -> int:
    async with conn.transaction():
        return int(await conn.fetchval("SELECT pg_backend_pid()"))
