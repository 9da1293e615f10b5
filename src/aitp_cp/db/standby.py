"""A hot standby for reads that decide nothing: how far behind it is, and when the primary answers instead.

The lag is measured with the primary's position in its write-ahead log: once the standby has replayed a position, it
has everything that was committed before the position was read. No clock but this process's own is used, and an idle
primary shows no lag.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar, get_args

import asyncpg
import structlog

from aitp_cp.database_url import DatabaseUrlError
from aitp_cp.db.connect import Conn, connect, ending
from aitp_cp.db.connections import ACQUIRE_TIMEOUT_SECS, COMMAND_TIMEOUT_SECS, Connections, OnStatement
from aitp_cp.db.failures import reason
from aitp_cp.errors import AppError, NotFound

if TYPE_CHECKING:
    from aitp_cp.db.pool import Connection

log = structlog.get_logger("aitp_cp.db.standby")

T = TypeVar("T")

MEASURE_EVERY_SECS = 0.25
PROBE_TIMEOUT_SECS = 0.5  # with the one above: a standby that vanishes is left within a second
CONNECT_TIMEOUT_SECS = 1.0
RETRY_SECS = 0.5
GOALS = 256  # positions remembered until the standby has them: a minute of lag
MOST_WAITING = 1000  # callbacks; beyond, the oldest are called early
WRITERS = 10_000  # callers whose last write is remembered

Reason = Literal["away", "lag", "own_write", "failed", "not_found"]
REASONS: tuple[Reason, ...] = get_args(Reason)

# On a standby what it has replayed; `server` tells two servers apart, `cluster` two databases.
_POSITION = """
SELECT pg_wal_lsn_diff(
           CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_flush_lsn() END, '0/0'
       )::bigint AS lsn,
       pg_is_in_recovery() AS in_recovery, pg_postmaster_start_time() AS server,
       (SELECT system_identifier FROM pg_control_system()) AS cluster
"""
_FAILURES = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, DatabaseUrlError)

# Whose request is being answered: a caller reads what it has written itself.
READER: ContextVar[str | None] = ContextVar("aitp_cp_reader", default=None)


class Position(NamedTuple):
    """How far a server is, in bytes of the write-ahead log, and which one it is."""

    lsn: int
    in_recovery: bool
    server: datetime
    cluster: int


class Unfit(Exception):
    """The primary answers instead."""


class NotAStandby(Exception):
    """The server has other data than the primary."""


async def position(conn: "Connection") -> Position:
    row = await conn.fetchrow(_POSITION)
    assert row is not None
    return Position(*row)


class Standby:
    """The pool of connections to the standby, and what is known of it.

    `on_fallback` is called with the reason whenever the primary answers instead.
    """

    def __init__(
        self,
        dsn: str,
        *,
        max_size: int,
        max_lag_secs: float,
        on_fallback: Callable[[Reason], None],
        on_statement: OnStatement | None,
    ) -> None:
        self._dsn = dsn
        self._max_lag_secs = max_lag_secs
        self._on_fallback = on_fallback
        self._pool = Connections(_connect, max_size, on_statement)
        self._goals: deque[tuple[float, int]] = deque(maxlen=GOALS)
        self._fresh_at = time.monotonic()  # it has what was committed before
        self._followed: datetime | None = None  # the primary that `_goals` are of
        self._away = True
        self._wrote_at: dict[str | None, float] = {}
        self._all_wrote_at = float("-inf")
        self._waiting: deque[tuple[float, Callable[[], None]]] = deque()
        self._task: asyncio.Task[None] | None = None

    async def open(self, primary: Callable[[], Awaitable[Position]]) -> None:
        """Follow the standby in the background; it may be away. `primary` returns the primary's position."""
        await self._pool.open(self._dsn, min_size=0)
        self._task = asyncio.create_task(self._follow(primary), name="db-standby")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        await self._pool.close()

    @property
    def lag_secs(self) -> float:
        """How long ago the standby was last known to have everything."""
        return time.monotonic() - self._fresh_at

    def wrote(self, caller: str | None) -> None:
        """Remember that a request of this caller may have changed something."""
        self._wrote_at[caller] = time.monotonic()
        if len(self._wrote_at) > WRITERS:
            self._wrote_at = {who: at for who, at in self._wrote_at.items() if at >= self._fresh_at}
        if len(self._wrote_at) > WRITERS:
            self._wrote_at.clear()
            self._all_wrote_at = time.monotonic()

    def when_fresh(self, callback: Callable[[], None]) -> None:
        """Call once reads show what has been committed by now: when the standby has it, or the primary answers."""
        self._waiting.append((time.monotonic(), callback))
        self._call_waiting()

    def _call_waiting(self) -> None:
        all_at_once = self._away or self.lag_secs > self._max_lag_secs
        while self._waiting and (
            all_at_once or self._waiting[0][0] < self._fresh_at or len(self._waiting) > MOST_WAITING
        ):
            self._waiting.popleft()[1]()

    def unfit(self) -> Reason | None:
        """Return why the primary must answer the current request, or None."""
        if self._away:
            return "away"
        if self.lag_secs > self._max_lag_secs:
            return "lag"
        wrote_at = max(self._wrote_at.get(READER.get(), float("-inf")), self._all_wrote_at)
        return "own_write" if wrote_at >= self._fresh_at else None

    async def read(self, query: Callable[["Connection"], Awaitable[T]]) -> T:
        """Run `query` on the standby; raise `Unfit` if the standby failed or must not serve it: ask the primary."""
        unfit = self.unfit()
        if unfit is None:
            try:
                async with self._pool.acquire(ACQUIRE_TIMEOUT_SECS) as conn:
                    return await query(conn)
            except NotFound:  # it may be newer than what the standby has
                unfit = "not_found"
            except asyncpg.QueryCanceledError:  # too slow there, and no quicker on the primary
                raise
            except _FAILURES:  # also what a schema or a row that is not there yet leads to
                unfit = "failed"
        self._on_fallback(unfit)
        raise Unfit

    async def _follow(self, primary: Callable[[], Awaitable[Position]]) -> None:
        structlog.contextvars.clear_contextvars()
        while True:
            try:
                await self._follow_until_lost(primary)
            except _FAILURES as failure:
                self._leave(reason(failure))
            except NotAStandby as other:
                self._leave(str(other))
            await asyncio.sleep(RETRY_SECS)

    async def _follow_until_lost(self, primary: Callable[[], Awaitable[Position]]) -> None:
        with ending(await _connect(self._dsn)) as conn:
            while True:
                await self._measure(conn, primary)
                await asyncio.sleep(MEASURE_EVERY_SECS)

    async def _measure(self, conn: Conn, primary: Callable[[], Awaitable[Position]]) -> None:
        """Compare with the positions that the primary had before, and remember the one that it has now."""
        async with asyncio.timeout(PROBE_TIMEOUT_SECS):
            there = await position(conn)
        while self._goals and self._goals[0][1] <= there.lsn:
            self._fresh_at, _ = self._goals.popleft()
        self._call_waiting()
        asked_at = time.monotonic()
        try:
            async with asyncio.timeout(PROBE_TIMEOUT_SECS):
                here = await primary()
        except (AppError, TimeoutError):  # nothing is known of the lag meanwhile, so it grows
            return
        _require_standby(there, here)
        if there.lsn > here.lsn:
            raise NotAStandby("it has what the primary has not: it follows another server")
        if here.server != self._followed:  # positions of the former primary mean nothing
            self._followed = here.server
            self._goals.clear()
        self._goals.append((asked_at, here.lsn))
        if self._away:
            self._away = False
            log.info("read_standby_used")

    def _leave(self, reason: str) -> None:
        """Ask the primary from now on; what waits for the standby is asked again there."""
        if not self._away:
            self._away = True
            log.warning("read_standby_left", reason=reason)
        self._pool.abandon(time.monotonic())
        self._call_waiting()


async def measure(dsn: str, primary: "Connection", at_most_secs: float) -> float | None:
    """Return the seconds until the standby has what the primary has now, None for more than `at_most_secs`.

    Raises `NotAStandby` and the driver's errors.
    """
    here, began = await position(primary), time.monotonic()
    with ending(await _connect(dsn)) as conn:
        while (waited := time.monotonic() - began) <= at_most_secs:
            there = await position(conn)
            _require_standby(there, here)
            if there.lsn >= here.lsn:
                return waited
            await asyncio.sleep(MEASURE_EVERY_SECS / 5)
    return None


def _require_standby(there: Position, here: Position) -> None:
    if there.cluster != here.cluster or (there.server != here.server and not there.in_recovery):
        raise NotAStandby("it is not a standby of the primary")


async def _connect(dsn: str, **driver: Any) -> Conn:
    return await connect(
        dsn,
        session={"default_transaction_read_only": "on"},
        standby=True,
        timeout=CONNECT_TIMEOUT_SECS,
        command_timeout=COMMAND_TIMEOUT_SECS,
        **driver,
    )
