"""The connection pool, transactions, and the translation of driver errors."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, suppress
from datetime import datetime
from typing import Any, Protocol, TypeVar

import asyncpg
import structlog

from aitp_cp.database_url import DatabaseUrlError
from aitp_cp.db.bounded import while_true, within
from aitp_cp.db.connect import connect
from aitp_cp.db.connections import ACQUIRE_TIMEOUT_SECS, COMMAND_TIMEOUT_SECS, Connections, OnStatement
from aitp_cp.db.loss import named_loss
from aitp_cp.db.reserve import Reserve, urgent
from aitp_cp.db.standby import READER, Position, Standby, Unfit, position
from aitp_cp.errors import RETRIABLE, Conflict, DatabaseUnavailable, ShuttingDown

log = structlog.get_logger("aitp_cp.db")

T = TypeVar("T")
Record = asyncpg.Record
UniqueViolation = asyncpg.UniqueViolationError
# A value that this database cannot hold: text outside its encoding, a number out of range, too long for an index.
ValueRefused = (asyncpg.DataError, asyncpg.ProgramLimitExceededError)

POSITIONS = "audit_events_seq_key"  # the index that lets no two events have one position

COMMIT_TIMEOUT_SECS = 15.0  # below the driver's
LOG_EVERY_SECS = 30.0
SILENT_SECS = 2.0  # of one request of a person, before the database is asked whether it is there at all
ANSWER_SECS = 1.0  # for that; with the one above, what a person waits for a database that is silent
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

    async def execute(self, query: str, *args: Any) -> str: ...

    async def fetch(self, query: str, *args: Any) -> list[Record]: ...

    async def fetchrow(self, query: str, *args: Any) -> Record | None: ...

    async def fetchval(self, query: str, *args: Any) -> Any: ...

    def transaction(self) -> AbstractAsyncContextManager[Any]: ...


async def server_time(conn: Connection) -> datetime:
    """Return what time the database server has."""
    at: datetime = await conn.fetchval("SELECT clock_timestamp()")
    return at


class Database:
    """The pool of one process, and the standby that it may read from."""

    def __init__(
        self,
        dsn: str,
        *,
        max_size: int,
        on_statement: OnStatement | None = None,
        standby: Standby | None = None,
    ) -> None:
        self.dsn = dsn
        self.max_size = max_size
        self.commits = 0  # of this process; what was read before the last one may be stale
        self.standby = standby
        self._reserve = Reserve(max_size, ACQUIRE_TIMEOUT_SECS)
        self._on_renew: list[Callable[[], None]] = []
        self._on_taken_position: list[Callable[[], None]] = []
        self._renewed_at = self._logged_at = float("-inf")
        self._pool = Connections(self._connect, max_size, on_statement)
        self._closing = self._seen_primary = False

    async def open(self) -> None:
        """Connect; raises `DatabaseUnavailable` when the server cannot be reached or refuses."""
        with _translated():
            await self._pool.open(self.dsn, min_size=1)
        self._closing = False
        if self.standby is not None:
            await self.standby.open(self._position)

    async def _connect(self, dsn: str, **driver: Any) -> asyncpg.Connection:
        try:
            conn = await connect(dsn, command_timeout=COMMAND_TIMEOUT_SECS, **driver)
        except (asyncpg.PostgresError, DatabaseUrlError, KeyError) as refused:  # also permanent refusals
            raise DatabaseUnavailable(headers={"Retry-After": "1"}) from refused
        on_standby = getattr(conn.get_settings(), "in_hot_standby", "off") == "on"
        if on_standby and self._seen_primary:  # the name leads elsewhere: nothing is decided by what a standby knows
            conn.terminate()
            raise DatabaseUnavailable(headers={"Retry-After": "1"}) from asyncpg.ReadOnlySQLTransactionError()
        self._seen_primary = self._seen_primary or not on_standby
        return conn

    async def close(self) -> None:
        """Close within five seconds, then by force: shutdown has a budget."""
        self._closing = True
        if self.standby is not None:
            await self.standby.close()
        await self._pool.close()

    @property
    def in_use(self) -> int:
        """How many connections requests and jobs hold."""
        return self._pool.in_use

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """Borrow a connection outside any transaction.

        Raises `DatabaseUnavailable`, `Conflict` for a write that lost a race, `ShuttingDown` once the pool is closing.
        """
        with _translated():
            if self._closing:
                raise ShuttingDown(headers={"Retry-After": "1"})
            if not self._pool.opened:
                raise DatabaseUnavailable(headers={"Retry-After": "1"})
            try:
                async with (
                    self._reserve.admitted(),
                    self._pool.acquire(ACQUIRE_TIMEOUT_SECS) as conn,
                    named_loss(conn),
                ):
                    yield conn
            except asyncpg.ReadOnlySQLTransactionError:
                await self.renew_read_only()
                raise
            except UniqueViolation as taken:
                if taken.constraint_name != POSITIONS:
                    raise
                for callback in self._on_taken_position:
                    callback()
                raise DatabaseUnavailable(headers={"Retry-After": "1"}) from taken

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """Borrow a connection inside a transaction that commits unless the block raises."""
        async with self.connection() as conn:
            transaction: Any = conn.transaction()
            await transaction.start()
            try:
                yield conn
            except BaseException:
                await transaction.rollback()
                raise
            try:
                await _commit(conn, transaction)
            finally:
                self.commits += 1  # one whose confirmation was lost may have happened

    async def read(self, query: Callable[[Connection], Awaitable[T]]) -> T:
        """Return what `query` reads for people to look at, from the standby if there is one and it is fresh enough.

        Never for what decides anything. `query` must only read, for it may run again on the primary. Raises what
        `connection` raises.
        """
        if self.standby is not None:
            with suppress(Unfit):
                return await self.standby.read(query)
        async with self.connection() as conn:
            return await query(conn)

    @contextmanager
    def on_behalf_of(self, caller: str | None, *, writes: bool) -> Iterator[None]:
        """Let the caller read what it has written itself, whatever the standby lacks."""
        if self.standby is None:
            yield
            return
        token = READER.set(caller)
        try:
            yield
        finally:
            READER.reset(token)
            if writes:  # also after a failure: what was not confirmed may have happened
                self.standby.wrote(caller)

    def reads_primary(self) -> bool:
        """Return whether `read` would ask the primary now; what was built from a standby is not for all callers."""
        return self.standby is None or self.standby.unfit() is not None

    def when_readable(self, callback: Callable[[], None]) -> None:
        """Call once `read` shows what has been committed by now; at once without a standby."""
        if self.standby is None:
            callback()
        else:
            self.standby.when_fresh(callback)

    async def _position(self) -> Position:
        with urgent():
            async with self.connection() as conn:
                return await position(conn)

    def on_renew(self, callback: Callable[[], None]) -> None:
        """Call `callback` when connections are replaced, so that those outside the pool are replaced too."""
        self._on_renew.append(callback)

    def on_taken_position(self, callback: Callable[[], None]) -> None:
        """Call `callback` when a position of the log was given twice: its sequence is behind (db/numbering.py)."""
        self._on_taken_position.append(callback)

    async def renew(self) -> None:
        """Replace every connection at its next use: the server has vanished, or is a standby."""
        self._renewed_at = time.monotonic()
        await self._pool.expire()
        for callback in self._on_renew:
            callback()

    def leave(self, made_before: float) -> None:
        """Break the connections made before that `time.monotonic()`: another server is the primary now."""
        log.warning("database_moved", effect="connections to the former server are closed")
        self._pool.abandon(made_before)

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

    async def while_it_answers(self, work: Awaitable[T]) -> T:
        """Return the result of `work`, and give it up once it is slow and the database does not answer anything.

        A slow statement is waited for, within the limits of every statement. Raises `DatabaseUnavailable`.
        """
        try:
            return await while_true(self._answers, SILENT_SECS, work)
        except TimeoutError as silent:
            raise DatabaseUnavailable(headers={"Retry-After": "1"}) from silent

    async def _answers(self) -> bool:
        try:
            return await within(ANSWER_SECS, self.ping(ANSWER_SECS))
        except TimeoutError:
            return False


async def _commit(conn: Any, transaction: Any) -> None:
    """Commit, or break the connection when no confirmation comes.

    The driver would cancel the statement instead. A commit that waits for a synchronous standby then becomes visible
    without it, and a client that tries again would be told 200 for what a failover loses.
    """
    commit = asyncio.ensure_future(transaction.commit())
    try:
        await asyncio.wait({commit}, timeout=COMMIT_TIMEOUT_SECS)
    finally:
        if not commit.done():
            conn.terminate()
            await asyncio.wait({commit})
    await commit


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
