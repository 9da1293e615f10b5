"""The connection pool, transactions, and the translation of driver errors."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from datetime import datetime
from typing import Any, Protocol, cast

import asyncpg
import structlog

from aitp_cp.database_url import DatabaseUrlError
from aitp_cp.db.connect import connect
from aitp_cp.db.reserve import Reserve, urgent
from aitp_cp.db.times import read_all_times
from aitp_cp.errors import RETRIABLE, Conflict, DatabaseUnavailable, ShuttingDown

log = structlog.get_logger("aitp_cp.db")

Record = asyncpg.Record
UniqueViolation = asyncpg.UniqueViolationError
# A value that this database cannot hold: text outside its encoding, a number out of range, too long for an index.
ValueRefused = (asyncpg.DataError, asyncpg.ProgramLimitExceededError)

ACQUIRE_TIMEOUT_SECS = 5.0
COMMAND_TIMEOUT_SECS = 20.0
LOG_EVERY_SECS = 30.0
RENEW_EVERY_SECS = 1.0  # a database that stays read-only must not be reconnected to with every refused write

# Also off in recovery; outside a transaction block it is what the next transaction would get.
WRITABLE = "SELECT current_setting('transaction_read_only') = 'off'"

# The same request may succeed later: the server is away, full, overloaded or shutting down.
PASSING_FAILURES: tuple[type[BaseException], ...] = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.ObjectNotInPrerequisiteStateError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.exceptions.ConnectionDoesNotExistError,
    # An idle connection that the server has just closed, borrowed before its end was read.
    asyncpg.InternalClientError,
)


class Connection(Protocol):
    """What rooms may do with a connection; rows are records, `jsonb` is text."""

    async def execute(self, query: str, *args: Any, timeout: float | None = None) -> str: ...

    async def fetch(self, query: str, *args: Any, timeout: float | None = None) -> list[Record]: ...

    async def fetchrow(self, query: str, *args: Any, timeout: float | None = None) -> Record | None: ...

    async def fetchval(self, query: str, *args: Any, column: int = 0, timeout: float | None = None) -> Any: ...

    def transaction(self) -> AbstractAsyncContextManager[Any]: ...


class _LeanConnection(asyncpg.Connection):
    """Saves a round trip on each release: nothing here ever leaves session state behind."""

    __slots__ = ()

    def get_reset_query(self) -> str:
        return ""


async def server_time(conn: Connection) -> datetime:
    """Return what time the database server has."""
    at: datetime = await conn.fetchval("SELECT clock_timestamp()")
    return at


# Called after every statement with its text, its seconds and its error; never with its arguments.
OnStatement = Callable[[str, float, BaseException | None], None]


class Database:
    """The pool of one process."""

    def __init__(self, dsn: str, *, max_size: int, on_statement: OnStatement | None = None) -> None:
        self.dsn = dsn
        self.max_size = max_size
        self.commits = 0  # of this process; what was read before the last one may be stale
        self._on_statement = on_statement
        self._reserve = Reserve(max_size, ACQUIRE_TIMEOUT_SECS)
        self._on_renew: list[Callable[[], None]] = []
        self._renewed_at = self._logged_at = float("-inf")
        self._pool: asyncpg.Pool[Record] | None = None
        self._closing = False

    async def open(self) -> None:
        """Connect; raises `DatabaseUnavailable` when the server cannot be reached or refuses."""
        with _translated():
            self._pool = await asyncpg.create_pool(
                self.dsn,
                min_size=1,
                max_size=self.max_size,
                connect=cast(Any, self._connect),  # the stubs want the signature of asyncpg.connect
                connection_class=_LeanConnection,
                init=self._prepare,
            )
        self._closing = False

    async def _connect(self, dsn: str, **driver: Any) -> asyncpg.Connection:
        try:
            return await connect(dsn, command_timeout=COMMAND_TIMEOUT_SECS, **driver)
        except (asyncpg.PostgresError, DatabaseUrlError, KeyError) as refused:  # also permanent refusals
            raise DatabaseUnavailable(headers={"Retry-After": "1"}) from refused

    async def _prepare(self, conn: asyncpg.Connection) -> None:
        await read_all_times(conn)
        on_statement = self._on_statement
        if on_statement is not None:
            conn.add_query_logger(lambda done: on_statement(done.query, done.elapsed, done.exception))

    async def close(self) -> None:
        """Close within five seconds, then by force: shutdown has a budget."""
        self._closing = True
        if self._pool is None:
            return
        try:
            await asyncio.wait_for(self._pool.close(), timeout=5)
        except TimeoutError:
            self._pool.terminate()

    @property
    def in_use(self) -> int:
        """How many connections requests and jobs hold."""
        return 0 if self._pool is None else self._pool.get_size() - self._pool.get_idle_size()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """Borrow a connection outside any transaction.

        Raises `DatabaseUnavailable`, `Conflict` for a write that lost a race, `ShuttingDown` once the pool is closing.
        """
        with _translated():
            if self._closing:
                raise ShuttingDown(headers={"Retry-After": "1"})
            if self._pool is None:
                raise DatabaseUnavailable(headers={"Retry-After": "1"})
            try:
                async with self._reserve.admitted(), self._pool.acquire(timeout=ACQUIRE_TIMEOUT_SECS) as conn:
                    yield conn
            except asyncpg.ReadOnlySQLTransactionError:
                await self.renew_read_only()
                raise

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """Borrow a connection inside a transaction that commits unless the block raises."""
        async with self.connection() as conn:
            try:
                async with conn.transaction():
                    yield conn
            finally:
                self.commits += 1  # one whose confirmation was lost may have happened

    def on_renew(self, callback: Callable[[], None]) -> None:
        """Call `callback` when connections are replaced, so that those outside the pool are replaced too."""
        self._on_renew.append(callback)

    async def renew(self) -> None:
        """Replace every connection at its next use: the server has vanished, or is a standby."""
        self._renewed_at = time.monotonic()
        if self._pool is not None:
            await self._pool.expire_connections()
        for callback in self._on_renew:
            callback()

    async def renew_read_only(self) -> None:
        """Reconnect after the server refused a write: its name may lead to the primary now."""
        if time.monotonic() - self._renewed_at < RENEW_EVERY_SECS:
            return
        if time.monotonic() - self._logged_at >= LOG_EVERY_SECS:
            self._logged_at = time.monotonic()
            log.warning("database_read_only", effect="connections are renewed until the server accepts writes")
        await self.renew()

    async def takes_writes(self) -> bool:
        """Return whether new transactions may write; if not, renew connections. Raises `DatabaseUnavailable`."""
        async with self.connection() as conn:
            writable = bool(await conn.fetchval(WRITABLE))
        if not writable:
            await self.renew_read_only()
        return writable

    async def ping(self, timeout: float) -> bool:
        """Return whether one trivial statement comes back within `timeout` seconds."""
        try:
            with urgent():
                async with asyncio.timeout(timeout), self.connection() as conn:
                    return bool(await conn.fetchval("SELECT true"))
        except (*RETRIABLE, TimeoutError):
            return False


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except asyncpg.TransactionRollbackError as failure:  # a deadlock, or a serialization failure
        raise Conflict(headers={"Retry-After": "1"}) from failure
    except PASSING_FAILURES as failure:
        raise DatabaseUnavailable(headers={"Retry-After": "1"}) from failure
    except asyncpg.InterfaceError as failure:
        if "clos" not in str(failure):
            raise
        raise DatabaseUnavailable(headers={"Retry-After": "1"}) from failure
