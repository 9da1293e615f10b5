"""One name for a connection that is lost while it is used."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg


@asynccontextmanager
async def named_loss(conn: Any) -> AsyncIterator[None]:
    """Raise `ConnectionDoesNotExistError` for what the driver raises once the connection is lost.

    After a lost connection's first failure the driver says that its pool has it. If it was lost just as a statement
    had been prepared, the driver trips over a protocol that is None.
    """
    try:
        yield
    except (AttributeError, asyncpg.InterfaceError) as failure:
        if _is_open(conn):
            raise
        raise asyncpg.ConnectionDoesNotExistError("the connection was lost") from failure


def _is_open(conn: Any) -> bool:
    try:
        return not conn.is_closed()
    except asyncpg.InterfaceError:  # the driver's pool has taken it back
        return False
