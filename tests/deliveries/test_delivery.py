"""What receivers see, and what becomes of their answers (contract, section 12)."""

import asyncio
import hashlib
import hmac
import json
from datetime import datetime, timedelta
from email.utils import format_datetime
from typing import Any
from uuid import uuid4

import pytest
from standardwebhooks import Webhook

from tests.deliveries.support import (
    attempted,
    breaker_of,
    delivering,
    ended,
    log_of,
    pass_time,
    patch,
    report,
    sql,
    subscribe,
)
from tests.support.receiver import HANG_SECS, Answer, Received, always, receiver
from tests.support.waiting import until

pytestmark = pytest.mark.anyio


def signed_by(secret: str, got: Received) -> bool:
    """What a receiver checks: both families."""
    digest = hmac.new(secret.encode(), got.body, hashlib.sha256).hexdigest()
    if not hmac.compare_digest(got.headers["x-aitp-signature"], f"sha256={digest}"):
        return False
    Webhook(secret.encode()).verify(got.body, dict(got.headers))
    return True


def secs_from(app_now: datetime, shown: str) -> float:
    return (datetime.fromisoformat(shown) - app_now).total_seconds()


async def test_an_event_arrives_signed_and_is_logged(database_url: str) -> None:
    async with receiver(Answer(204, b"")) as there, delivering(database_url) as app:
        webhook = await subscribe(app, there.url)
        await report(app)
        await there.wait_for(1)
        (got,) = there.got
        (row,) = await ended(app, webhook, 1)
        assert got.method == "POST"
        assert got.headers["content-type"] == "application/json"
        assert got.headers["x-aitp-event"] == "handshake.failed" == row["eventType"]
        assert got.headers["x-aitp-delivery"] == row["id"] == json.loads(got.body)["deliveryId"]
        assert got.headers["user-agent"].startswith("aitp-control-plane/")
        assert signed_by(webhook["secret"], got)
        assert (row["attempts"], row["statusCode"], row["error"], row["nextRetryAt"]) == (1, 204, None, None)
        assert row["deliveredAt"] >= row["createdAt"]


async def test_a_failure_is_tried_again_with_the_same_bytes_until_it_works(database_url: str) -> None:
    responses = [Answer(500), Answer(404), Answer(drop=True), Answer(200)]
    async with receiver(lambda _: responses.pop(0)) as there, delivering(database_url) as app:
        webhook = await subscribe(app, there.url)
        await report(app)
        for attempt, (code, pause) in enumerate([(500, 30), (404, 120), (None, 480)], start=1):
            row = await attempted(app, webhook, attempt)
            assert (row["status"], row["attempts"], row["statusCode"]) == ("pending", attempt, code)
            assert 0.5 * pause < secs_from(app.clock(), row["nextRetryAt"]) <= 1.2 * pause
            assert len(there.got) == attempt
            app.clock.ahead += timedelta(seconds=1)  # for the time stamp that is signed
            await pass_time(app, seconds=1.2 * pause)
        (row,) = await ended(app, webhook, 1)
        assert (row["attempts"], row["statusCode"], row["error"]) == (4, 200, None)
        assert {(got.body, got.headers["webhook-id"]) for got in there.got} == {
            (there.got[0].body, there.got[0].headers["webhook-id"])
        }
        assert len({got.headers["webhook-timestamp"] for got in there.got}) == 4


async def test_after_the_last_attempt_it_has_failed(database_url: str) -> None:
    async with receiver(Answer(503)) as there, delivering(database_url, WEBHOOK_RETRY_ATTEMPTS="3") as app:
        webhook = await subscribe(app, there.url)
        await report(app)
        for attempt in (1, 2, 3):
            row = await attempted(app, webhook, attempt)
            await pass_time(app, hours=1)
        assert (row["status"], row["attempts"], row["statusCode"], row["nextRetryAt"]) == ("failed", 3, 503, None)
        assert row["error"] == "the receiver answered 503"
        await pass_time(app, days=3)
        await report(app)
        await there.wait_for(4)
        assert len(there.got) == 4


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_a_failure_and_is_not_followed(database_url: str, status: int) -> None:
    async with (
        receiver() as other,
        receiver(Answer(status, headers={"Location": other.url})) as there,
        delivering(database_url) as app,
    ):
        webhook = await subscribe(app, there.url)
        await report(app)
        row = await attempted(app, webhook, 1)
        assert (row["status"], row["statusCode"]) == ("pending", status)
        assert row["error"] == f"the receiver answered {status}; redirects are not followed"
        assert other.connections == 0


@pytest.mark.parametrize(
    ("status", "header", "low", "high"),
    [
        (429, "7", 7, 7.7),
        (503, "3600", 3600, 3960),
        (503, "date", 599, 660),
        (429, "9999999", 21600, 21600),
        (429, "soon", 24, 36),
        (500, "7", 24, 36),
    ],
)
async def test_a_receiver_may_ask_to_wait(database_url: str, status: int, header: str, low: float, high: float) -> None:
    async with receiver() as there, delivering(database_url) as app:
        webhook, before = await subscribe(app, there.url), app.clock()
        if header == "date":
            header = format_datetime(before + timedelta(seconds=600), usegmt=True)
        there.behave = always(Answer(status, headers={"Retry-After": header}))
        await report(app)
        row = await attempted(app, webhook, 1)
        assert low <= secs_from(before, row["nextRetryAt"])
        assert secs_from(app.clock(), row["nextRetryAt"]) <= high


async def test_a_receiver_that_is_gone_ends_the_subscription(database_url: str) -> None:
    async with receiver(Answer(410)) as there, delivering(database_url) as app:
        webhook = await subscribe(app, there.url)
        await report(app)
        (row,) = await ended(app, webhook, 1, "failed")
        assert (row["attempts"], row["statusCode"], row["nextRetryAt"]) == (1, 410, None)
        assert "410 Gone" in row["error"]
        assert (await app.get(f"/api/webhooks/{webhook['id']}")).json()["active"] is False
        await report(app)
        assert len(await log_of(app, webhook)) == 1
        there.behave = always(Answer())
        await patch(app, webhook, active=True)
        await report(app)
        await ended(app, webhook, 1)


async def test_an_address_that_was_changed_meanwhile_is_not_gone(database_url: str) -> None:
    changed = asyncio.Event()
    async with receiver(Answer(410, after=changed)) as old, receiver() as new, delivering(database_url) as app:
        webhook = await subscribe(app, old.url)
        await report(app)
        await old.wait_for(1)
        await patch(app, webhook, url=new.url)
        changed.set()
        await ended(app, webhook, 1, "failed")
        assert (await app.get(f"/api/webhooks/{webhook['id']}")).json()["active"] is True


async def test_a_silent_receiver_is_given_ten_seconds_and_then_one_place(database_url: str) -> None:
    async with receiver(Answer(wait_secs=HANG_SECS)) as there, receiver() as other, delivering(database_url) as app:
        webhook, fine = await subscribe(app, there.url), await subscribe(app, other.url)
        await report(app, 4)
        await there.wait_for(2)
        held = await log_of(app, webhook, status="in_flight")
        assert [row["attempts"] for row in held] == [1, 1]

        async def given_up() -> list[dict[str, Any]]:
            tried = [row for row in await log_of(app, webhook, status="pending") if row["attempts"] == 1]
            return tried if len(tried) == 2 else []

        rows = await until(given_up, timeout=15)
        assert {(row["error"], row["statusCode"]) for row in rows} == {("no response within 10 s", None)}
        await there.wait_for(3)
        await report(app, 4)
        await ended(app, fine, 8)
        assert len(there.got) == 3
        await there.close()


async def test_a_refusal_by_the_guard_is_final(database_url: str) -> None:
    async with receiver() as there, delivering(database_url) as app:
        webhook = await subscribe(app, there.url)
        # A name that was public when it was stored, or a row of an older control plane.
        await sql(app, "UPDATE webhooks SET url = 'http://10.0.0.1/hook'")
        await report(app)
        (row,) = await ended(app, webhook, 1, "failed")
        assert (row["attempts"], row["statusCode"], row["nextRetryAt"]) == (1, None, None)
        assert row["error"] == "not sent: the URL leads to a private address"
        assert (await breaker_of(app, webhook))["failures"] == 0
        assert there.connections == 0


async def test_a_test_delivery_goes_to_whoever_asks(database_url: str) -> None:
    async with receiver() as there, delivering(database_url) as app:
        webhook = await subscribe(app, there.url, events=["tct.revoked"])
        sent = await app.post(f"/api/webhooks/{webhook['id']}/test", {})
        assert (sent.status_code, sent.json()["eventType"]) == (202, "webhook.test")
        await there.wait_for(1)
        (got,) = there.got
        assert got.headers["x-aitp-event"] == "webhook.test"
        assert json.loads(got.body)["payload"]["type"] == "webhook.test"
        assert signed_by(webhook["secret"], got)
        assert (await app.get("/api/events/history?type=webhook.test")).json()["count"] == 0


async def test_a_test_of_a_webhook_that_sleeps_says_so_at_once(database_url: str) -> None:
    async with receiver() as there, delivering(database_url) as app:
        webhook = await subscribe(app, there.url, active=False)
        refused = await app.post(f"/api/webhooks/{webhook['id']}/test", {})
        assert refused.status_code == 202
        delivery = refused.json()
        assert (delivery["status"], delivery["attempts"], delivery["nextRetryAt"]) == ("failed", 0, None)
        assert delivery["error"] == "not sent: the webhook is not active"
        assert await log_of(app, webhook) == [delivery]
        await patch(app, webhook, active=True)
        await app.post(f"/api/webhooks/{webhook['id']}/test", {})
        await ended(app, webhook, 1)
        assert len(there.got) == 1


async def test_redelivering_sends_the_same_bytes_with_all_attempts_anew(database_url: str) -> None:
    async with receiver(Answer(500)) as there, delivering(database_url, WEBHOOK_RETRY_ATTEMPTS="1") as app:
        webhook = await subscribe(app, there.url)
        await report(app)
        (row,) = await ended(app, webhook, 1, "failed")
        there.behave = always(Answer())
        path = f"/api/webhooks/{webhook['id']}/deliveries/{row['id']}/redeliver"
        again = await app.post(path, {})
        assert (again.status_code, again.json()["status"], again.json()["attempts"]) == (202, "pending", 0)
        (row,) = await ended(app, webhook, 1)
        assert (row["attempts"], row["statusCode"], row["error"]) == (1, 200, None)
        await app.post(path, {})
        await there.wait_for(3)
        assert len({got.body for got in there.got}) == 1


async def test_redelivering_what_is_on_its_way_changes_nothing(database_url: str) -> None:
    answered = asyncio.Event()
    async with receiver(Answer(after=answered)) as there, delivering(database_url) as app:
        webhook = await subscribe(app, there.url)
        await report(app)
        await there.wait_for(1)
        (row,) = await log_of(app, webhook)
        again = await app.post(f"/api/webhooks/{webhook['id']}/deliveries/{row['id']}/redeliver", {})
        assert (again.status_code, again.json()["status"], again.json()["attempts"]) == (202, "in_flight", 1)
        answered.set()
        await ended(app, webhook, 1)
        assert len(there.got) == 1


async def test_the_next_attempt_is_signed_with_the_new_secret(database_url: str) -> None:
    async with receiver(Answer(500)) as there, delivering(database_url) as app:
        webhook = await subscribe(app, there.url)
        await report(app)
        await attempted(app, webhook, 1)
        changed = await patch(app, webhook, secret="the next secret")
        assert "secret" not in changed
        await pass_time(app, minutes=1)
        await there.wait_for(2)
        assert [signed_by(webhook["secret"], there.got[0]), signed_by("the next secret", there.got[1])] == [True, True]
        assert not signed_by(webhook["secret"], there.got[1])


async def test_deactivating_is_a_pause(database_url: str) -> None:
    async with receiver(Answer(500)) as there, delivering(database_url) as app:
        webhook = await subscribe(app, there.url)
        await report(app)
        await attempted(app, webhook, 1)
        await patch(app, webhook, active=False)
        there.behave = always(Answer())
        await pass_time(app, hours=1)
        other = await subscribe(app, there.url)
        await report(app)
        await ended(app, other, 1)
        assert [one["status"] for one in await log_of(app, webhook)] == ["pending"]
        await patch(app, webhook, active=True)
        (row,) = await ended(app, webhook, 1)
        assert row["attempts"] == 2


async def test_rows_of_an_older_control_plane_are_delivered(database_url: str) -> None:
    async with receiver(Answer(500)) as there, delivering(database_url) as app:
        webhook = await subscribe(app, there.url)
        id, payload = uuid4(), {"type": "agent.registered", "aidA": "aid:pubkey:x", "b": [1.5, "\u00fc"]}
        await sql(
            app,
            "INSERT INTO webhook_deliveries (id, webhook_id, event_type, payload, signature) "
            "VALUES ($1, $2, 'agent.registered', $3::jsonb, 'old')",
            id,
            webhook["id"],
            json.dumps(payload),
        )
        await report(app)  # rings the bell
        await until(lambda: _got(there.got, str(id), 1))
        await ended(app, webhook, 2, "pending")  # both attempts are recorded before time passes
        there.behave = always(Answer())
        await pass_time(app, minutes=1)
        bodies = await until(lambda: _got(there.got, str(id), 2))
        assert bodies[0] == bodies[1]
        assert json.loads(bodies[0])["payload"] == payload
        assert json.loads(bodies[0])["eventType"] == "agent.registered"
        await ended(app, webhook, 2)


async def _got(got: list[Received], id: str, count: int) -> list[bytes]:
    bodies = [one.body for one in got if one.headers["x-aitp-delivery"] == id]
    return bodies if len(bodies) >= count else []
