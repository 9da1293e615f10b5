"""What reports leave behind goes with their events (row 39)."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from aitp_cp.clock import now
from aitp_cp.db import Connection, Database
from aitp_cp.retention import service
from aitp_cp.settings import load
from aitp_cp.tcts import service as tcts
from tests.ingest.support import normalised
from tests.support.app import ENVIRONMENT
from tests.tcts.test_cascade import issued, revoked, uid

pytestmark = pytest.mark.anyio

TODAY = now()
LONG_AGO = TODAY - timedelta(days=91)


@pytest.fixture
async def conn(database_url: str) -> AsyncIterator[Connection]:
    db = Database(database_url, max_size=1)
    await db.open()
    async with db.connection() as connection:
        yield connection
    await db.close()


async def report(conn: Connection, at: Any, *events: dict[str, Any]) -> None:
    async with conn.transaction():
        await tcts.project(conn, normalised(*events), at)


async def test_reported_revocations_are_swept_with_their_events(conn: Connection) -> None:
    """Row 39: a report's age counts from when it was last sent; what it has marked stays revoked."""
    await report(conn, LONG_AGO, issued(0), revoked(0), revoked(1), revoked(2))
    await report(conn, TODAY - timedelta(days=1), revoked(1))
    settings = load({**ENVIRONMENT, "DATABASE_URL": "postgresql://nowhere"}, command="serve")
    async with conn.transaction():
        due = await service.due(conn, settings, TODAY, 10)
        swept = await service.sweep(conn, settings, TODAY)
    assert due["revoked_reports"] == 2
    assert (swept or {})["revoked_reports"] == 2
    left = await conn.fetch("SELECT jti FROM revoked_reports")
    assert [row["jti"] for row in left] == [uid(1)]
    assert await conn.fetchval("SELECT revoked FROM issued_tcts")
