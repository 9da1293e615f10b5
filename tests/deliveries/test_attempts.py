"""What is kept of each attempt, and what never is (contract, part II, section 22)."""

import base64
import hmac
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aitp_cp.deliveries import attempts
from aitp_cp.deliveries.heads import MAX_BYTES, head_of
from aitp_cp.outbound import Reply
from tests.deliveries.support import attempted, delivering, ended, pass_time, patch, report, sql, subscribe
from tests.support.app import App
from tests.support.receiver import Answer, Received, receiver

pytestmark = pytest.mark.anyio

SECRET = 'a "secret" / é'


def reply(body: bytes = b"", complete: bool = True, **headers: str) -> Reply:
    return Reply(200, {name.replace("_", "-"): value for name, value in headers.items()}, body, complete)


async def attempts_of(app: App, webhook: dict[str, Any], delivery: dict[str, Any], **query: str) -> dict[str, Any]:
    response = await app.get(f"/api/webhooks/{webhook['id']}/deliveries/{delivery['id']}/attempts", params=query)
    assert response.status_code == 200, response.text
    page: dict[str, Any] = response.json()
    return page


async def test_each_attempt_is_kept_with_its_result(database_url: str) -> None:
    responses = [Answer(503, b"upstream down", {"X-Why": "maintenance"}), Answer(drop=True), Answer(204, b"")]
    async with receiver(lambda _: responses.pop(0)) as there, delivering(database_url) as app:
        webhook = await subscribe(app, there.url)
        await report(app)
        delivery = await attempted(app, webhook, 1)
        for attempt in (2, 3):
            await pass_time(app, minutes=10)
            await attempted(app, webhook, attempt)
        page = await attempts_of(app, webhook, delivery)
        assert page["count"] == 3
        last, dropped, first = page["attempts"]
        assert (first["n"], first["status"], first["error"]) == (1, 503, "the receiver answered 503")
        assert "x-why: maintenance\n" in first["responseHead"]
        assert first["responseHead"].endswith("\n\nupstream down")
        assert (dropped["n"], dropped["status"], dropped["responseHead"]) == (2, None, None)
        assert (last["n"], last["status"], last["error"], last["truncated"]) == (3, 204, None, False)
        assert all(0 <= one["ms"] < 10_000 and one["at"].endswith("Z") for one in page["attempts"])
        pages = [await attempts_of(app, webhook, delivery, limit="2")]
        pages.append(await attempts_of(app, webhook, delivery, before=pages[0]["nextBefore"]))
        assert [one["n"] for page in pages for one in page["attempts"]] == [3, 2, 1]


async def test_a_resend_goes_on_counting_and_keeps_the_newest(database_url: str, monkeypatch: Any) -> None:
    monkeypatch.setattr(attempts, "KEPT", 2)
    async with receiver(Answer(204, b"")) as there, delivering(database_url) as app:
        webhook = await subscribe(app, there.url)
        await report(app)
        (delivery,) = await ended(app, webhook, 1)
        path = f"/api/webhooks/{webhook['id']}"
        for _ in range(2):
            assert (await app.post(f"{path}/deliveries/{delivery['id']}/redeliver", {})).status_code == 202
            (delivery,) = await ended(app, webhook, 1)
        assert (await app.post(f"{path}/resend", {"ids": [delivery["id"]]})).json()["queued"] == 1
        await ended(app, webhook, 1)
        page = await attempts_of(app, webhook, delivery)
        assert [one["n"] for one in page["attempts"]] == [4, 3, 2]
        assert delivery["attempts"] == 1


async def test_they_go_with_their_delivery_and_webhook(database_url: str) -> None:
    async with receiver(Answer(204, b"")) as there, delivering(database_url) as app:
        webhook, other = await subscribe(app, there.url), await subscribe(app, there.url)
        await report(app)
        (delivery,) = await ended(app, webhook, 1)
        await ended(app, other, 1)
        wrong = await app.get(f"/api/webhooks/{other['id']}/deliveries/{delivery['id']}/attempts")
        assert (wrong.status_code, wrong.json()["code"]) == (404, "NOT_FOUND")
        await sql(app, "DELETE FROM webhook_deliveries WHERE id = $1", delivery["id"])
        assert await sql(app, "SELECT count(*) FROM webhook_attempts") == [(1,)]


async def test_a_receiver_that_echoes_all_it_got_shows_no_secret(database_url: str) -> None:
    def echo(got: Received) -> Answer:
        raw = "\n".join(f"{name}: {value}" for name, value in got.headers.items()).encode()
        upper = raw.upper() + base64.b64encode(raw)
        headers = {"X-Echo": got.headers["webhook-signature"], "Set-Cookie": "session=theirs"}
        return Answer(500, SECRET.encode() + base64.b64encode(SECRET.encode()) + raw + upper, headers)

    async with receiver(echo) as there, delivering(database_url) as app:
        webhook = await subscribe(app, there.url, secret=SECRET)
        await report(app)
        delivery = await attempted(app, webhook, 1)
        head = (await attempts_of(app, webhook, delivery))["attempts"][0]["responseHead"]
        (got,) = there.got
        hexed, signed = got.headers["x-aitp-signature"][7:], got.headers["webhook-signature"][3:]
        assert hexed == hmac.new(SECRET.encode(), got.body, "sha256").hexdigest()
        for secret in (SECRET, base64.b64encode(SECRET.encode()).decode(), hexed, signed, "theirs"):
            assert secret.lower() not in head.lower()
        assert "x-aitp-signature: sha256=****" in head
        assert f"x-aitp-delivery: {delivery['id']}" in head


async def test_hostile_bytes_are_text(database_url: str) -> None:
    body = b"\x00\xff\xfe<script>\xe2\x80\xae\xed\xa0\x80\x1b[31m" + b"\x01" * 70_000
    async with receiver(Answer(400, body, {"X-Long": "h" * 8000})) as there, delivering(database_url) as app:
        webhook = await subscribe(app, there.url)
        await report(app)
        delivery = await attempted(app, webhook, 1)
        ((stored, cut),) = await sql(app, "SELECT octet_length(head), cut FROM webhook_attempts")
        assert (stored <= MAX_BYTES, cut) == (True, True)
        head = (await attempts_of(app, webhook, delivery))["attempts"][0]["responseHead"]
        assert "\\x00\\xff\\xfe<script>\u202e\\xed\\xa0\\x80\x1b[31m" in head


@given(
    st.binary(max_size=200),
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=8, max_size=255),
    st.integers(0, MAX_BYTES + 200),
)
def test_no_cut_leaves_a_part_of_a_secret(around: bytes, secret: str, at: int) -> None:
    head, cut = head_of(reply(b"." * at + secret.encode() + around), [secret])
    assert len(head.encode()) <= MAX_BYTES
    assert secret not in head
    if at < MAX_BYTES - 1 and set(secret) - set(".*"):
        assert not head.startswith("\n" + "." * at + secret[:4]) or set(secret[:4]) <= set("*")
    assert cut or len(head.encode()) <= MAX_BYTES


def test_what_is_complete_says_so() -> None:
    assert head_of(reply(b"ok", content_type="text/plain"), ["s" * 20]) == ("content-type: text/plain\n\nok", False)
    assert head_of(reply(b"", complete=False), []) == ("\n", True)
    assert head_of(reply(b"\x1f\x8b..", content_encoding="gzip"), []) == ("content-encoding: gzip\n\n", True)
    assert head_of(reply(b"x" * MAX_BYTES), [])[1]
    assert head_of(reply(b"ok", transfer_encoding="chunked"), []) == ("transfer-encoding: chunked\n\nok", False)


async def test_health_is_what_the_log_says(database_url: str) -> None:
    async with receiver(Answer(204, b"")) as there, delivering(database_url) as app:
        webhook = await subscribe(app, there.url)
        path = f"/api/webhooks/{webhook['id']}/health"
        await report(app, 2)
        await ended(app, webhook, 2)
        there.behave = lambda _: Answer(500)
        await report(app)
        await attempted(app, webhook, 1)
        health = (await app.get(path)).json()
        assert health["lastHour"] == health["lastDay"] == {"delivered": 2, "failed": 0, "waiting": 1}
        assert (health["waiting"], health["breaker"], health["failures"]) == (1, "closed", 1)
        assert health["oldestWaitingAt"] is not None
        assert 0 <= health["p95Ms"] < 10_000
        await sql(app, "UPDATE webhook_deliveries SET created_at = created_at - $1::interval", timedelta(hours=2))
        health = (await app.get(path)).json()
        assert (health["lastHour"]["delivered"], health["lastDay"]["delivered"]) == (0, 2)
        await patch(app, webhook, active=False)
        assert (await app.get(path)).json()["active"] is False
        missing = await app.get("/api/webhooks/0f8fad5b-d9cb-469f-a165-70867728950e/health")
        assert missing.json()["code"] == "NOT_FOUND"
