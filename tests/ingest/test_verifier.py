"""Tokens in reports are judged before anything is written; forged ones raise an alarm and change nothing."""

import hashlib
import json
from typing import Any
from uuid import uuid4

import pytest
from prometheus_client import generate_latest

from aitp_cp.ingest.alarms import MAX_ALARMS
from aitp_cp.ingest.verifier import Known
from aitp_cp.protocol.verdicts import UNCHECKED
from tests.ingest.support import app, report
from tests.support.agents import b64url, claims_in, delegation, handshake, new_agent
from tests.support.app import OTHER_KEY, App, running_app
from tests.tcts.test_verified_rows import (
    ALICE,
    BOB,
    CLAIMS,
    DELEGATED,
    JTI,
    MALLORY,
    TOKENS,
    TRUE,
    forged,
    issued,
    signed,
)

__all__ = ["app"]

pytestmark = pytest.mark.anyio


def sha256(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


async def rows(app: App, path: str) -> list[dict[str, Any]]:
    response = await app.get(path)
    assert response.status_code == 200, response.text
    found: list[dict[str, Any]] = next(value for value in response.json().values() if isinstance(value, list))
    return found


async def alarms(app: App) -> list[dict[str, Any]]:
    return await rows(app, "/api/events/history?type=token.forged&limit=1000")


def counted(app: App, verdict: str) -> float:
    text = generate_latest(app.rt.metrics.registry).decode()
    [line] = [line for line in text.splitlines() if f'token_verdicts_total{{verdict="{verdict}"}}' in line]
    return float(line.split()[-1])


async def test_a_handshake_shows_what_its_tokens_are_worth(app: App) -> None:
    initiator, responder, third = new_agent(), new_agent("p256"), new_agent()
    done = handshake(initiator, responder)
    hop = delegation(initiator, done.initiator.voucher, third)
    events = [
        {"type": "handshake.complete", "session_id": "s", "payload": {"tct": {"token": side.token}}}
        for side in (done.initiator, done.responder)
    ]
    events.append({"type": "delegation.issued", "payload": {"delegation": {"token": hop, "claims": claims_in(hop)}}})
    await report(app, *events)
    for path in ("/api/tcts", "/api/tcts?verdict=verified", "/api/delegations", "/api/delegations?verdict=verified"):
        found = await rows(app, path)
        assert {(row["verdict"], row["mismatch"], row["conflict"]) for row in found} == {("verified", False, False)}, (
            path
        )
        assert len(found) == (2 if "tcts" in path else 1)
    for verdict in ("none", "invalid", "unverifiable"):
        assert (
            await rows(app, f"/api/tcts?verdict={verdict}")
            == await rows(app, f"/api/delegations?verdict={verdict}")
            == []
        )
    exported = (await app.get("/api/sessions/s/export")).json()
    assert {tct["verdict"] for tct in exported["tcts"]} == {"verified"}
    [logged] = await rows(app, "/api/events/history?type=delegation.issued")
    token = logged["payload"]["delegation"]
    assert token["token"] == {"sha256": sha256(hop), "verdict": "verified"}
    assert token["claims"]["voucher"] == {"sha256": sha256(done.initiator.voucher), "verdict": "verified"}
    assert (counted(app, "verified"), counted(app, "forged")) == (4, 0)


async def test_claims_without_a_token_have_no_verdict(app: App) -> None:
    await report(app, issued(claims=CLAIMS["true"]))
    [row] = await rows(app, "/api/tcts?verdict=none")
    assert (row["jti"], row["verdict"], row["mismatch"]) == (JTI, "none", False)


async def test_a_forged_token_raises_one_alarm_and_changes_nothing(app: App) -> None:
    """Whoever repeats it, and however often."""
    event = issued(TOKENS["forged"], CLAIMS["false grants"], session_id="s", run_id="run")
    await report(app, event | {"id": "1"}, event | {"id": "2"})
    await report(app, event | {"id": "3", "payload": {"tcts": [TOKENS["forged"], TOKENS["forged"]]}})
    await app.post("/api/events", [event], headers={"Authorization": f"Bearer {OTHER_KEY}"})
    [alarm] = await alarms(app)
    [*_, first] = await rows(app, "/api/events/history?type=tct.issued")
    assert alarm["payload"] == {
        "sha256": sha256(TOKENS["forged"]),
        "kind": "tct",
        "jti": JTI,
        "issuer": ALICE.aid,
        "subject": BOB.aid,
        "reporter": alarm["payload"]["reporter"],
        "eventId": first["id"],
    }
    assert alarm["payload"]["reporter"].startswith("apikey:")
    assert (alarm["aidA"], alarm["aidB"], alarm["source"]) == (ALICE.aid, BOB.aid, "cp")
    assert (alarm["sessionId"], alarm["runId"]) == ("s", "run")
    assert TOKENS["forged"] not in json.dumps(alarm)
    assert await rows(app, "/api/tcts") == []
    assert counted(app, "forged") == 3  # each batch counts each of its tokens once


async def test_a_forged_token_names_no_sides_and_revokes_nothing(app: App) -> None:
    await report(app, issued(TRUE))
    bad = {"tct": {"token": TOKENS["forged"], "claims": CLAIMS["true"]}}
    await report(app, {"type": "handshake.complete", "session_id": "s", "payload": bad})
    await report(app, {"type": "tct.revoked", "payload": bad}, {"type": "tct.revoked", "payload": TOKENS["forged"]})
    [session] = await rows(app, "/api/sessions")
    assert (session["aidA"], session["aidB"], session["status"]) == (None, None, "complete")
    [row] = await rows(app, "/api/tcts")
    assert not row["revoked"]
    await report(app, {"type": "tct.revoked", "payload": {"tct": {"token": TRUE}}})
    assert [row["revoked"] for row in await rows(app, "/api/tcts")] == [True]


async def test_an_alarm_repeats_no_text_of_a_token(app: App) -> None:
    hostile = forged(signed(ALICE, BOB, jti=TRUE, sub=TRUE))
    await report(app, issued(hostile), issued(hostile))
    [alarm] = await alarms(app)
    assert (alarm["payload"]["jti"], alarm["payload"]["subject"], alarm["aidB"]) == (None, None, None)


async def test_a_flood_of_forgeries_raises_a_bounded_number_of_alarms(app: App) -> None:
    text = forged(signed(ALICE, BOB)).rpartition(".")[0]
    flood = [f"{text}.{b64url(number.to_bytes(64, 'big'))}" for number in range(MAX_ALARMS + 10)]
    await report(
        app, {"type": "x", "id": "1", "payload": {"tcts": flood[:60]}}, {"type": "x", "payload": {"tcts": flood[60:]}}
    )
    assert len(await alarms(app)) == MAX_ALARMS
    await report(app, {"type": "x", "payload": flood[-1]})
    assert len(await alarms(app)) == MAX_ALARMS + 1


async def test_strict_names_what_is_not_verified_and_stores_it(database_url: str) -> None:
    async with running_app(database_url, OBSERVED_ARTIFACT_VERIFICATION="strict") as app:
        events = [
            issued(TRUE, id="1"),
            issued(claims=CLAIMS["true"], id="2"),
            issued(TOKENS["forged"], id="3"),
            {"type": "delegation.issued", "payload": {"tct": DELEGATED}},
            {"type": "delegation.issued", "payload": {"jti": str(uuid4()), "parent_jti": JTI, "iss": "a", "sub": "b"}},
            {"type": "handshake.complete", "session_id": "s", "payload": {"tct": CLAIMS["false parties"]}},
        ]
        response = (await app.post("/api/events", events)).json()
        assert (response["inserted"], response["dropped"]) == (6, 0)
        refused = [{"index": index, "field": "token", "reason": "unverified"} for index in (1, 2, 4, 5)]
        assert response["errors"] == refused
        assert [row["verdict"] for row in await rows(app, "/api/tcts")] == ["verified"]
        assert [row["verdict"] for row in await rows(app, "/api/delegations")] == ["verified"]
        [session] = await rows(app, "/api/sessions")
        assert (session["status"], session["aidA"]) == ("complete", None)
        assert MALLORY.aid not in json.dumps(session)


async def test_kept_tokens_are_judged_all_the_same(database_url: str) -> None:
    async with running_app(database_url, EVENT_TOKEN_REDACTION="false") as app:
        await report(app, issued(TRUE), issued(TOKENS["forged"]))
        assert [row["verdict"] for row in await rows(app, "/api/tcts")] == ["verified"]
        assert len(await alarms(app)) == 1
        [*_, event] = await rows(app, "/api/events/history?type=tct.issued")
        assert event["payload"] == {"tct": {"token": TRUE}}


async def test_off_judges_nothing(database_url: str) -> None:
    async with running_app(database_url, OBSERVED_ARTIFACT_VERIFICATION="off") as app:
        await report(app, issued(TOKENS["forged"]))
        assert [row["verdict"] for row in await rows(app, "/api/tcts")] == ["none"]
        [event] = await rows(app, "/api/events/history")
        assert event["payload"]["tct"]["token"] == {"sha256": sha256(TOKENS["forged"])}


def test_the_cache_is_bounded_also_for_each_caller() -> None:
    known = Known(limit=10_000, per_caller=4_000)
    for number in range(100):
        known.add(f"a{number}", UNCHECKED, "a", 0)
        assert known.bytes <= 4_000
    assert (known.get("a96"), known.get("a97"), known.get("a99")) == (None, UNCHECKED, UNCHECKED)
    for number in range(30):
        known.add(f"b{number}", UNCHECKED, f"caller {number}", 0)
        assert known.bytes <= 10_000
    assert (known.get("a99"), known.get("b29")) == (None, UNCHECKED)
    known.add("b29", UNCHECKED, "a", 0)
    known.add("large", UNCHECKED, "a", 4_000)
    assert known.get("large") is None
