from collections.abc import AsyncIterator

import asyncpg
import pytest

from tests.migrations import existing


@pytest.fixture
async def conn(empty_database_url: str, anyio_backend: object) -> AsyncIterator[asyncpg.Connection]:
    """A connection to `empty_database_url`."""
    connection = await asyncpg.connect(empty_database_url)
    yield connection
    await connection.close()


@pytest.fixture
async def existing_url(empty_database_url: str, conn: asyncpg.Connection) -> str:
    """A database of the TypeScript control plane, with rows in every table; `conn` is connected to it."""
    await existing.create(conn)
    await existing.fill(conn)
    return empty_database_url
