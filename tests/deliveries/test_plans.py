"""Neither a long history nor a long queue is read to find what is due."""

import pytest

from aitp_cp.deliveries import queue, store, sweep
from tests.deliveries.support import LOCAL, sql, subscribe
from tests.support.app import App, running_app

pytestmark = pytest.mark.anyio

FILL = """
INSERT INTO webhook_deliveries (id, webhook_id, event_type, payload, status, attempts, created_at, next_retry_at)
SELECT gen_random_uuid(), (SELECT id FROM webhooks ORDER BY id OFFSET n % 5 LIMIT 1), 'tct.revoked', '{}',
       CASE WHEN n % 4 = 0 THEN 'pending' ELSE 'delivered' END, 0, now() - n * interval '1 s', now()
FROM generate_series(1, 60000) AS n
"""


async def plan(app: App, statement: str, *args: object) -> str:
    async with app.rt.db.connection() as conn:
        return "\n".join(row[0] for row in await conn.fetch("EXPLAIN " + statement, *args))


async def test_every_statement_goes_by_an_index(database_url: str) -> None:
    async with running_app(database_url, **LOCAL) as app:
        webhooks = [await subscribe(app, "http://127.0.0.1:9/") for _ in range(5)]
        await sql(app, FILL)
        await sql(app, "ANALYZE webhook_deliveries, webhooks")
        ((now, id, later),) = await sql(app, "SELECT now(), $1::uuid, now() + interval '1 min'", webhooks[0]["id"])
        log = store.LIST.format(where="{}", limit="100", offset="0")
        queued, newest = "webhook_deliveries_queue_idx", "webhook_deliveries_newest_idx"
        for index, statement, args in (
            (queued, queue.CLAIM_DUE, (8, 6, later - now, id, [], [], 2)),
            (queued, queue.CLAIM_PROBES, (8, 6, later - now, id, [])),
            (queued, queue.SECS_TO_NEXT_DUE, ([],)),
            (queued, queue.FAIL_USED_UP, (6, 500)),
            (queued, queue.SPREAD_WAITING, (500, later - now)),
            (queued, sweep.FAIL_UNDELIVERABLE, (1000,)),
            (newest, sweep.DELETE_LEFT_OVER, (1000,)),
            (newest, log.format("webhook_id = $1"), (id,)),
            ("Index", log.format("webhook_id = $1 AND status = $2"), (id, "delivered")),
        ):
            explained = await plan(app, statement, *args)
            assert index in explained, explained
            assert "Seq Scan on webhook_deliveries" not in explained, explained
