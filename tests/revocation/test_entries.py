"""POST and GET /api/revocation/entries."""

import asyncio
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from aitp_cp.clock import iso
from tests.revocation.support import ENTRIES, revoke
from tests.support.agents import new_agent
from tests.support.app import AUTH, App

pytestmark = pytest.mark.anyio

TIMES: list[tuple[object, str]] = [
    ("2026-01-02", "2026-01-02T00:00:00.000Z"),
    ("2026-01-02T03:04:05.6789+02:00", "2026-01-02T01:04:05.678Z"),
    (0, "1970-01-01T00:00:00.000Z"),
    (1767323045, "2026-01-02T03:04:05.000Z"),
    (1767323045678, "2026-01-02T03:04:05.678Z"),
    (1767323045.25, "2026-01-02T03:04:05.250Z"),
]

WRONG: list[tuple[dict[str, object], str]] = [
    ({"jti": "nonsense"}, "JTI_INVALID"),
    ({"jti": None}, "JTI_INVALID"),
    ({"jti": 7}, "JTI_INVALID"),
    ({"revokedAt": "soon"}, "BODY_INVALID"),
    ({"revokedAt": "1969-12-31T23:59:59Z"}, "BODY_INVALID"),
    ({"revokedAt": "10000-01-01T00:00:00Z"}, "BODY_INVALID"),
    ({"revokedAt": "9999-12-31T23:59:59.999Z"}, "BODY_INVALID"),
    ({"revokedAt": -1}, "BODY_INVALID"),
    ({"revokedAt": 10**18}, "BODY_INVALID"),
    ({"revokedAt": True}, "BODY_INVALID"),
    ({"revokedAt": []}, "BODY_INVALID"),
    ({"revoked_at": "soon"}, "BODY_INVALID"),
    ({"reason": "x" * 501}, "BODY_INVALID"),
    ({"reason": 7}, "BODY_INVALID"),
    ({"reason": "a\0b"}, "BODY_INVALID"),
]


async def entries(app: App, **params: Any) -> list[dict[str, Any]]:
    response = (await app.get(ENTRIES, params=params)).json()
    assert response["count"] == len(response["entries"])
    found: list[dict[str, Any]] = response["entries"]
    return found


async def events(app: App) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await app.get("/api/events/history", params={"type": "tct.revoked"})).json()[
        "events"
    ]
    return found


async def audited(app: App) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await app.get("/api/audit")).json()["entries"]
    return found


async def test_a_revocation_is_stored_announced_and_audited(app: App) -> None:
    jti = str(uuid4())
    body = {"jti": jti, "reason": "key compromised", "revokedAt": "2026-01-02T03:04:05.678Z"}
    response = await app.post(ENTRIES, body, headers={"X-Request-Id": "req-1"})
    assert (response.status_code, response.json()) == (201, body | {"listed": True})
    assert await entries(app) == [body | {"listed": True}]

    (event,) = await events(app)
    assert event["payload"] == body
    assert (event["aidA"], event["aidB"]) == (None, None)

    (row,) = await audited(app)
    assert (row["action"], row["targetId"], row["requestId"]) == ("revocation.add", jti, "req-1")
    assert row["actorId"].startswith("apikey:")
    assert row["details"] == {"reason": "key compromised", "revokedAt": "2026-01-02T03:04:05.678Z"}


async def test_the_event_names_the_parties_of_a_known_token(app: App) -> None:
    jti, issuer, subject = uuid4(), new_agent().aid, new_agent().aid
    async with app.rt.db.connection() as conn:
        await conn.execute(
            "INSERT INTO issued_tcts (jti, issuer_aid, subject_aid, audience_aid, issued_at)"
            " VALUES ($1, $2, $3, $3, now())",
            jti,
            issuer,
            subject,
        )
    await revoke(app, jti)
    (event,) = await events(app)
    assert (event["aidA"], event["aidB"]) == (issuer, subject)
    async with app.rt.db.connection() as conn:
        assert await conn.fetchval("SELECT revoked FROM issued_tcts WHERE jti = $1", jti)


async def test_time_and_reason_may_be_left_out(app: App) -> None:
    before = iso(app.clock())
    response = (await app.post(ENTRIES, {"jti": str(uuid4())})).json()
    assert before <= response["revokedAt"] <= iso(app.clock())
    assert response["reason"] is None


async def test_any_spelling_is_stored_in_lower_case(app: App) -> None:
    for spell in (str.upper, lambda jti: UUID(jti).hex, lambda jti: UUID(jti).urn, lambda jti: f"{{{jti}}}"):
        jti = str(uuid4())
        assert await revoke(app, spell(jti)) == jti
        assert [entry["jti"] for entry in await entries(app, jti=spell(jti))] == [jti]


async def test_times_are_read_as_iso_or_epoch(app: App) -> None:
    for given, stored in TIMES:
        response = await app.post(ENTRIES, {"jti": str(uuid4()), "revokedAt": given})
        assert response.json()["revokedAt"] == stored, given


async def test_the_time_may_be_spelled_as_in_the_list(app: App) -> None:
    response = await app.post(ENTRIES, {"jti": str(uuid4()), "revoked_at": 1767323045})
    assert response.json()["revokedAt"] == "2026-01-02T03:04:05.000Z"
    both = {"revokedAt": "2026-01-02T03:04:06Z", "revoked_at": 1767323045}
    response = await app.post(ENTRIES, {"jti": str(uuid4()), **both})
    assert response.json()["revokedAt"] == "2026-01-02T03:04:06.000Z"


async def test_what_is_wrong_is_refused_and_changes_nothing(app: App) -> None:
    for change, code in WRONG:
        response = await app.post(ENTRIES, {"jti": str(uuid4()), **change})
        assert (response.status_code, response.json()["code"]) == (400, code), change
    for body in (b"", b"[]", b'"x"', b"{", b'{"jti":"\\ud800"}'):
        response = await app.http.post(ENTRIES, content=body, headers=AUTH)
        assert (response.status_code, response.json()["code"]) == (400, "BODY_INVALID"), body
    assert await entries(app) == []
    assert await events(app) == []
    assert await audited(app) == []


async def test_a_reason_may_have_500_characters_of_any_width(app: App) -> None:
    reason = "\U0001f512" * 500
    assert (await app.post(ENTRIES, {"jti": str(uuid4()), "reason": reason})).json()["reason"] == reason


async def test_concurrent_revocations_are_one(app: App) -> None:
    jti = str(uuid4())
    posts = [app.post(ENTRIES, {"jti": jti, "reason": f"reason {n}", "revokedAt": n}) for n in range(8)]
    responses = await asyncio.gather(*posts)
    assert {response.status_code for response in responses} == {201}
    (stored,) = await entries(app)
    assert all(response.json() == stored for response in responses)
    assert len(await events(app)) == 1
    assert len(await audited(app)) == 1


async def test_a_second_revocation_shows_the_first(app: App) -> None:
    jti = await revoke(app, reason="first")
    first = await entries(app)
    again = await app.post(ENTRIES, {"jti": jti.upper(), "reason": "second", "revokedAt": 5})
    assert (again.status_code, again.json()) == (201, first[0])
    assert await entries(app) == first
    assert (len(await events(app)), len(await audited(app))) == (1, 1)


async def test_an_idempotency_key_replays_the_answer(app: App) -> None:
    body, key = {"jti": str(uuid4())}, {"Idempotency-Key": "k"}
    first = await app.post(ENTRIES, body, headers=key)
    app.clock.ahead = timedelta(seconds=5)
    second = await app.post(ENTRIES, body, headers=key)
    assert second.headers["Idempotency-Replayed"] == "true"
    assert (second.status_code, second.json()) == (201, first.json())
    other = await app.post(ENTRIES, {"jti": str(uuid4())}, headers=key)
    assert (other.status_code, other.json()["code"]) == (422, "IDEMPOTENCY_KEY_REUSED")


async def test_entries_are_paged_newest_first(app: App) -> None:
    jtis = [await revoke(app, revokedAt=1000 + n) for n in range(5)]
    assert [entry["jti"] for entry in await entries(app, limit=2, offset=1)] == [jtis[3], jtis[2]]
    assert len(await entries(app, limit="garbage")) == 5
    assert await entries(app, jti=str(uuid4())) == []


async def test_a_filter_that_is_no_uuid_is_refused(app: App) -> None:
    response = await app.get(ENTRIES, params={"jti": "nonsense"})
    assert (response.status_code, response.json()["code"]) == (400, "JTI_INVALID")


async def test_entries_need_a_key(app: App) -> None:
    for method in ("GET", "POST"):
        response = await app.http.request(method, ENTRIES, json={"jti": str(uuid4())})
        assert (response.status_code, response.json()["code"]) == (401, "INVALID_API_KEY")


async def test_a_reported_revocation_does_not_enter_the_list(app: App) -> None:
    report = {"type": "tct.revoked", "payload": {"jti": str(uuid4())}, "source": "playground"}
    assert (await app.post("/api/events", [report])).json()["inserted"] == 1
    assert await entries(app) == []
