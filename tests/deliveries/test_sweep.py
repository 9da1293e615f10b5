"""Deleting and deactivating are instant, however much waits; the rest is swept."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from aitp_cp.deliveries.jobs import tidy
from tests.deliveries.support import LOCAL, delivering, ended, log_of, pass_time, patch, sql, subscribe
from tests.support.app import App, running_app
from tests.support.receiver import Answer, receiver

pytestmark = pytest.mark.anyio

URL = "http://127.0.0.1:9/hook"


async def fill(app: App, webhook_id: str, count: int, status: str = "pending") -> None:
    await sql(
        app,
        "INSERT INTO webhook_deliveries (id, webhook_id, event_type, payload, body, status, next_retry_at, created_at) "
        "SELECT gen_random_uuid(), $1, 'tct.revoked', '{}', '{}', $2, now() + interval '1 h', now() "
        "FROM generate_series(1, $3::int)",
        webhook_id,
        status,
        count,
    )


@asynccontextmanager
async def holding_deliveries(app: App) -> AsyncIterator[None]:
    """Nobody can change or delete a delivery inside the block: who tries waits, and is told 503 at last."""
    async with app.rt.db.transaction() as conn:
        await conn.execute("LOCK webhook_deliveries IN SHARE MODE")
        yield


async def rows_of(app: App, webhook_id: str) -> dict[str, int]:
    found = await sql(
        app, "SELECT status, count(*) FROM webhook_deliveries WHERE webhook_id = $1 GROUP BY 1", webhook_id
    )
    return {row[0]: row[1] for row in found}


async def test_deleting_a_webhook_does_not_wait_for_its_rows(database_url: str) -> None:
    async with running_app(database_url, **LOCAL) as app:
        gone, kept = await subscribe(app, URL), await subscribe(app, URL)
        await fill(app, gone["id"], 20_000)
        await fill(app, kept["id"], 30)
        before = await log_of(app, kept)
        async with holding_deliveries(app):
            assert (await app.delete(f"/api/webhooks/{gone['id']}")).status_code == 200
        assert await rows_of(app, gone["id"]) == {"pending": 20_000}
        await tidy(app.rt)
        assert await rows_of(app, gone["id"]) == {}
        assert await log_of(app, kept) == before
        assert len(await sql(app, "SELECT 1 FROM webhooks")) == 2
        await pass_time(app, minutes=6)
        await tidy(app.rt)
        assert [str(id) for (id,) in await sql(app, "SELECT id FROM webhooks")] == [kept["id"]]


async def test_a_deleted_webhook_stays_while_rows_may_still_come(database_url: str) -> None:
    async with running_app(database_url, **LOCAL) as app:
        gone = await subscribe(app, URL)
        await app.delete(f"/api/webhooks/{gone['id']}")
        await tidy(app.rt)
        await fill(app, gone["id"], 1)  # by a transaction that had begun before
        await tidy(app.rt)
        assert await rows_of(app, gone["id"]) == {}


async def test_deliveries_to_a_receiver_that_is_gone_fail(database_url: str) -> None:
    async with receiver(Answer(410)) as there, delivering(database_url) as app:
        webhook, other = await subscribe(app, there.url), await subscribe(app, URL, active=False)
        await fill(app, webhook["id"], 3_000)
        await fill(app, other["id"], 10)
        await app.post(f"/api/webhooks/{webhook['id']}/test", {})
        await ended(app, webhook, 1, "failed")
        await tidy(app.rt)
        assert await rows_of(app, webhook["id"]) == {"failed": 3_001}
        assert await rows_of(app, other["id"]) == {"pending": 10}
        assert all("410" in row["error"] for row in await log_of(app, webhook))


async def test_deactivating_by_hand_keeps_what_waits(database_url: str) -> None:
    async with running_app(database_url, **LOCAL) as app:
        webhook = await subscribe(app, URL)
        await fill(app, webhook["id"], 5_000)
        async with holding_deliveries(app):
            await patch(app, webhook, active=False)
        await tidy(app.rt)
        assert await rows_of(app, webhook["id"]) == {"pending": 5_000}
