"""POST /api/registry/agents (contract, section 8)."""

import base64
import json
import time
from datetime import timedelta
from typing import Any

import httpx
import pytest

from aitp_cp.clock import now
from aitp_cp.protocol import enrollment_token
from aitp_cp_client.wire.aid import Aid
from tests.support.agents import b64url, compact, manifest, members, new_agent, sdk_manifest, signed, tampered
from tests.support.app import API_KEY, AUTH, SECRET, App, running_app
from tests.support.enrolment import audit_of, bearer, events_of, register, registered, token_for
from tests.support.rows import TABLES, break_inserts, counts, mend_inserts, subscribe, value

pytestmark = pytest.mark.anyio

NOW = int(time.time())
ONE_AGENT = {"agents": 1, "audit_events": 1, "admin_audit_log": 1, "enrollment_jtis": 1}


def outcome(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json().get("code", response.json().get("aid"))


async def record(app: App, aid: str) -> dict[str, Any]:
    found = await app.http.get("/api/registry/agents", params={"aid": aid, "status": "all", "include_manifest": "true"})
    (agent,) = found.json()["agents"]
    return dict(agent)


async def test_an_agent_is_registered_with_event_audit_and_deliveries(database_url: str) -> None:
    agent = new_agent()
    body = sdk_manifest(agent, name="Ärger", caps=["cap.b", "cap.a"])
    async with running_app(database_url) as app:
        await subscribe(app)
        response = await register(app.http, body, **{"X-Aitp-Namespace": "team/a"})
        assert response.status_code == 201
        said = response.json()
        assert said == {"aid": agent.aid, "displayName": "Ärger", "registeredAt": said["registeredAt"]}

        (event,) = await events_of(app)
        assert (event["type"], event["aidA"], event["source"]) == ("agent.registered", agent.aid, "cp")
        assert (event["payload"]["displayName"], event["payload"]["namespace"]) == ("Ärger", "team/a")
        assert event["ts"] == said["registeredAt"]

        (row,) = await audit_of(app)
        assert (row["action"], row["actorId"]) == ("agent.register", f"enrollment:{agent.aid}")
        assert row["targetId"] == agent.aid
        assert row["requestId"] == response.headers["x-request-id"]

        await app.enqueue()
        assert await counts(app) == ONE_AGENT | {"webhook_deliveries": 1}
        delivery = json.loads(await value(app, "SELECT body FROM webhook_deliveries"))
        assert (delivery["eventType"], delivery["payload"]["id"]) == ("agent.registered", event["id"])


@pytest.mark.parametrize(
    "table", [table for table in TABLES if table not in {"agents", "idempotency_keys", "webhook_deliveries"}]
)
async def test_it_is_all_of_that_or_nothing(database_url: str, table: str) -> None:
    agent = new_agent()
    body = manifest(agent)
    async with running_app(database_url) as app:
        await subscribe(app)
        token = await token_for(app.http, body)
        await break_inserts(app, table)
        response = await register(app.http, body, token)
        assert (response.status_code, response.json()) == (500, {"error": "unexpected failure", "code": "INTERNAL"})
        assert await counts(app) == {}

        await mend_inserts(app, table)
        assert outcome(await register(app.http, body, token)) == (201, agent.aid)  # the token was not burnt
        await app.enqueue()
        assert await counts(app) == ONE_AGENT | {"webhook_deliveries": 1}


async def test_the_bytes_are_kept_as_they_came(database_url: str) -> None:
    agent = new_agent()
    envelope = json.loads(manifest(agent, display_name="Ünïcödé ✓", extensions={"weight": 10.0}))
    backwards = dict(reversed(envelope["manifest"].items()))
    spelled = json.dumps({"manifest": backwards}, indent=3).replace("aitp/0.3", "aitp\\/0.3").replace("10.0", "1e1")
    body = f"\r\n {spelled}\n\n".encode()
    async with running_app(database_url) as app:
        await registered(app, body)
        found = await app.http.get(f"/api/registry/agents/{agent.aid}/manifest")
        assert found.content == body
        assert (await record(app, agent.aid))["manifestJson"].encode() == body


async def test_a_token_is_good_for_the_manifest_however_it_is_spelled(database_url: str) -> None:
    agent = new_agent()
    enrolled = manifest(agent)
    envelope = json.loads(enrolled)
    backwards = {"manifest": dict(reversed(envelope["manifest"].items()))}
    for spelled in (json.dumps(backwards, indent=2), json.dumps(envelope).replace("cap.read", "\\u0063ap.read")):
        async with running_app(database_url) as app:
            token = await token_for(app.http, enrolled)
            assert outcome(await register(app.http, spelled.encode(), token)) == (201, agent.aid)


def forged(agent: str, msh: str, **changes: Any) -> str:
    """A token signed with the right secret that says something else."""
    minted = enrollment_token.mint(SECRET.encode(), Aid(agent), msh, now(), "a-jti").token
    claims = json.loads(base64.urlsafe_b64decode(minted.split(".")[0] + "==")) | changes
    body = b64url(compact(claims))
    return f"{body}.{enrollment_token._signature(SECRET.encode(), body)}"


async def test_tokens_that_are_none_for_this_registration(database_url: str) -> None:
    agent, other = new_agent(), new_agent()
    body = manifest(agent)
    async with running_app(database_url) as app:
        good = await token_for(app.http, body)
        msh = json.loads(base64.urlsafe_b64decode(good.split(".")[0] + "=="))["msh"]
        payload, signature = good.split(".")
        tokens = {
            "none": "",
            "the API key": API_KEY,
            "malformed": "abc",
            "another payload": f"{b64url(b'{}')}.{signature}",
            "bad signature": f"{payload}.{signature[:-2]}AA",
            "no signature": f"{payload}.",
            "padded": f"{payload}=.{signature}",
            "wrong scope": forged(agent.aid, msh, scope="admin"),
            "expired": forged(agent.aid, msh, exp=int(time.time()) - 1),
            "another agent's": await token_for(app.http, manifest(other)),
            "another AID in it": forged(other.aid, msh),
            "another manifest's": await token_for(app.http, manifest(agent, display_name="Newer")),
            "a tampered hash": forged(agent.aid, "0" * 64),
        }
        for why, token in tokens.items():
            response = await app.http.post("/api/registry/agents", content=body, headers=bearer(token))
            assert outcome(response) == (401, "TOKEN_INVALID"), why
            assert token == "" or token not in response.text
        for headers in ({}, {"Authorization": f"Basic {good}"}, {"Authorization": good}):
            response = await app.http.post("/api/registry/agents", content=body, headers=headers)
            assert outcome(response) == (401, "TOKEN_INVALID")
        assert await counts(app) == {}
        assert outcome(await register(app.http, body, good)) == (201, agent.aid)


async def test_a_token_of_another_control_plane(database_url: str) -> None:
    body = manifest(new_agent())
    async with running_app(database_url, ENROLLMENT_SECRET="another secret of another installation") as elsewhere:
        token = await token_for(elsewhere.http, body)
    async with running_app(database_url) as app:
        assert outcome(await register(app.http, body, token)) == (401, "TOKEN_INVALID")


async def test_a_token_lives_five_minutes(database_url: str) -> None:
    agent = new_agent()
    body = manifest(agent)
    async with running_app(database_url) as app:
        token = await token_for(app.http, body)
        app.clock.ahead = timedelta(seconds=301)
        assert outcome(await register(app.http, body, token)) == (401, "TOKEN_INVALID")
        app.clock.ahead = timedelta(seconds=295)
        assert outcome(await register(app.http, body, token)) == (201, agent.aid)


async def test_a_token_works_once(database_url: str) -> None:
    body = manifest(new_agent())
    async with running_app(database_url) as app:
        token = await token_for(app.http, body)
        assert (await register(app.http, body, token)).status_code == 201
        before = await value(app, "SELECT last_enrolled_at FROM agents")
        for _ in range(2):
            assert outcome(await register(app.http, body, token)) == (401, "TOKEN_REPLAYED")
        assert await counts(app) == ONE_AGENT
        assert await value(app, "SELECT last_enrolled_at FROM agents") == before


async def test_the_order_of_the_checks(database_url: str) -> None:
    """body → token → namespace → freshness → consume: each refusal hides all that would come after it."""
    agent = new_agent()
    current = manifest(agent, published_at=NOW, extensions={"namespace": "one"})
    stale = manifest(agent, published_at=NOW - 60, extensions={"namespace": "one"})
    conflicting = {"X-Aitp-Namespace": "two"}
    async with running_app(database_url) as app:
        used = await token_for(app.http, current)
        assert (await register(app.http, current, used)).status_code == 201
        rows = await counts(app)

        async def tried(body: bytes, token: str, **headers: str) -> tuple[int, str]:
            return outcome(await register(app.http, body, token, **headers))

        good = await token_for(app.http, stale)
        assert await tried(b"{", "no token", **conflicting) == (400, "BODY_INVALID")
        assert await tried(tampered(stale), "no token", **conflicting) == (400, "MANIFEST_INVALID")
        assert await tried(stale, "no token", **conflicting) == (401, "TOKEN_INVALID")
        assert await tried(stale, good, **conflicting) == (400, "NAMESPACE_CONFLICT")
        assert await tried(stale, good, **{"X-Aitp-Namespace": "no good"}) == (400, "BODY_INVALID")
        assert await tried(stale, good) == (409, "MANIFEST_STALE")
        assert await tried(current, used, **conflicting) == (400, "NAMESPACE_CONFLICT")
        assert await tried(current, used) == (401, "TOKEN_REPLAYED")
        assert await counts(app) == rows

        # Nothing of this burnt the good token: once the agent is gone from the table it is accepted.
        async with app.rt.db.connection() as conn:
            await conn.execute("DELETE FROM agents")
        assert await tried(stale, good) == (201, agent.aid)


async def test_a_manifest_that_expired_after_enrolment(database_url: str) -> None:
    body = manifest(new_agent(), ttl_secs=302)
    async with running_app(database_url) as app:
        token = await token_for(app.http, body)
        app.clock.ahead = timedelta(seconds=299)
        assert (await register(app.http, body, token)).status_code == 201
        app.clock.ahead = timedelta(seconds=303)
        assert outcome(await register(app.http, body, token)) == (400, "MANIFEST_EXPIRED")


async def test_a_namespace_from_either_place(database_url: str) -> None:
    async with running_app(database_url) as app:
        for namespace in ("a", "n" * 128, "Az09._:/-", "team/a:b", "..", "/"):
            for body, headers in (
                (manifest(new_agent()), {"X-Aitp-Namespace": namespace}),
                (manifest(new_agent(), extensions={"namespace": namespace}), {}),
                (manifest(new_agent(), extensions={"namespace": namespace}), {"X-Aitp-Namespace": namespace}),
            ):
                said = await registered(app, body, **headers)
                assert (await record(app, said["aid"]))["namespace"] == namespace


async def test_without_a_namespace_it_is_default(database_url: str) -> None:
    async with running_app(database_url) as app:
        for body in (manifest(new_agent()), manifest(new_agent(), extensions={"other": 1})):
            said = await registered(app, body)
            assert (await record(app, said["aid"]))["namespace"] == "default"


async def test_namespaces_that_are_none(database_url: str) -> None:
    async with running_app(database_url) as app:
        for namespace in ("n" * 129, "a b", "a\tb", "ä", "a%2Fb", "a\\b", "*", "a,b", ""):
            body = manifest(new_agent(), extensions={"namespace": namespace})
            assert outcome(await register(app.http, body)) == (400, "BODY_INVALID"), namespace
            body = manifest(new_agent())
            headers = httpx.Headers(bearer(await token_for(app.http, body)), encoding="utf-8")
            headers["X-Aitp-Namespace"] = namespace
            response = await app.http.post("/api/registry/agents", content=body, headers=headers)
            assert outcome(response) == (400, "BODY_INVALID"), namespace
        assert await counts(app) == {}


async def test_the_same_manifest_again_only_moves_the_enrolment(database_url: str) -> None:
    body = manifest(new_agent())
    async with running_app(database_url) as app:
        first = await registered(app, body)
        before = await record(app, first["aid"])
        app.clock.ahead = timedelta(minutes=1)
        respelled = json.dumps(json.loads(body), indent=1).encode()
        assert await registered(app, respelled) == first
        after = await record(app, first["aid"])
        assert after.pop("lastEnrolledAt") > before.pop("lastEnrolledAt")
        assert after == before
        assert len(await events_of(app)) == 1


async def test_a_newer_manifest_takes_the_place_of_the_older(database_url: str) -> None:
    agent = new_agent()
    older = manifest(agent, published_at=NOW - 60)
    newer = manifest(
        agent,
        published_at=NOW - 30,
        display_name="Renamed",
        offered_capabilities=["cap.new"],
        handshake_endpoint="https://moved.example:8443/h",
        extensions={"namespace": "moved"},
    )
    async with running_app(database_url) as app:
        first = await registered(app, older)
        second = await registered(app, newer)
        assert second == first | {"displayName": "Renamed"}
        shown = await record(app, agent.aid)
        assert (shown["displayName"], shown["offeredCaps"], shown["namespace"]) == ("Renamed", ["cap.new"], "moved")
        assert shown["handshakeEndpoint"] == "https://moved.example:8443/h"
        assert shown["manifestJson"].encode() == newer
        assert shown["registeredAt"] == first["registeredAt"]
        assert outcome(await register(app.http, older)) == (409, "MANIFEST_STALE")
        assert await record(app, agent.aid) == shown
        events = await events_of(app)
        assert [event["payload"]["displayName"] for event in events] == ["Test agent", "Renamed"]


async def test_another_manifest_of_the_same_second_is_not_older(database_url: str) -> None:
    agent = new_agent()
    async with running_app(database_url) as app:
        await registered(app, manifest(agent, published_at=NOW))
        await registered(app, manifest(agent, published_at=NOW, display_name="Corrected"))
        assert (await record(app, agent.aid))["displayName"] == "Corrected"


async def test_a_deregistered_agent_comes_back_only_with_a_newer_manifest(database_url: str) -> None:
    agent = new_agent()
    current = manifest(agent, published_at=NOW - 60)
    prepared = manifest(agent, published_at=NOW - 30, display_name="Prepared before")
    async with running_app(database_url) as app:
        await registered(app, current)
        token = await token_for(app.http, prepared)
        gone = await app.http.delete(f"/api/registry/agents/{agent.aid}", headers=AUTH)
        assert gone.status_code == 200
        rows = await counts(app)
        assert outcome(await register(app.http, current)) == (409, "AGENT_DEREGISTERED")
        assert outcome(await register(app.http, prepared, token)) == (409, "AGENT_DEREGISTERED")
        assert await counts(app) == rows

        app.clock.ahead = timedelta(minutes=1)
        back = manifest(agent, published_at=int(time.time()) + 2, display_name="Back")
        assert (await registered(app, back))["displayName"] == "Back"
        assert (await record(app, agent.aid))["status"] == "active"
        assert [event["type"] for event in await events_of(app)][-1] == "agent.registered"


async def test_an_expired_agent_comes_back_with_a_fresh_manifest(database_url: str) -> None:
    agent = new_agent()
    async with running_app(database_url) as app:
        await registered(app, manifest(agent, ttl_secs=600))
        app.clock.ahead = timedelta(minutes=11)
        assert (await record(app, agent.aid))["status"] == "expired"
        await registered(app, manifest(agent, published_at=int(app.clock().timestamp())))
        assert (await record(app, agent.aid))["status"] == "active"


async def test_both_spellings_of_an_aid_are_one_agent(database_url: str) -> None:
    agent = new_agent()
    tagged = agent.aid.replace("aid:pubkey:", "aid:pubkey:ed25519:")
    fields = members(agent, published_at=NOW) | {"aid": tagged}
    async with running_app(database_url) as app:
        await registered(app, manifest(agent, published_at=NOW - 5))
        assert (await registered(app, compact(signed(agent, fields))))["aid"] == agent.aid
        assert await value(app, "SELECT array_agg(aid) FROM agents") == [agent.aid]


async def test_bodies_that_are_too_long_or_hold_a_nul_leave_nothing(database_url: str) -> None:
    body = manifest(new_agent())
    async with running_app(database_url) as app:
        token = await token_for(app.http, body)
        padded = body[:-1] + b" " * 65_536 + b"}"
        assert outcome(await register(app.http, padded, token)) == (413, "PAYLOAD_TOO_LARGE")
        holding = body.replace(b"Test agent", b"Test\\u0000agent")
        assert outcome(await register(app.http, holding, token)) == (400, "BODY_INVALID")
        assert await counts(app) == {}
        assert (await register(app.http, body, token)).status_code == 201
