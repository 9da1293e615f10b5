"""Background jobs start with the process, not with the first request (contract, section 8)."""

import asyncio
from pathlib import Path

import asyncpg
import pytest

from tests.support.process import Process

pytestmark = pytest.mark.anyio

OVERDUE = """
INSERT INTO agents (aid, display_name, handshake_endpoint, offered_caps, manifest_json, manifest_expires_at,
                    registered_at)
SELECT 'aid:' || n, 'n' || n, '', '[]', '{}', now() - interval '1 hour', now() FROM generate_series(1, 50) AS n
"""


async def test_two_replicas_that_nobody_asks_anything_expire_what_is_overdue_once(
    database_url: str, tmp_path: Path
) -> None:
    conn = await asyncpg.connect(database_url)
    await conn.execute(OVERDUE)
    replicas = [Process(database_url, tmp_path / name).start(wait=False) for name in ("one", "other")]
    try:
        async with asyncio.timeout(30):
            while await conn.fetchval("SELECT count(*) FROM agents WHERE status = 'active'"):
                await asyncio.sleep(0.05)
        for replica in replicas:
            replica.wait_ready()
    finally:
        for replica in replicas:
            replica.kill()
    expired = await conn.fetch("SELECT aid_a FROM audit_events WHERE type = 'agent.expired'")
    assert sorted(row[0] for row in expired) == sorted(f"aid:{number}" for number in range(1, 51))
    await conn.close()


async def test_without_jobs_nothing_happens(database_url: str, tmp_path: Path) -> None:
    conn = await asyncpg.connect(database_url)
    await conn.execute(OVERDUE)
    with Process(database_url, tmp_path / "log", "--no-jobs"):
        assert await conn.fetchval("SELECT count(*) FROM agents WHERE status = 'active'") == 50
    await conn.close()
