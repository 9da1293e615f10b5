"""Reports into the projections, and what the tables then hold."""

import json
from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import datetime
from typing import Any
from uuid import uuid4

import pytest

from aitp_cp.clock import now
from aitp_cp.db import Connection, Database
from aitp_cp.ingest import service
from aitp_cp.ingest.model import Stored, Submission
from aitp_cp.protocol.reports import Batch, Report, Reporter, normalise
from aitp_cp.sessions import service as sessions
from aitp_cp.tcts import service as tcts
from tests.support.app import App, running_app

# What the projections write, without the times at which they wrote it; the time of a revocation is the reports' own.
TABLES = {
    "handshake_sessions": """
        session_id, aid_a, aid_b, status, grants, run_id, boundary, error, started_at, completed_at""",
    "issued_tcts": """
        jti, issuer_aid, subject_aid, audience_aid, grants, binding_cnf, issued_at, expires_at, session_id, revoked,
        revoked_at""",
    "delegations": """
        jti, parent_jti, delegator_aid, delegatee_aid, scope, issued_at, expires_at, revoked, revoked_at,
        revoked_reason""",
    "delegation_parents": "jti, parent_jti",
    "revoked_reports": "jti, kind, revoked_at",
}

Row = dict[str, Any]


@pytest.fixture
async def db(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url, max_size=4)
    await database.open()
    yield database
    await database.close()


def normalised(*events: Any) -> list[Report]:
    """The events as a batch of the API; none of them may be dropped."""
    batch = normalise(json.dumps(events).encode(), Reporter("apikey:tests"), now(), uuid4)
    assert not batch.problems
    return batch.reports


async def project(conn: Connection, reports: Sequence[Report]) -> None:
    """One batch into the projections alone."""
    await tcts.project(conn, reports, now())
    await sessions.project(conn, reports, now())


async def store(db: Database, *events: Any) -> int:
    """One batch the way the API stores it; how many events were new."""
    [stored] = await service.store(db, [submission(*events)], now())
    assert isinstance(stored, Stored)
    assert stored.counts is not None
    return stored.counts.inserted


def submission(*events: Any) -> Submission:
    return Submission(Batch(normalised(*events), [], 0))


async def store_each(db: Database, events: Iterable[Any]) -> None:
    for event in events:
        await store(db, event)


async def rows(conn: Connection, table: str) -> list[Row]:
    found = [dict(row) for row in await conn.fetch(f"SELECT {TABLES[table]} FROM {table} ORDER BY 1, 2")]
    for row in found:
        row.update({name: json.loads(row[name]) for name in ("grants", "scope") if name in row})
    return found


async def everything(conn: Connection) -> dict[str, list[Row]]:
    return {table: await rows(conn, table) for table in TABLES}


async def only(db: Database, table: str) -> Row:
    """The single row of a table."""
    async with db.connection() as conn:
        [row] = await rows(conn, table)
        return row


async def by_jti(db: Database, table: str) -> dict[str, Row]:
    async with db.connection() as conn:
        return {str(row["jti"]): row for row in await rows(conn, table)}


def at(text: str) -> datetime:
    """A time of the test's own day, as `12:30`."""
    return datetime.fromisoformat(f"2026-03-04T{text}+00:00")


@pytest.fixture
async def app(database_url: str) -> AsyncIterator[App]:
    async with running_app(database_url) as running:
        yield running


async def report(app: App, *events: Any) -> None:
    """One batch over HTTP, all of it accepted."""
    response = await app.post("/api/events", list(events))
    assert response.status_code == 200, response.text
    assert response.json()["dropped"] == 0
