"""Many deliveries at once: recovered, replayed and resent (contract, part II, section 22)."""

from datetime import timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.deliveries.support import LOCAL, log_of, patch, report, sql, subscribe
from tests.support.app import AUTH, App, running_app
from tests.support.enrolment import audit_of

pytestmark = pytest.mark.anyio

URL = "http://127.0.0.1:9/hook"
EVER = "1970-01-02T00:00:00Z"
END = "UPDATE webhook_deliveries SET status = $2, status_code = $3, attempts = 6, error = 'x' WHERE id = $1"


async def act(app: App, webhook: dict[str, Any], action: str, body: Any, **options: Any) -> httpx.Response:
    headers = {**AUTH, **options.pop("headers", {})}
    return await app.http.post(f"/api/webhooks/{webhook['id']}/{action}", json=body, headers=headers, params=options)


async def queued(app: App, webhook: dict[str, Any], action: str, body: Any, **options: Any) -> dict[str, Any]:
    response = await act(app, webhook, action, body, **options)
    assert response.status_code == (200 if options.get("dryRun") else 202), response.text
    done: dict[str, Any] = response.json()
    return done


async def finished(app: App, webhook: dict[str, Any], *ends: tuple[str, int | None]) -> list[dict[str, Any]]:
    """Deliveries that ended so, oldest first, a minute apart."""
    await report(app, len(ends))
    made = list(reversed(await log_of(app, webhook)))[-len(ends) :]
    for minutes, (delivery, (status, code)) in enumerate(zip(made, ends, strict=True)):
        await sql(app, END, delivery["id"], status, code)
        ago = timedelta(minutes=len(ends) - minutes)
        await sql(
            app,
            "UPDATE webhook_deliveries SET created_at = created_at - $2::interval WHERE id = $1",
            delivery["id"],
            ago,
        )
    return list(reversed(await log_of(app, webhook)))[: len(ends)]


async def statuses(app: App, webhook: dict[str, Any]) -> list[str]:
    return [one["status"] for one in reversed(await log_of(app, webhook))]


async def test_recover_queues_what_failed_in_steps(database_url: str) -> None:
    async with running_app(database_url, **LOCAL) as app:
        webhook, other = await subscribe(app, URL), await subscribe(app, URL)
        made = await finished(app, webhook, ("failed", 503), ("delivered", 200), ("failed", None), ("failed", 500))
        plan = await queued(app, webhook, "recover", {"since": EVER}, dryRun="true")
        assert plan == {"matched": 3, "queued": 0, "more": False}
        first = await queued(app, webhook, "recover", {"since": EVER, "limit": 2})
        assert (first["matched"], first["queued"], first["more"]) == (3, 2, True)
        assert await statuses(app, webhook) == ["pending", "delivered", "pending", "failed"]
        rest = await queued(app, webhook, "recover", {"since": EVER, "after": first["nextAfter"]})
        assert rest == {"matched": 1, "queued": 1, "more": False}
        (again,) = [one for one in await log_of(app, webhook) if one["id"] == made[0]["id"]]
        assert (again["attempts"], again["statusCode"], again["error"]) == (0, None, None)
        assert {one["status"] for one in await log_of(app, other)} == {"pending"}
        rows = [row for row in await audit_of(app) if row["action"] == "webhook.recover"]
        assert [row["details"]["queued"] for row in rows] == [2, 1]
        assert rows[0]["targetId"] == webhook["id"]
        due = await sql(
            app,
            "SELECT id::text FROM webhook_deliveries WHERE webhook_id = $1 AND status = 'pending'"
            " ORDER BY next_retry_at",
            webhook["id"],
        )
        assert [id for (id,) in due] == [made[0]["id"], made[2]["id"], made[3]["id"]]


async def test_recover_looks_at_its_window_alone(database_url: str) -> None:
    async with running_app(database_url, **LOCAL) as app:
        webhook = await subscribe(app, URL)
        made = await finished(app, webhook, *[("failed", 500)] * 4)
        window = {"since": made[1]["createdAt"], "until": made[2]["createdAt"]}
        assert (await queued(app, webhook, "recover", window))["queued"] == 2
        assert await statuses(app, webhook) == ["failed", "pending", "pending", "failed"]


async def test_resend_by_ids_and_by_what_matches(database_url: str) -> None:
    async with running_app(database_url, **LOCAL) as app:
        webhook, other = await subscribe(app, URL), await subscribe(app, URL)
        ends = [("failed", 503), ("failed", 404), ("delivered", 200), ("failed", None), ("pending", None)]
        made = await finished(app, webhook, *ends)
        foreign = (await log_of(app, other))[0]["id"]
        for body, matched in (
            ({"status": "failed"}, 3),
            ({"code": "5xx"}, 1),
            ({"code": "404"}, 1),
            ({"code": "none"}, 1),
            ({"status": "delivered", "type": "handshake.failed"}, 1),
            ({"type": "tct.revoked"}, 0),
            ({"since": EVER}, 4),
            ({"ids": [made[0]["id"], made[4]["id"], foreign, str(uuid4())]}, 1),
        ):
            assert (await queued(app, webhook, "resend", body, dryRun="true"))["matched"] == matched, body
            shown = await app.get(
                f"/api/webhooks/{webhook['id']}/deliveries",
                params={name: value for name, value in body.items() if name != "ids"},
            )
            assert "ids" in body or shown.json()["count"] in (matched, matched + 1), body
        assert await queued(app, webhook, "resend", {"ids": [made[2]["id"], made[2]["id"]]}) == {
            "matched": 1,
            "queued": 1,
            "more": False,
        }
        assert await statuses(app, webhook) == ["failed", "failed", "pending", "failed", "pending"]
        assert (await queued(app, webhook, "resend", {"code": "5xx"}))["queued"] == 1
        rows = [row for row in await audit_of(app) if row["action"] == "webhook.resend"]
        assert rows[-1]["details"] == {"code": "5xx", "limit": 1000, "matched": 1, "queued": 1, "more": False}
        assert rows[0]["details"]["ids"] == 2


REFUSED: list[tuple[str, dict[str, Any]]] = [
    ("resend", {}),
    ("resend", {"ids": []}),
    ("resend", {"ids": ["x"]}),
    ("resend", {"ids": [str(uuid4())], "status": "failed"}),
    ("resend", {"status": "pending"}),
    ("resend", {"code": "6"}),
    ("resend", {"code": "503\n"}),
    ("resend", {"since": "soon"}),
    ("resend", {"since": EVER, "limit": 0}),
    ("resend", {"since": EVER, "limit": 1001}),
    ("resend", {"since": EVER, "after": "junk"}),
    ("resend", {"type": "a\0b"}),
    ("recover", {}),
    ("recover", {"since": EVER, "until": "later"}),
    ("replay-missing", {"since": EVER, "after": "junk"}),
]


async def test_what_is_refused_changes_nothing(database_url: str) -> None:
    async with running_app(database_url, **LOCAL) as app:
        webhook = await subscribe(app, URL)
        for action, body in REFUSED:
            response = await act(app, webhook, action, body)
            assert response.status_code == 400, (action, body, response.text)
            assert response.json()["code"] in ("BODY_INVALID", "FILTER_INVALID"), (action, body)
        for action in ("resend", "recover", "replay-missing"):
            gone = await act(app, {"id": str(uuid4())}, action, {"since": EVER})
            assert gone.json()["code"] == "NOT_FOUND"
        assert {row["action"] for row in await audit_of(app)} == {"webhook.create"}


async def test_a_repeated_key_does_it_once(database_url: str) -> None:
    async with running_app(database_url, **LOCAL) as app:
        webhook, other = await subscribe(app, URL), await subscribe(app, URL)
        await finished(app, webhook, ("failed", 500))
        once = {"headers": {"Idempotency-Key": "once"}}
        first = await act(app, webhook, "recover", {"since": EVER}, **once)
        again = await act(app, webhook, "recover", {"since": EVER}, **once)
        assert (again.json(), again.headers["Idempotency-Replayed"]) == (first.json(), "true")
        elsewhere = await act(app, other, "recover", {"since": EVER}, **once)
        assert elsewhere.json()["code"] == "IDEMPOTENCY_KEY_REUSED"
        assert len([row for row in await audit_of(app) if row["action"] == "webhook.recover"]) == 1


async def test_a_replay_sends_what_was_missed_and_nothing_else(database_url: str) -> None:
    async with running_app(database_url, **LOCAL) as app:
        await report(app, 2)
        webhook = await subscribe(app, URL, events=["handshake.failed", "tct.revoked"])
        await report(app, 2)
        await patch(app, webhook, active=False)
        await report(app, 3)
        await report(app, 1, "handshake.complete")
        await report(app, 1, "handshake.started")
        await patch(app, webhook, active=True)
        await report(app, 1)
        assert len(await log_of(app, webhook)) == 3
        plan = await queued(app, webhook, "replay-missing", {"since": EVER}, dryRun="true")
        assert plan == {"matched": 3, "queued": 0, "more": False}
        first = await queued(app, webhook, "replay-missing", {"since": EVER, "limit": 2})
        assert (first["queued"], first["more"]) == (2, True)
        rest = await queued(app, webhook, "replay-missing", {"since": EVER, "after": first["nextAfter"]})
        assert (rest["queued"], rest["more"]) == (1, False)
        assert (await queued(app, webhook, "replay-missing", {"since": EVER}))["queued"] == 0
        assert await sql(
            app,
            "SELECT count(*), count(DISTINCT event_id) FROM webhook_deliveries WHERE webhook_id = $1",
            webhook["id"],
        ) == [(6, 6)]
        await patch(app, webhook, events=["handshake.complete"])
        assert (await queued(app, webhook, "replay-missing", {"since": EVER}))["queued"] == 1
        other = await subscribe(app, URL)
        cursor = {"since": EVER, "after": first["nextAfter"]}
        assert (await act(app, other, "replay-missing", cursor)).json()["code"] == "BODY_INVALID"


async def test_a_replay_keeps_to_its_window_and_to_what_is_kept(database_url: str) -> None:
    async with running_app(database_url, **LOCAL, WEBHOOK_DELIVERY_TTL_DAYS="1") as app:
        webhook = await subscribe(app, URL, active=False)
        await report(app, 6)
        # Receipts an hour apart, the oldest two behind what retention keeps of deliveries.
        await sql(
            app,
            "UPDATE audit_events SET created_at = now() - CASE WHEN seq <= (SELECT min(seq) + 1 FROM audit_events)"
            " THEN interval '2 days' ELSE interval '20 hours' - seq * interval '1 hour' END",
        )
        await sql(app, "UPDATE webhooks SET created_at = now() - interval '9 days', created_after = NULL")
        assert (await queued(app, webhook, "replay-missing", {"since": EVER}, dryRun="true"))["matched"] == 4
        ((second, third),) = await sql(
            app,
            "SELECT min(created_at) FILTER (WHERE n = 4), min(created_at) FILTER (WHERE n = 5)"
            " FROM (SELECT created_at, row_number() OVER (ORDER BY seq) AS n FROM audit_events) AS numbered",
        )
        window = {"since": second.isoformat(), "until": third.isoformat()}
        assert (await queued(app, webhook, "replay-missing", window))["queued"] in (1, 2)
