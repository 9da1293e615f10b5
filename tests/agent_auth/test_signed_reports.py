"""Signed requests on POST /api/events: accepted from the agent itself, refused with a reason (contract, section 20)."""

import json
from typing import Any
from uuid import uuid4

import pytest

from tests.agent_auth.support import (
    EVENTS,
    TOKEN,
    bearer,
    nonce_for,
    refusal,
    registered_agent,
    reported,
    send_signed,
    token_of,
)
from tests.deliveries.support import delivering, subscribe
from tests.support.agents import Suite, new_agent
from tests.support.app import App, running_app
from tests.support.enrolment import events_of
from tests.support.receiver import Answer, receiver
from tests.support.rows import value
from tests.support.signed import COVERED, pop_response, signed_by_hand, signed_by_library

pytestmark = pytest.mark.anyio

EVENT = {"type": "demo.event", "id": "1"}
BODY = json.dumps([EVENT]).encode()


async def post(
    app: App, headers: dict[str, str], body: bytes = BODY, path: str = EVENTS
) -> tuple[int, str, str | None]:
    response = await app.http.post(path, content=body, headers=headers)
    return refusal(response) if response.status_code != 200 else (200, "", None)


@pytest.mark.parametrize("suite", ["ed25519", "p256"])
async def test_an_agent_reports_with_its_key(database_url: str, suite: Suite) -> None:
    async with running_app(database_url) as app:
        agent = await registered_agent(app, suite)
        said = await reported(app, agent, EVENT)
        assert said == {"ingested": 1, "inserted": 1, "duplicates": 0, "dropped": 0, "errors": []}
        event = (await events_of(app))[-1]
        assert (event["aidA"], event["reportedBy"], event["proof"]) == (agent.aid, agent.aid, "signature")


async def test_a_replay_stores_nothing(database_url: str) -> None:
    """Whoever repeats the request, or the agent with its token: ids are made of the agent and the item."""
    async with running_app(database_url) as app:
        agent = await registered_agent(app)
        events = [EVENT, {"type": "demo.event", "ts": "2026-01-01T00:00:00Z"}]
        body = json.dumps(events).encode()
        headers = signed_by_library(agent, body, app.rt.signer.aid)
        for duplicates in (0, 2, 2):
            response = await app.http.post(EVENTS, content=body, headers=headers)
            assert response.json()["duplicates"] == duplicates
        response = await app.http.post(EVENTS, content=body, headers=bearer(await token_of(app, agent)))
        assert response.json()["duplicates"] == 2
        assert await value(app, "SELECT count(*) FROM audit_events WHERE source <> 'cp'") == 2


@pytest.mark.parametrize("event", [{"type": "x"}, {"type": "x", "ts": "never"}, {"type": "x", "ts": None, "id": ""}])
async def test_an_item_that_could_come_again_is_dropped(database_url: str, event: dict[str, Any]) -> None:
    async with running_app(database_url) as app:
        agent = await registered_agent(app)
        said = await reported(app, agent, event, EVENT)
        assert (said["inserted"], said["dropped"], said["errors"][0]["field"]) == (1, 1, "ts")


async def test_a_proxy_may_rewrite_host_and_the_query_is_signed(database_url: str) -> None:
    async with running_app(database_url) as app:
        agent = await registered_agent(app)
        headers = signed_by_library(agent, BODY, app.rt.signer.aid, url=f"https://elsewhere.example{EVENTS}?a=%7E")
        assert await post(app, {**headers, "Host": "inside.example"}, path=f"{EVENTS}?a=%7E") == (200, "", None)
        assert await post(app, headers, path=f"{EVENTS}?a=~") == (401, "SIGNATURE_INVALID", "key")


async def test_the_audience_has_two_spellings(database_url: str) -> None:
    """Section 1: an AID is one however it is spelled."""
    async with running_app(database_url) as app:
        agent = await registered_agent(app)
        tagged = app.rt.signer.aid.replace("aid:pubkey:", "aid:pubkey:ed25519:")
        assert await post(app, signed_by_library(agent, BODY, tagged)) == (200, "", None)
        proof = pop_response(agent.sdk, await nonce_for(app, agent), tagged)
        assert (await app.http.post(TOKEN, content=proof)).status_code == 200


async def test_refusals_name_the_reason_and_store_nothing(database_url: str) -> None:
    async with running_app(database_url) as app:
        agent, audience = await registered_agent(app), app.rt.signer.aid
        now = int(app.clock().timestamp())

        def hand(**options: Any) -> dict[str, str]:
            return signed_by_hand(agent, BODY, audience, **options)

        good = signed_by_library(agent, BODY, audience)
        second = hand(label="sig2")
        both = {name: f"{hand()[name]}, {second[name]}" for name in ("signature-input", "signature")}
        cases = [
            (signed_by_library(agent, BODY, audience, created=now - 301), "time"),
            (signed_by_library(agent, BODY, audience, created=now + 302), "time"),
            (signed_by_library(agent, BODY, new_agent().aid), "audience"),
            (hand(covered=COVERED[:-1]), "components"),
            (hand(changes={"keyid": new_agent().aid}), "key"),
            (hand(changes={"alg": "rsa-v1_5-sha256"}), "algorithm"),
            ({**hand(), **both}, "components"),
            ({name: text for name, text in good.items() if name != "signature"}, "components"),
            ({name: text for name, text in good.items() if name != "signature-input"}, "components"),
        ]
        for headers, reason in cases:
            assert await post(app, headers) == (401, "SIGNATURE_INVALID", reason), headers
        assert await post(app, good, BODY[:-2] + b" }]") == (401, "SIGNATURE_INVALID", "digest")
        assert await post(app, good, BODY.replace(b"demo", b"demp")) == (401, "SIGNATURE_INVALID", "digest")
        assert await post(app, good, b"\xef\xbb\xbf" + BODY) == (401, "SIGNATURE_INVALID", "digest")
        assert await value(app, "SELECT count(*) FROM audit_events WHERE source <> 'cp'") == 0
        assert await post(app, good) == (200, "", None)


async def test_a_bad_signature_is_not_saved_by_a_key(database_url: str) -> None:
    async with running_app(database_url) as app:
        agent = await registered_agent(app)
        response = await app.post(EVENTS, [EVENT], headers={"Signature": "sig1=:AAAA:"})
        assert refusal(response) == (401, "SIGNATURE_INVALID", "components")
        response = await send_signed(app, agent, EVENT, **bearer("wrong"))
        assert response.status_code == 200


async def test_signatures_open_reports_alone(database_url: str) -> None:
    async with running_app(database_url) as app:
        agent = await registered_agent(app)
        response = await app.http.post("/api/webhooks", headers=signed_by_library(agent, b"", app.rt.signer.aid))
        assert refusal(response)[:2] == (401, "INVALID_API_KEY")


async def test_only_an_active_agent_reports(database_url: str) -> None:
    async with running_app(database_url, API_KEYS="") as app:
        assert refusal(await send_signed(app, new_agent(), EVENT))[:2] == (403, "AGENT_NOT_ACTIVE")
        agent = await registered_agent(app)
        await app.delete(f"/api/registry/agents/{agent.aid}")
        assert refusal(await send_signed(app, agent, EVENT))[:2] == (403, "AGENT_NOT_ACTIVE")


async def test_a_failure_costs_the_address_and_a_success_the_agent(database_url: str) -> None:
    limits = {"RATE_LIMIT_ENABLED": "true", "RATE_LIMIT_PUBLIC_PER_IP_MIN": "4", "RATE_LIMIT_AGENT_PER_MIN": "5"}
    async with running_app(database_url, **limits) as app:
        agent = await registered_agent(app)  # one of the address's
        for left in (4, 3, 2):
            response = await send_signed(app, agent, EVENT)
            assert (response.headers["x-ratelimit-limit"], response.headers["x-ratelimit-remaining"]) == (
                "5",
                str(left),
            )
        good = signed_by_library(agent, BODY, app.rt.signer.aid)
        assert await post(app, {**good, "signature": "sig1=:AAAA:"}) == (401, "SIGNATURE_INVALID", "components")
        assert await post(app, good, BODY + b" ") == (401, "SIGNATURE_INVALID", "digest")
        assert await post(app, {**good, "aitp-audience": agent.aid}) == (401, "SIGNATURE_INVALID", "audience")
        response = await app.http.post(EVENTS, content=BODY, headers={**good, "signature": "x"})
        assert (response.status_code, response.json()["bucket"]) == (429, "public-ip")


async def test_telemetry_says_who_may_report(database_url: str) -> None:
    async with running_app(database_url, TELEMETRY="require") as app:
        agent = await registered_agent(app)
        assert refusal(await app.post(EVENTS, [EVENT]))[:2] == (403, "SIGNATURE_REQUIRED")
        assert (await send_signed(app, agent, EVENT)).status_code == 200
        response = await app.http.post(EVENTS, json=[EVENT], headers=bearer(await token_of(app, agent)))
        assert response.status_code == 200


async def test_reports_with_a_key_are_counted_for_the_agent_that_they_speak_for(database_url: str) -> None:
    async with running_app(database_url, TELEMETRY="warn") as app:
        one, two = await registered_agent(app), await registered_agent(app)
        sides = {"type": "handshake.started", "aid_a": one.aid, "aid_b": two.aid}
        held = {"jti": str(uuid4()), "iss": two.aid, "sub": one.aid}
        events = [
            {**sides, "session_id": "s1", "id": "1"},
            {**sides, "session_id": "s1", "id": "2", "payload": {"role": "responder"}},
            {**sides, "session_id": "s1", "id": "3"},
            {"type": "x", "aid_b": two.aid, "id": "4"},
            {"type": "x", "id": "5"},
            {"type": "handshake.complete", "session_id": "s2", "id": "7", "payload": {"tct": held}},
            {"type": "tct.issued", "id": "8", "payload": {"tct": held}},
        ]
        for _ in range(2):  # a repeated report is no further one
            assert (await app.post(EVENTS, events)).status_code == 200
        await reported(app, one, {**sides, "session_id": "s1", "id": "6"})
        agents = (await app.get("/api/dashboard/agents")).json()["agents"]
        counts = {agent["aid"]: (agent["unsignedReports"], agent["lastUnsignedReportAt"]) for agent in agents}
        assert counts[one.aid][0] == 3
        assert counts[two.aid][0] == 3
        assert all(last is not None for _, last in counts.values())


async def test_nothing_is_counted_while_all_ways_are_open(database_url: str) -> None:
    async with running_app(database_url) as app:
        agent = await registered_agent(app)
        await app.post(EVENTS, [{"type": "x", "aid_a": agent.aid, "id": "1"}])
        [shown] = (await app.get("/api/dashboard/agents")).json()["agents"]
        assert (shown["unsignedReports"], shown["lastUnsignedReportAt"]) == (0, None)
        event = (await events_of(app))[-1]
        assert (event["reportedBy"], event["proof"]) == (None, "shared-key")


async def test_history_and_stream_filter_by_reporter_and_proof(database_url: str) -> None:
    async with running_app(database_url) as app:
        agent = await registered_agent(app)
        await reported(app, agent, {"type": "signed", "id": "1"})
        await app.http.post(EVENTS, json=[{"type": "token", "id": "2"}], headers=bearer(await token_of(app, agent)))
        await app.post(EVENTS, [{"type": "key", "id": "3"}])

        async def types(**filters: str) -> list[str]:
            response = await app.get("/api/events/history", params=filters)
            return [event["type"] for event in response.json()["events"]]

        assert await types(proof="signature") == ["signed"]
        assert await types(proof="agent-token") == ["token"]
        assert await types(proof="shared-key") == ["key"]
        assert await types(reportedBy=agent.aid) == ["token", "signed"]
        assert await types(reportedBy=agent.aid, proof="signature", order="asc") == ["signed"]
        response = await app.get("/api/events/history", params={"proof": "none"})
        assert refusal(response)[:2] == (400, "FILTER_INVALID")


async def test_webhooks_and_exports_say_who_reported_and_how(database_url: str) -> None:
    async with receiver(Answer(204, b"")) as there, delivering(database_url) as app:
        await subscribe(app, there.url)
        agent = await registered_agent(app)
        event = {"type": "handshake.failed", "session_id": "s1", "aid_a": agent.aid}
        await reported(app, agent, {**event, "id": "1"})
        await app.http.post(EVENTS, json=[{**event, "id": "2"}], headers=bearer(await token_of(app, agent)))
        await app.post(EVENTS, [{**event, "id": "3"}])
        proofs = [(agent.aid, "agent-token"), (None, "shared-key"), (agent.aid, "signature")]

        def who(events: list[dict[str, Any]]) -> list[tuple[str | None, str]]:
            named = [
                (event["reportedBy"], event["proof"]) for event in events if event.get("type") == "handshake.failed"
            ]
            return sorted(named, key=lambda one: one[1])

        await app.enqueue()
        await there.wait_for(4)  # and the registration
        assert who([json.loads(got.body)["payload"] for got in there.got]) == proofs
        for path in ("/api/sessions/s1/export", f"/api/registry/agents/{agent.aid}/export"):
            assert who((await app.get(path)).json()["events"]) == proofs
            lines = (await app.get(path, params={"format": "jsonl"})).text.splitlines()
            assert who([json.loads(line)["record"] for line in lines]) == proofs
