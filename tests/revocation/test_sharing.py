"""Revocations that come together share a transaction, and each gets the answer it would get alone."""

import asyncio
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.revocation.support import ENTRIES, get_list
from tests.support.app import App
from tests.support.rows import execute

pytestmark = pytest.mark.anyio

# Refuses one of the entries, as a constraint or a broken row would.
REFUSAL = """
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN IF NEW.reason = 'bad' THEN RAISE EXCEPTION 'no such reason'; END IF; RETURN NEW; END $$
"""
REFUSE = "CREATE TRIGGER refuse BEFORE INSERT ON revocation_entries FOR EACH ROW EXECUTE FUNCTION refuse()"


async def post(app: App, key: str | None = None, **body: Any) -> httpx.Response:
    headers = {} if key is None else {"Idempotency-Key": key}
    return await app.post(ENTRIES, body, headers=headers)


async def test_fifty_revocations_take_a_few_transactions(app: App) -> None:
    jtis = [str(uuid4()) for _ in range(50)]
    before = app.rt.db.commits
    responses = await asyncio.gather(*(post(app, jti=jti, reason=jti) for jti in jtis))
    assert app.rt.db.commits - before < 12
    assert [(response.status_code, response.json()["jti"], response.json()["reason"]) for response in responses] == [
        (201, jti, jti) for jti in jtis
    ]
    audit = (await app.get("/api/audit")).json()["entries"]
    assert sorted(row["targetId"] for row in audit) == sorted(jtis)
    events = (await app.get("/api/events/history", params={"after": 0, "limit": 100})).json()["events"]
    assert sorted(event["payload"]["jti"] for event in events) == sorted(jtis)
    assert sorted(await get_list(app)) == sorted(jtis)


async def test_lists_and_single_tokens_that_overlap_are_each_counted_once(app: App) -> None:
    jtis = [str(uuid4()) for _ in range(20)]
    bodies: list[dict[str, Any]] = [{"jtis": jtis[:12]}, *({"jti": jti} for jti in jtis), {"jtis": jtis[8:]}]
    responses = await asyncio.gather(*(post(app, **body) for body in bodies))
    assert {response.status_code for response in responses} == {201}
    first, *_, last = (response.json() for response in responses)
    assert [entry["jti"] for entry in first["entries"]] == jtis[:12]
    assert [entry["jti"] for entry in last["entries"]] == jtis[8:]
    assert first["revoked"] + first["alreadyRevoked"] == last["revoked"] + last["alreadyRevoked"] == 12
    rows = (await app.get("/api/audit")).json()["entries"]
    assert sum(row["details"].get("count", 1) for row in rows) == 20
    stored = (await app.get(ENTRIES)).json()["entries"]
    shown = {
        entry["jti"]: entry for response in responses for entry in response.json().get("entries", [response.json()])
    }
    assert sorted(stored, key=str) == sorted(shown.values(), key=str)


async def test_one_that_fails_takes_no_other_with_it(app: App) -> None:
    await execute(app, REFUSAL)
    await execute(app, REFUSE)
    reasons = ["bad" if number in {3, 17} else "good" for number in range(20)]
    responses = await asyncio.gather(*(post(app, jti=str(uuid4()), reason=reason) for reason in reasons))
    assert [response.status_code for response in responses] == [500 if reason == "bad" else 201 for reason in reasons]
    assert len((await app.get(ENTRIES)).json()["entries"]) == 18
    assert len((await app.get("/api/audit")).json()["entries"]) == 18


async def test_keys_hold_inside_a_group(app: App) -> None:
    """One request under each key is done; another at the same time is refused, and a later one gets the same answer."""
    one, other = str(uuid4()), str(uuid4())
    responses = await asyncio.gather(
        post(app, "a", jti=one), post(app, "a", jti=one), post(app, "b", jti=other), post(app, jti=str(uuid4()))
    )
    assert sorted(response.status_code for response in responses) == [201, 201, 201, 409]
    [refused] = [response for response in responses if response.status_code == 409]
    assert refused.json()["code"] == "IDEMPOTENCY_IN_FLIGHT"
    again, reused, wrong = [await post(app, "a", jti=jti) for jti in (one, other, "x")]
    assert (again.status_code, again.headers["Idempotency-Replayed"], again.json()["jti"]) == (201, "true", one)
    assert {(response.status_code, response.json()["code"]) for response in (reused, wrong)} == {
        (422, "IDEMPOTENCY_KEY_REUSED")
    }
    assert len((await app.get("/api/audit")).json()["entries"]) == 3
