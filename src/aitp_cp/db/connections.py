"""The driver's pool, with what it lacks: giving up connections in use whose server has vanished."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, cast

import asyncpg

from aitp_cp.db.connect import Conn
from aitp_cp.db.times import read_all_times

# Called after every statement with its text, its seconds and its error; never with its arguments.
OnStatement = Callable[[str, float, BaseException | None], None]

ACQUIRE_TIMEOUT_SECS = 5.0
COMMAND_TIMEOUT_SECS = 20.0
CLOSE_TIMEOUT_SECS = 5  # then by force: shutdown has a budget


class _LeanConnection(asyncpg.Connection):
    """Saves a round trip on each release: nothing here ever leaves session state behind."""

    __slots__ = ()

    def get_reset_query(self) -> str:
        return ""


class Connections:
    """A pool whose connections `connect` makes."""

    def __init__(
        self, connect: Callable[..., Awaitable[Conn]], max_size: int, on_statement: OnStatement | None
    ) -> None:
        self._connect = connect
        self._max_size = max_size
        self._on_statement = on_statement
        self._made_at: dict[Conn, float] = {}
        self._pool: asyncpg.Pool[asyncpg.Record] | None = None

    async def open(self, dsn: str, *, min_size: int) -> None:
        """Make `min_size` connections; raises what `connect` raises."""
        self._pool = await asyncpg.create_pool(
            dsn,
            min_size=min_size,
            max_size=self._max_size,
            connect=cast(Any, self._tracked),  # the stubs want the signature of asyncpg.connect
            connection_class=_LeanConnection,
            init=self._prepare,
        )

    async def close(self) -> None:
        if self._pool is None:
            return
        try:
            await asyncio.wait_for(self._pool.close(), CLOSE_TIMEOUT_SECS)
        except TimeoutError:
            self._pool.terminate()

    @property
    def opened(self) -> bool:
        return self._pool is not None

    @property
    def in_use(self) -> int:
        return 0 if self._pool is None else self._pool.get_size() - self._pool.get_idle_size()

    def acquire(self, timeout: float) -> AbstractAsyncContextManager[Any]:
        """Borrow a connection; raises `TimeoutError` and what `connect` raises."""
        assert self._pool is not None
        return self._pool.acquire(timeout=timeout)

    async def expire(self) -> None:
        """Replace every connection at its next use."""
        if self._pool is not None:
            await self._pool.expire_connections()

    def abandon(self, made_before: float) -> None:
        """Break every connection made before that `time.monotonic()`, whatever it waits for."""
        for conn in [conn for conn, made_at in self._made_at.items() if made_at < made_before]:
            conn.terminate()

    async def _tracked(self, dsn: str, **driver: Any) -> Conn:
        made_at = time.monotonic()
        conn = await self._connect(dsn, **driver)
        self._made_at[conn] = made_at
        conn.add_termination_listener(self._forget)
        return conn

    def _forget(self, ended: Any) -> None:
        self._made_at.pop(ended, None)

    async def _prepare(self, conn: Conn) -> None:
        await read_all_times(conn)
        on_statement = self._on_statement
        if on_statement is not None:
            conn.add_query_logger(lambda done: on_statement(done.query, done.elapsed, done.exception))
