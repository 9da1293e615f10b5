"""A control plane that delivers, and what its database says."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

from aitp_cp.deliveries.dispatcher import Dispatcher
from aitp_cp.deliveries.enqueuer import Enqueuer
from tests.support.app import AUTH, App, running_app
from tests.support.waiting import until

LOCAL = {"WEBHOOK_ALLOWED_CIDRS": "127.0.0.0/8"}


@asynccontextmanager
async def delivering(database_url: str, **environment: str) -> AsyncIterator[App]:
    """The application with its dispatcher running, allowed to reach this machine."""
    async with running_app(database_url, **{**LOCAL, **environment}) as app:
        app.rt.get(Dispatcher).start()
        app.rt.get(Enqueuer).start()
        yield app


async def subscribe(app: App, url: str, **more: Any) -> dict[str, Any]:
    """Create a webhook; the answer, secret included."""
    response = await app.post("/api/webhooks", {"url": url, **more})
    assert response.status_code == 201, response.text
    created: dict[str, Any] = response.json()
    return created


async def report(app: App, count: int = 1, kind: str = "handshake.failed") -> None:
    """Store `count` new events of a kind."""
    response = await app.post("/api/events", [{"type": kind, "payload": {"number": number}} for number in range(count)])
    assert response.json()["inserted"] == count, response.text
    await app.enqueue()


async def patch(app: App, webhook: dict[str, Any], **changes: Any) -> dict[str, Any]:
    response = await app.http.patch(f"/api/webhooks/{webhook['id']}", json=changes, headers=AUTH)
    assert response.status_code == 200, response.text
    changed: dict[str, Any] = response.json()
    return changed


async def log_of(app: App, webhook: dict[str, Any], **query: str) -> list[dict[str, Any]]:
    """The delivery log, newest first."""
    response = await app.get(f"/api/webhooks/{webhook['id']}/deliveries", params={"limit": "1000", **query})
    deliveries: list[dict[str, Any]] = response.json()["deliveries"]
    return deliveries


async def breaker_of(app: App, webhook: dict[str, Any]) -> dict[str, Any]:
    breaker: dict[str, Any] = (await app.get(f"/api/webhooks/{webhook['id']}/circuit-breaker")).json()
    return breaker


async def sql(app: App, statement: str, *args: Any) -> list[Any]:
    async with app.rt.db.connection() as conn:
        return await conn.fetch(statement, *args)


async def ended(app: App, webhook: dict[str, Any], count: int, status: str = "delivered") -> list[dict[str, Any]]:
    """The log once `count` deliveries have this status after an attempt."""

    async def enough() -> list[dict[str, Any]]:
        found = [one for one in await log_of(app, webhook) if one["status"] == status and one["attempts"]]
        return found if len(found) >= count else []

    found: list[dict[str, Any]] = await until(enough)
    return found


async def attempted(app: App, webhook: dict[str, Any], attempts: int) -> dict[str, Any]:
    """The newest delivery once this attempt has been recorded."""

    async def recorded() -> dict[str, Any] | None:
        newest = (await log_of(app, webhook))[0]
        return newest if newest["attempts"] >= attempts and newest["status"] != "in_flight" else None

    found: dict[str, Any] = await until(recorded)
    return found


EARLIER = """
WITH due AS (
    UPDATE webhook_deliveries SET next_retry_at = next_retry_at - $1::interval, lease_until = lease_until - $1::interval
    WHERE status NOT IN ('delivered', 'failed')
)
UPDATE webhooks SET breaker_opened_at = breaker_opened_at - $1::interval, deleted_at = deleted_at - $1::interval,
    breaker_next_probe_at = breaker_next_probe_at - $1::interval
"""


async def pass_time(app: App, *others: App, **duration: float) -> None:
    """Let everything have begun to wait earlier, for only the database's clock counts; then wake the dispatchers."""
    await sql(app, EARLIER, timedelta(**duration))
    for one in (app, *others):
        wake(one)


def wake(app: App) -> None:
    app.rt.get(Dispatcher).wake()


COMMITTED = "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()"


async def quiet(app: App) -> bool:
    """Whether a second passes with few transactions; of the first ones some end what was done before."""
    for _ in range(10):
        ((before,),) = await sql(app, COMMITTED)
        await asyncio.sleep(1)
        ((after,),) = await sql(app, COMMITTED)
        if after - before < 10:
            return True
    return False
