"""Rows are written with their event (contract, section 12)."""

import json
from collections.abc import Iterable
from datetime import datetime
from typing import Any
from uuid import uuid4

import pytest

from aitp_cp.clock import now
from aitp_cp.events import service as log
from aitp_cp.events.model import NewEvent
from aitp_cp.protocol.vocabulary import DELIVERABLE
from tests.deliveries.support import LOCAL, log_of, patch, report, sql, subscribe
from tests.support.app import App, running_app

pytestmark = pytest.mark.anyio

URL = "http://127.0.0.1:9/hook"


def event(kind: str, at: datetime) -> NewEvent:
    return NewEvent(id=uuid4(), type=kind, ts=at, aid_a="aid:pubkey:x", payload='{"who": "\u00fc"}')


async def append(app: App, kinds: Iterable[str]) -> None:
    async with app.rt.db.transaction() as conn:
        await log.append(conn, [event(kind, now()) for kind in kinds], now())
    await app.enqueue()


async def append_and_fail(app: App) -> None:
    async with app.rt.db.transaction() as conn:
        await log.append(conn, [event("tct.revoked", now())], now())
        raise ZeroDivisionError


async def types_of(app: App, webhook: dict[str, Any]) -> list[str]:
    return sorted(one["eventType"] for one in await log_of(app, webhook))


async def test_a_webhook_gets_what_it_asked_for(database_url: str) -> None:
    async with running_app(database_url, **LOCAL) as app:
        everything, some = await subscribe(app, URL), await subscribe(app, URL, events=["tct.revoked"])
        silent = await subscribe(app, URL, active=False)
        await append(app, [*DELIVERABLE, "tct.issued", "unknown", "webhook.test"])
        assert await types_of(app, everything) == sorted(DELIVERABLE)
        assert await types_of(app, some) == ["tct.revoked"]
        assert await types_of(app, silent) == []


async def test_an_alias_is_delivered_under_the_type_receivers_know(database_url: str) -> None:
    async with running_app(database_url, **LOCAL) as app:
        webhook = await subscribe(app, URL, events=["handshake.complete"])
        await append(app, ["handshake.completed"])
        assert await types_of(app, webhook) == ["handshake.complete"]
        ((body,),) = await sql(app, "SELECT body FROM webhook_deliveries")
        assert json.loads(body)["payload"]["type"] == "handshake.completed"


async def test_the_body_is_built_with_the_row(database_url: str) -> None:
    async with running_app(database_url, **LOCAL) as app:
        first, second = await subscribe(app, URL), await subscribe(app, URL)
        await append(app, ["tct.revoked"])
        (stored,) = (await app.get("/api/events/history?type=tct.revoked")).json()["events"]
        rows = await sql(
            app, "SELECT id, webhook_id, payload, body, event_id, event_seq, created_at FROM webhook_deliveries"
        )
        assert {str(row["webhook_id"]) for row in rows} == {first["id"], second["id"]}
        for row in rows:
            body = json.loads(row["body"])
            assert list(body) == ["deliveryId", "eventType", "payload", "enqueuedAt"]
            assert (body["deliveryId"], body["eventType"]) == (str(row["id"]), "tct.revoked")
            assert body["payload"] == stored == json.loads(row["payload"])
            assert datetime.fromisoformat(body["enqueuedAt"]) == row["created_at"]
            assert (str(row["event_id"]), row["event_seq"]) == (stored["id"], stored["seq"])


async def test_no_event_no_delivery(database_url: str) -> None:
    async with running_app(database_url, **LOCAL) as app:
        webhook = await subscribe(app, URL)
        with pytest.raises(ZeroDivisionError):
            await append_and_fail(app)
        assert await log_of(app, webhook) == []


async def test_a_batch_sent_twice_is_delivered_once(database_url: str) -> None:
    async with running_app(database_url, **LOCAL) as app:
        webhook = await subscribe(app, URL)
        batch = [{"type": "handshake.failed", "id": "one"}, {"type": "handshake.failed", "id": "two"}]
        for _ in range(2):
            await app.post("/api/events", batch)
        assert len(await log_of(app, webhook)) == 2


async def test_a_change_counts_from_the_next_event_on(database_url: str) -> None:
    async with running_app(database_url, **LOCAL) as app:
        webhook = await subscribe(app, URL, events=["tct.revoked"])
        await report(app)
        await patch(app, webhook, events=[])
        await report(app)
        await patch(app, webhook, active=False)
        await report(app)
        assert await types_of(app, webhook) == ["handshake.failed"]


@pytest.mark.parametrize("stored", ['"tct.revoked"', "null", "{}", '[1, "handshake.failed"]'])
async def test_odd_subscriptions_of_an_older_control_plane_stop_nobody(database_url: str, stored: str) -> None:
    async with running_app(database_url, **LOCAL) as app:
        webhook = await subscribe(app, URL)
        await sql(app, "UPDATE webhooks SET events = $1::jsonb", stored)
        await report(app)
        assert await types_of(app, webhook) == ["handshake.failed"]


async def test_an_event_for_five_hundred_webhooks_is_one_statement_s_work(database_url: str) -> None:
    async with running_app(database_url, **LOCAL) as app:
        await sql(
            app,
            "INSERT INTO webhooks (id, url, secret) SELECT gen_random_uuid(), $1, 's' FROM generate_series(1, 500)",
            URL,
        )
        await report(app, 4)
        assert (await sql(app, "SELECT count(*), count(DISTINCT webhook_id) FROM webhook_deliveries"))[0] == (2000, 500)
