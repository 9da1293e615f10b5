"""The Idempotency-Key as clients meet it (contract, section 5)."""

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from aitp_cp.app import ENDPOINTS
from aitp_cp.db.locks import LOG
from tests.support.agents import manifest, new_agent
from tests.support.app import API_KEY, AUTH, OTHER_KEY, App, running_app
from tests.support.enrolment import bearer, register, token_for
from tests.support.process import Process
from tests.support.rows import break_inserts, counts, mend_inserts, value
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

EVENTS = "/api/events"
KEYED = {
    "/api/registry/agents",
    "/api/events",
    "/api/webhooks",
    "/api/webhooks/{id}/recover",
    "/api/webhooks/{id}/replay-missing",
    "/api/webhooks/{id}/resend",
    "/api/trust-anchors",
    "/api/pinned-keys",
    "/api/revocation/entries",
    "/api/keys",
    "/api/keys/{id}/rotate",
}


async def report(app: App, body: Any, key: str, caller: str = API_KEY) -> httpx.Response:
    headers = {"Authorization": f"Bearer {caller}", "Idempotency-Key": key}
    if isinstance(body, bytes):
        return await app.http.post(EVENTS, content=body, headers=headers)
    return await app.http.post(EVENTS, json=body, headers=headers)


def replayed(response: httpx.Response) -> bool:
    return dict(response.headers).get("idempotency-replayed") == "true"


def code(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json().get("code", "")


def test_every_keyed_endpoint_says_so() -> None:
    declared = {endpoint.path for endpoint in ENDPOINTS if endpoint.idempotent}
    assert declared == KEYED & {endpoint.path for endpoint in ENDPOINTS}
    assert declared >= {"/api/registry/agents", "/api/events", "/api/revocation/entries"}
    assert {endpoint.method for endpoint in ENDPOINTS if endpoint.idempotent} == {"POST"}


async def test_the_same_answer_again(database_url: str) -> None:
    body = [{"type": "a", "ts": "2026-05-25T12:00:00Z"}, 7]
    async with running_app(database_url) as app:
        first = await report(app, body, "key")
        assert "idempotency-replayed" not in first.headers
        for _ in range(3):
            again = await report(app, body, "key")
            assert (again.status_code, again.content, replayed(again)) == (200, first.content, True)
        assert await counts(app) == {"audit_events": 1, "idempotency_keys": 1}
        assert (await report(app, body, "another key")).json()["duplicates"] == 1


async def test_a_restart_forgets_nothing(database_url: str) -> None:
    async with running_app(database_url) as app:
        first = await report(app, [{"type": "a"}], "key")
    async with running_app(database_url) as app:
        again = await report(app, [{"type": "a"}], "key")
        assert (again.content, replayed(again)) == (first.content, True)


async def test_a_registration_is_replayed_although_its_token_is_spent(database_url: str) -> None:
    body = manifest(new_agent())
    key = {"Idempotency-Key": "register-once"}
    async with running_app(database_url) as app:
        token = await token_for(app.http, body)
        first = await register(app.http, body, token, **key)
        again = await register(app.http, body, token, **key)
        assert (first.status_code, again.status_code, replayed(again)) == (201, 201, True)
        assert again.content == first.content
        assert await counts(app) == {
            "agents": 1,
            "audit_events": 1,
            "admin_audit_log": 1,
            "enrollment_jtis": 1,
            "idempotency_keys": 1,
        }
        assert code(await register(app.http, body, token)) == (401, "TOKEN_REPLAYED")


async def test_another_body_is_refused_and_changes_nothing(database_url: str) -> None:
    async with running_app(database_url) as app:
        first = await report(app, [{"type": "a"}], "key")
        for other in ([{"type": "b"}], [{"type": "a"}, {}], b'[{"type":  "a"}]', b"nonsense"):
            assert code(await report(app, other, "key")) == (422, "IDEMPOTENCY_KEY_REUSED")
        assert (await report(app, [{"type": "a"}], "key")).json() == first.json()
        assert (await counts(app))["audit_events"] == 1


async def test_another_caller_has_keys_of_its_own(database_url: str) -> None:
    async with running_app(database_url) as app:
        await report(app, [{"type": "a"}], "key")
        for body in ([{"type": "a"}], [{"type": "b"}]):
            other = await report(app, body, f"key {body[0]['type']}", OTHER_KEY)
            assert (other.json()["inserted"], replayed(other)) == (1, False)
        for _ in range(2):
            response = await register(app.http, manifest(new_agent()), **{"Idempotency-Key": "key"})
            assert (response.status_code, replayed(response)) == (201, False)


async def test_another_endpoint_has_keys_of_its_own(database_url: str) -> None:
    async with running_app(database_url) as app:
        await report(app, [], "key")
        jti = {"jti": "0f8fad5b-d9cb-469f-a165-70867728950e"}
        revoked = await app.post("/api/revocation/entries", jti, headers={"Idempotency-Key": "key"})
        assert (revoked.status_code, replayed(revoked)) == (201, False)


@pytest.mark.parametrize("key", ["", "k" * 256, "a\tb", "a\x7fb", b"\xc2\x85", b"a\x01b"])
async def test_keys_that_are_none(database_url: str, key: Any) -> None:
    async with running_app(database_url) as app:
        response = await report(app, [{"type": "a"}], key)
        assert code(response) == (400, "IDEMPOTENCY_KEY_INVALID")
        assert await counts(app) == {}


@pytest.mark.parametrize("key", ["k", "k" * 255, "with space", "!#$%&'()*+,-./:;<=>?@[]^_`{|}~", '"quoted"', "%00"])
async def test_keys_of_every_other_kind(database_url: str, key: str) -> None:
    async with running_app(database_url) as app:
        await report(app, [{"type": "a"}], key)
        assert replayed(await report(app, [{"type": "a"}], key))
        assert await value(app, "SELECT key FROM idempotency_keys") == key


async def test_authentication_comes_first(database_url: str) -> None:
    async with running_app(database_url) as app:
        first = await report(app, [{"type": "a"}], "key")
        assert first.status_code == 200
        assert code(await report(app, [{"type": "a"}], "key", "wrong")) == (401, "INVALID_API_KEY")
        assert code(await report(app, [{"type": "a"}], "", "wrong")) == (401, "INVALID_API_KEY")
        body = manifest(new_agent())
        response = await register(app.http, body, "no token", **{"Idempotency-Key": ""})
        assert code(response) == (401, "TOKEN_INVALID")


async def test_refusals_that_would_come_again_are_stored(database_url: str) -> None:
    agent = new_agent()
    stale, current = (manifest(agent, published_at=1_900_000_000 - age) for age in (60, 0))
    key = {"Idempotency-Key": "key"}
    async with running_app(database_url) as app:
        app.clock.ahead = timedelta(seconds=1_900_000_000) - timedelta(seconds=app.clock().timestamp())
        invalid = await report(app, b"{}", "key")
        again = await report(app, b"{}", "key")
        assert (code(again), again.json(), replayed(again)) == ((400, "BODY_INVALID"), invalid.json(), True)

        await register(app.http, current)
        token = await token_for(app.http, stale)
        refused = await register(app.http, stale, token, **key)
        assert (code(refused), replayed(refused)) == ((409, "MANIFEST_STALE"), False)
        async with app.rt.db.connection() as conn:
            await conn.execute("DELETE FROM agents")
        again = await register(app.http, stale, token, **key)
        assert (again.json(), again.status_code, replayed(again)) == (refused.json(), 409, True)
        # What the effect had done before it was refused is undone: the token is still good.
        assert (await register(app.http, stale, token)).status_code == 201


async def test_refusals_that_may_pass_are_not_stored(database_url: str) -> None:
    body = manifest(new_agent())
    async with running_app(database_url) as app:
        for _ in range(2):
            large = await report(app, b" " * 300_000, "key")
            assert (code(large), replayed(large)) == ((413, "PAYLOAD_TOO_LARGE"), False)
            many = await report(app, [{}] * 501, "key")
            assert (code(many), replayed(many)) == ((413, "PAYLOAD_TOO_LARGE"), False)

        token = await token_for(app.http, body)
        await register(app.http, body, token)
        for _ in range(2):
            spent = await register(app.http, body, token, **{"Idempotency-Key": "spent"})
            assert (code(spent), replayed(spent)) == ((401, "TOKEN_REPLAYED"), False)

        await break_inserts(app, "audit_events")
        failed = await report(app, [{"type": "a"}], "key")
        assert code(failed) == (500, "INTERNAL")
        await mend_inserts(app, "audit_events")
        assert await value(app, "SELECT count(*) FROM idempotency_keys") == 0
        assert (await report(app, [{"type": "a"}], "key")).json()["inserted"] == 1


async def test_a_limited_request_is_not_stored(database_url: str) -> None:
    async with running_app(database_url, RATE_LIMIT_ENABLED="true", RATE_LIMIT_API_KEY_PER_MIN="1") as app:
        await app.get("/api/audit")
        assert code(await report(app, [{"type": "a"}], "key")) == (429, "RATE_LIMITED")
        app.clock.ahead = timedelta(minutes=1)
        response = await report(app, [{"type": "a"}], "key")
        assert (response.status_code, replayed(response)) == (200, False)


async def test_twenty_at_once_have_one_effect(database_url: str) -> None:
    async with running_app(database_url) as one, running_app(database_url) as other:
        responses = await asyncio.gather(*(report(app, [{"type": "a"}], "key") for app in [one, other] * 10))
        first = [response for response in responses if response.status_code == 200 and not replayed(response)]
        assert len(first) == 1
        for response in responses:
            if response.status_code == 409:
                assert code(response) == (409, "IDEMPOTENCY_IN_FLIGHT")
                assert response.headers["retry-after"] == "1"
            else:
                assert (response.status_code, response.json()) == (200, first[0].json())
        assert await counts(one) == {"audit_events": 1, "idempotency_keys": 1}


async def test_twenty_registrations_at_once_have_one_effect(database_url: str) -> None:
    body = manifest(new_agent())
    async with running_app(database_url) as app:
        headers = bearer(await token_for(app.http, body)) | {"Idempotency-Key": "key"}
        asked = (app.http.post("/api/registry/agents", content=body, headers=headers) for _ in range(20))
        responses = await asyncio.gather(*asked)
        outcomes = [(response.status_code, replayed(response)) for response in responses]
        assert outcomes.count((201, False)) == 1
        assert set(outcomes) <= {(201, False), (201, True), (409, False)}
        assert (await counts(app))["audit_events"] == 1


async def test_while_the_first_runs_the_second_is_told_to_wait(database_url: str) -> None:
    async with running_app(database_url) as app:
        holder = await asyncpg.connect(database_url)
        async with holder.transaction():
            await holder.execute("SELECT pg_advisory_xact_lock($1)", LOG.key)
            first = asyncio.create_task(report(app, [{"type": "a"}], "key"))
            await until_waiting(holder)
            second = await report(app, [{"type": "a"}], "key")
            assert code(second) == (409, "IDEMPOTENCY_IN_FLIGHT")
            assert second.headers["retry-after"] == "1"
            assert not first.done()
            untouched = await report(app, b"{}", "key", OTHER_KEY)
            assert code(untouched) == (400, "BODY_INVALID")
        assert (await first).json()["inserted"] == 1
        assert replayed(await report(app, [{"type": "a"}], "key"))
        await holder.close()


async def test_a_process_that_is_killed_in_the_middle_leaves_nothing_done_and_nothing_stuck(
    database_url: str, tmp_path: Path
) -> None:
    body, headers = [{"type": "a"}], AUTH | {"Idempotency-Key": "key"}
    holder = await asyncpg.connect(database_url)
    with Process(database_url, tmp_path / "log") as server:
        async with httpx.AsyncClient(base_url=server.url) as http:
            async with holder.transaction():
                await holder.execute("SELECT pg_advisory_xact_lock($1)", LOG.key)
                cut = asyncio.create_task(http.post(EVENTS, json=body, headers=headers))
                await until_waiting(holder)
                server.kill()
                with pytest.raises(httpx.TransportError):
                    await cut
            server.start()
            for _ in range(100):
                response = await http.post(EVENTS, json=body, headers=headers)
                if response.status_code != 409:
                    break
                await asyncio.sleep(0.05)
            assert (response.status_code, response.json()["inserted"], replayed(response)) == (200, 1, False)
            again = await http.post(EVENTS, json=body, headers=headers)
            assert (again.json(), replayed(again)) == (response.json(), True)
        assert await holder.fetchval("SELECT count(*) FROM audit_events") == 1
    await holder.close()


async def until_waiting(conn: "asyncpg.Connection[asyncpg.Record]") -> None:
    """Wait until another session of this database waits for an advisory lock."""
    waiting = (
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    )
    await until(lambda: conn.fetchval(waiting))
