"""Deliveries are made from the log, behind ingest: each one once, in order, whatever happens in between."""

import asyncio
from typing import Any
from uuid import uuid4

import pytest

from aitp_cp.clock import now
from aitp_cp.deliveries import outbox, store
from aitp_cp.deliveries.enqueuer import Enqueuer
from aitp_cp.errors import DatabaseUnavailable
from aitp_cp.events import service as log
from aitp_cp.events.model import NewEvent
from aitp_cp.retention import service as retention
from tests.deliveries.support import LOCAL, delivering, log_of, patch, report, sql, subscribe
from tests.support.app import App, running_app
from tests.support.receiver import receiver

pytestmark = pytest.mark.anyio

URL = "http://127.0.0.1:9/hook"
MANY = """
INSERT INTO webhooks (id, url, secret) SELECT gen_random_uuid(), 'http://127.0.0.1:9/', 's' FROM generate_series(1, 100)
"""
ROWS = "SELECT count(*) FROM webhook_deliveries"
CURSOR = "SELECT enqueued_through FROM webhook_outbox"
OLDER_WRITER = """
INSERT INTO audit_events (id, type, ts, payload, created_at)
VALUES (gen_random_uuid(), 'tct.revoked', now(), '{}', now())
"""


async def append(app: App, count: int = 1) -> None:
    """Events in the log, and nothing behind them."""
    events = [NewEvent(id=uuid4(), type="handshake.failed", ts=now(), payload="{}") for _ in range(count)]
    async with app.rt.db.transaction() as conn:
        await log.append(conn, events, now())


async def value(app: App, query: str) -> Any:
    return (await sql(app, query))[0][0]


async def test_a_batch_for_a_hundred_webhooks_writes_nothing_but_events(database_url: str) -> None:
    """Row A7: one caller's 500 events were 50,000 rows under the log lock; now they come in bounded steps behind it."""
    async with running_app(database_url, **LOCAL) as app:
        await sql(app, MANY)
        response = await app.post("/api/events", [{"type": "handshake.failed"} for _ in range(25)])
        assert response.json()["inserted"] == 25
        assert await value(app, ROWS) == 0
        steps = []
        while (done := await outbox.step(app.rt.db)).enqueued:
            steps.append(done.enqueued)
        assert steps == [1000, 1000, 500]


async def test_processes_at_the_same_time_enqueue_each_delivery_once_and_in_order(database_url: str) -> None:
    """Row A7: whoever enqueues, (event, webhook) has one row, due in the order of the log."""
    async with running_app(database_url, **LOCAL) as one, running_app(database_url, **LOCAL) as two:
        hooks = [await subscribe(one, URL) for _ in range(3)]
        writing = asyncio.create_task(_write(one, 40))
        while not writing.done():
            await asyncio.gather(*(outbox.step(app.rt.db) for app in (one, two, one, two)))
        await writing
        await two.enqueue()
        for hook in hooks:
            rows = await sql(
                one,
                "SELECT event_seq FROM webhook_deliveries WHERE webhook_id = $1 ORDER BY next_retry_at",
                hook["id"],
            )
            order = [row[0] for row in rows]
            assert len(order) == len(set(order)) == 120
            assert order == sorted(order)


async def _write(app: App, batches: int) -> None:
    for _ in range(batches):
        await append(app, 3)


@pytest.mark.parametrize("step", ["lock_active", "insert_deliveries", "move_cursor"])
async def test_a_process_that_dies_while_it_enqueues_leaves_nothing_half_done(
    database_url: str, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """Row A7: cut off at any statement, nothing is there; the next one makes everything once."""
    async with running_app(database_url, **LOCAL) as app:
        await subscribe(app, URL)
        await append(app, 5)
        with monkeypatch.context() as broken:
            broken.setattr(store, step, _cut_off)
            with pytest.raises(DatabaseUnavailable):
                await outbox.step(app.rt.db)
        assert (await value(app, ROWS), await value(app, CURSOR)) == (0, 0)
        await app.enqueue()
        assert (await value(app, ROWS), await value(app, CURSOR)) == (5, 5)


async def _cut_off(conn: Any, *_: Any) -> None:
    """As by `kill -9`: the server sees the connection go."""
    await conn.fetchval("SELECT pg_terminate_backend(pg_backend_pid())")


async def test_retention_waits_for_the_outbox(database_url: str) -> None:
    """Row A7: an event whose deliveries are not enqueued is not swept, however old it is."""
    async with running_app(database_url, **LOCAL) as app:
        hook = await subscribe(app, URL)
        await append(app, 3)
        await sql(
            app, "UPDATE audit_events SET ts = ts - interval '1 year', created_at = created_at - interval '1 year'"
        )
        assert await _swept(app) == 0
        await app.enqueue()
        assert await _swept(app) == 3
        assert len(await log_of(app, hook)) == 3


async def _swept(app: App) -> int:
    async with app.rt.db.transaction() as conn:
        swept = await retention.sweep(conn, app.rt.settings, now())
    assert swept is not None
    return swept["audit_events"]


async def test_a_webhook_sees_what_comes_after_its_creation(database_url: str) -> None:
    """Row A7: the outbox may be behind when a webhook is made or reactivated; older events are not for it."""
    async with running_app(database_url, **LOCAL) as app:
        await append(app, 2)
        hook = await subscribe(app, URL)
        await append(app, 3)
        await patch(app, hook, active=False)
        await append(app, 4)
        await patch(app, hook, active=True)
        await append(app, 5)
        await app.enqueue()
        assert sorted(row[0] for row in await sql(app, "SELECT event_seq FROM webhook_deliveries")) == [
            *(3, 4, 5),
            *(10, 11, 12, 13, 14),
        ]


async def test_one_webhook_too_many_is_refused_until_one_is_deleted(database_url: str) -> None:
    """Row A7: at most WEBHOOKS_MAX webhooks, also of many created at once; the refusal is not kept for replays."""
    async with running_app(database_url, WEBHOOKS_MAX="3", **LOCAL) as app:
        made = await asyncio.gather(*(app.post("/api/webhooks", {"url": URL}) for _ in range(8)))
        assert sorted(response.status_code for response in made) == [201] * 3 + [409] * 5
        once = {"headers": {"Idempotency-Key": "one-more"}}
        refused = await app.post("/api/webhooks", {"url": URL}, **once)
        assert (refused.status_code, refused.json()["code"]) == (409, "WEBHOOKS_LIMIT")
        (row, *_) = (await app.get("/api/webhooks")).json()["webhooks"]
        await app.delete(f"/api/webhooks/{row['id']}")
        assert (await app.post("/api/webhooks", {"url": URL}, **once)).status_code == 201


async def test_events_of_an_older_control_plane_have_their_deliveries(database_url: str) -> None:
    """Row A7: what is numbered after the fact was delivered by the one that wrote it."""
    async with running_app(database_url, **LOCAL) as app:
        hook = await subscribe(app, URL)
        await sql(app, OLDER_WRITER)
        async with app.rt.db.transaction() as conn:
            assert await log.adopt(conn, 10) == 1
        await append(app)
        assert [row["eventType"] for row in await log_of(app, hook)] == ["handshake.failed"]


async def test_a_log_that_was_cut_off_is_followed_from_there(database_url: str) -> None:
    """Row A7, row 3: after a restore of the log the cursor lies beyond its end."""
    async with running_app(database_url, **LOCAL) as app:
        hook = await subscribe(app, URL)
        await report(app, 8)
        await sql(app, "DELETE FROM audit_events WHERE seq > 3")
        await sql(app, "SELECT setval('audit_events_seq', 3)")
        await append(app, 2)
        await outbox.step(app.rt.db)
        await app.enqueue()
        assert await value(app, CURSOR) == 5
        seqs = [
            row[0] for row in await sql(app, "SELECT event_seq FROM webhook_deliveries ORDER BY created_at, event_seq")
        ]
        assert seqs == [*range(1, 9), 4, 5]
        assert len(await log_of(app, hook)) == 10


async def test_the_tail_wakes_the_outbox(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Row A7: a delivery arrives as promptly as when it was written with its event."""
    monkeypatch.setattr("aitp_cp.deliveries.enqueuer.Enqueuer.poll_secs", 3600.0)
    monkeypatch.setattr("aitp_cp.deliveries.dispatcher.Dispatcher.poll_secs", 3600.0)
    async with receiver() as there, delivering(database_url) as app:
        await subscribe(app, there.url)
        for count in range(1, 4):
            await append(app)
            await there.wait_for(count)


async def test_a_replica_finds_what_a_dead_one_left(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Row A7: without any bell the outbox is looked at every second."""
    monkeypatch.setattr("aitp_cp.deliveries.enqueuer.Enqueuer.poll_secs", 0.05)
    async with running_app(database_url, **LOCAL) as app:
        await subscribe(app, URL)
        await append(app)
        app.rt.get(Enqueuer).start()
        async with asyncio.timeout(10):
            while not await value(app, ROWS):
                await asyncio.sleep(0.02)


async def test_the_lag_is_shown(database_url: str) -> None:
    """Row A7: a gauge says how many events wait for their deliveries."""
    async with running_app(database_url, **LOCAL) as app:
        await append(app, 7)
        async with app.rt.db.connection() as conn:
            assert await outbox.lag(conn) == 7
        await app.enqueue()
        async with app.rt.db.connection() as conn:
            assert await outbox.lag(conn) == 0
