"""The sweep: what it deletes, what it never touches, and that replicas do it once."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from aitp_cp.retention import service
from aitp_cp.retention.jobs import sweep_once
from aitp_cp.settings import Settings, load
from tests.retention.rows import EXPIRED_AGENT, INSERT, KEPT, UNDATED_AGENT, UNFINISHED, Conn, add, count, fill
from tests.support.app import ENVIRONMENT, running_app

pytestmark = pytest.mark.anyio

NOW = datetime(2026, 6, 1, tzinfo=UTC)
TTL_DAYS = {
    "audit_events": 90,
    "webhook_deliveries": 14,
    "admin_audit_log": 365,
    "idempotency_keys": 7,
    "enrollment_jtis": 0,
    "agent_nonces": 0,
    "console_sessions": 0,
    "agents": 30,
    "revoked_reports": 90,
    "signed_revocations": 90,
}
VARIABLES = {policy.table: policy.days.upper() for policy in service.POLICIES if policy.days}


@pytest.fixture
async def conn(database_url: str) -> AsyncIterator[Conn]:
    connection = await asyncpg.connect(database_url)
    await add(connection, KEPT["webhooks"], NOW - timedelta(days=5000))
    yield connection
    await connection.close()


def settings(**environment: str) -> Settings:
    return load({**ENVIRONMENT, "DATABASE_URL": "postgresql://nowhere", **environment}, command="serve")


async def sweep(conn: Conn, **environment: str) -> dict[str, int]:
    async with conn.transaction():
        swept = await service.sweep(conn, settings(**environment), NOW)
    assert swept is not None
    return swept


def test_each_policy_is_tested_here() -> None:
    assert {policy.table for policy in service.POLICIES} == set(INSERT) == set(TTL_DAYS)


@pytest.mark.parametrize("table", INSERT)
async def test_rows_past_their_time_go_and_younger_ones_stay(conn: Conn, table: str) -> None:
    ttl = timedelta(days=TTL_DAYS[table])
    await add(conn, INSERT[table], NOW - ttl - timedelta(seconds=1), 3)
    await add(conn, INSERT[table], NOW - ttl + timedelta(seconds=1), 2)
    swept = await sweep(conn)
    assert swept == {**dict.fromkeys(INSERT, 0), table: 3}
    assert await count(conn, table) == 2


@pytest.mark.parametrize("table", VARIABLES)
async def test_zero_days_keep_for_ever(conn: Conn, table: str) -> None:
    await add(conn, INSERT[table], NOW - timedelta(days=5000))
    assert (await sweep(conn, **{VARIABLES[table]: "0"}))[table] == 0
    assert (await sweep(conn, **{VARIABLES[table]: "4999"}))[table] == 1


async def test_a_sweep_takes_the_oldest_up_to_the_limit(conn: Conn) -> None:
    for table, statement in INSERT.items():
        # Events are received in the order of the log.
        for days in (900, 800, 700, 600, 500) if table == "audit_events" else (500, 800, 700, 600, 900):
            await add(conn, statement, NOW - timedelta(days=days))
            await number_events(conn)
        assert (await sweep(conn, RETENTION_BATCH_LIMIT="2"))[table] == 2
        expiring = dict.fromkeys(("enrollment_jtis", "agent_nonces", "console_sessions"), "expires_at")
        columns = {**expiring, "agents": "deregistered_at"}
        column = columns.get(table, "created_at")
        oldest = await conn.fetchval(f"SELECT min({column}) FROM {table}")
        assert NOW - oldest == timedelta(days=700), table
        assert (await sweep(conn, RETENTION_BATCH_LIMIT="2"))[table] == 2
        assert (await sweep(conn, RETENTION_BATCH_LIMIT="2"))[table] == 1


async def number_events(conn: Conn) -> None:
    """Give the events a place in the log, with nothing left to deliver."""
    await conn.execute("UPDATE audit_events SET seq = nextval('audit_events_seq') WHERE seq IS NULL")
    await conn.execute("UPDATE webhook_outbox SET enqueued_through = (SELECT coalesce(max(seq), 0) FROM audit_events)")


async def test_authoritative_records_outlive_every_sweep(conn: Conn) -> None:
    ancient = NOW - timedelta(days=5000)
    for statement in KEPT.values():
        await add(conn, statement, ancient)
    await add(conn, EXPIRED_AGENT, ancient)
    await add(conn, UNFINISHED, ancient)
    before = {table: await count(conn, table) for table in (*KEPT, "agents", "webhook_deliveries")}
    assert set((await sweep(conn)).values()) == {0}
    assert {table: await count(conn, table) for table in before} == before


async def test_an_agent_that_left_without_a_date_gets_its_grace_first(conn: Conn) -> None:
    """As an older control plane that is still running leaves it."""
    await add(conn, UNDATED_AGENT, NOW - timedelta(days=5000))
    assert (await sweep(conn))["agents"] == 0
    since = await conn.fetchval("SELECT deregistered_at FROM agents")
    assert abs((datetime.now(UTC) - since).total_seconds()) < 60


async def test_events_without_a_place_in_the_log_go_too_and_readers_are_told(conn: Conn) -> None:
    old = NOW - timedelta(days=91)
    await add(conn, INSERT["audit_events"], old, 2)
    await conn.execute("UPDATE audit_events SET seq = nextval('audit_events_seq') WHERE true")
    await add(conn, INSERT["audit_events"], old)
    last = await conn.fetchval("SELECT max(seq) FROM audit_events")
    await conn.execute("UPDATE webhook_outbox SET enqueued_through = $1", last)
    assert (await sweep(conn))["audit_events"] == 3
    assert await conn.fetchval("SELECT deleted_through FROM log_horizon") == last


async def test_two_replicas_sweep_once(database_url: str, conn: Conn) -> None:
    await add(conn, INSERT["idempotency_keys"], NOW - timedelta(days=5000), 50)
    async with running_app(database_url) as one, running_app(database_url) as other:
        async with one.rt.db.transaction() as sweeping:
            swept = await service.sweep(sweeping, one.rt.settings, NOW)
            async with asyncio.timeout(10):  # the other one neither waits nor works
                await sweep_once(other.rt)
            assert await count(conn, "idempotency_keys") == 50
        assert sum((swept or {}).values()) == 50
        assert other.rt.metrics.registry.get_sample_value(ROWS, {"table": "idempotency_keys"}) is None
        await asyncio.gather(*(sweep_once(app.rt) for app in (one, other)))


ROWS = "aitp_control_plane_retention_rows_deleted_total"


async def test_the_job_counts_what_it_deleted_and_can_be_switched_off(database_url: str, conn: Conn) -> None:
    await add(conn, INSERT["idempotency_keys"], NOW - timedelta(days=5000), 5)
    async with running_app(database_url, RETENTION_ENABLED="false") as off:
        await sweep_once(off.rt)
    assert await count(conn, "idempotency_keys") == 5
    async with running_app(database_url) as app:
        await sweep_once(app.rt)
        assert app.rt.metrics.registry.get_sample_value(ROWS, {"table": "idempotency_keys"}) == 5


async def test_a_clock_that_runs_ahead_makes_nothing_due(database_url: str, conn: Conn) -> None:
    await add(conn, INSERT["idempotency_keys"], datetime.now(UTC) - timedelta(days=6), 5)
    async with running_app(database_url) as app:
        app.clock.ahead = timedelta(days=3650)
        await sweep_once(app.rt)
        assert await count(conn, "idempotency_keys") == 5
        app.clock.ahead = timedelta(days=-2)
        await add(conn, INSERT["idempotency_keys"], datetime.now(UTC) - timedelta(days=8), 5)
        await sweep_once(app.rt)
        assert await count(conn, "idempotency_keys") == 10
        app.clock.ahead = timedelta(0)
        await sweep_once(app.rt)
        assert await count(conn, "idempotency_keys") == 5


async def test_every_sweep_finds_its_rows_through_an_index(conn: Conn) -> None:
    await fill(conn, 20_000)
    seen: list[str] = []
    conn.add_query_logger(lambda done: seen.append(done.query))
    async with conn.transaction():
        await service.sweep(conn, settings(RETENTION_BATCH_LIMIT="50"), datetime.now(UTC))
    await asyncio.sleep(0)
    deletes = [query for query in seen if "DELETE FROM" in query]
    assert len(deletes) == len(INSERT)
    for query in deletes:
        args = (datetime.now(UTC) - timedelta(days=380), 50, *([2**62] if "$3" in query else []))
        plan = "\n".join(row[0] for row in await conn.fetch("EXPLAIN " + query, *args))
        finding = plan.partition("CTE uncounted")[0]  # which sorts no more than what is deleted
        assert "Seq Scan" not in finding, plan
        assert "Sort" not in finding, plan
