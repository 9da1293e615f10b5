"""The delivery log that an administrator reads (contract, section 12)."""

import pytest

from tests.deliveries.support import LOCAL, log_of, sql, subscribe
from tests.support.app import running_app

pytestmark = pytest.mark.anyio

URL = "http://127.0.0.1:9/hook"


async def test_the_delivery_log_pages_and_filters(database_url: str) -> None:
    async with running_app(database_url, **LOCAL) as app:
        created, other = await subscribe(app, URL), await subscribe(app, URL)
        path = f"/api/webhooks/{created['id']}"
        sent = [(await app.post(f"{path}/test", {})).json()["id"] for _ in range(5)]
        assert (await app.post(f"/api/webhooks/{other['id']}/test", {})).status_code == 202
        await sql(app, "UPDATE webhook_deliveries SET created_at = created_at - interval '1 h' WHERE id = $1", sent[4])
        await sql(app, "UPDATE webhook_deliveries SET status = 'failed', error = 'no' WHERE id = $1", sent[2])
        whole = await log_of(app, created)
        assert {one["id"] for one in whole} == set(sent)
        assert whole[-1]["id"] == sent[4]
        pages = [(await log_of(app, created, limit="2", offset=str(offset))) for offset in (0, 2, 4)]
        assert [one for page in pages for one in page] == whole
        assert [one["id"] for one in await log_of(app, created, status="failed")] == [sent[2]]
        assert (await app.get(f"{path}/deliveries", params={"limit": "junk", "offset": "-3"})).json()["count"] == 5
        assert set(whole[0]) == {
            "id",
            "eventType",
            "status",
            "attempts",
            "statusCode",
            "error",
            "createdAt",
            "deliveredAt",
            "nextRetryAt",
        }


async def test_another_webhook_s_delivery_cannot_be_redelivered(database_url: str) -> None:
    async with running_app(database_url, **LOCAL) as app:
        mine, other = await subscribe(app, URL), await subscribe(app, URL)
        sent = (await app.post(f"/api/webhooks/{mine['id']}/test", {})).json()
        wrong = await app.post(f"/api/webhooks/{other['id']}/deliveries/{sent['id']}/redeliver", {})
        assert (wrong.status_code, wrong.json()["code"]) == (404, "NOT_FOUND")
        right = await app.post(f"/api/webhooks/{mine['id']}/deliveries/{sent['id']}/redeliver", {})
        assert (right.status_code, right.json()["id"]) == (202, sent["id"])
