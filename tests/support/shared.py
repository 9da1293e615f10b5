"""One database for all tests of a module, emptied for each of them: a copy costs ten times as much.

A room's conftest imports both fixtures; its `database_url` then takes the place of the general one.
"""

import asyncio
from collections.abc import Iterator

import asyncpg
import pytest

from tests.support.postgres import migrated_database

_EMPTY = """
DO $$
DECLARE name text;
BEGIN
    DROP FUNCTION IF EXISTS refuse() CASCADE;
    FOR name IN SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'aitp_cp_version'
    LOOP
        EXECUTE format('DELETE FROM %I', name);
    END LOOP;
    DELETE FROM activity_changes;  -- what triggers have written meanwhile
    DELETE FROM activity_counts;
    DELETE FROM revocation_version;
    ALTER SEQUENCE audit_events_seq RESTART;
    INSERT INTO webhook_outbox (enqueued_through) VALUES (0);
END $$
"""


@pytest.fixture(scope="module")
def module_database_url() -> Iterator[str]:
    with migrated_database() as dsn:
        yield dsn


@pytest.fixture
def database_url(module_database_url: str) -> str:
    """The module's database with nothing in it."""
    asyncio.run(_empty(module_database_url))
    return module_database_url


async def _empty(dsn: str) -> None:
    conn = await asyncpg.connect(dsn)
    await conn.execute(_EMPTY)
    await conn.close()
