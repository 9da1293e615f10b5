"""Many tokens at once, dates that no revocation may have, and a list that follows its table (rows A6 and A18)."""

import asyncio
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid1, uuid4

import httpx
import pytest

from aitp_cp.audit.model import Actor
from aitp_cp.revocation import service
from aitp_cp.revocation.model import Request, Revocation
from tests.ingest.support import app, report
from tests.revocation.support import ENTRIES, get_list
from tests.support.agents import new_agent
from tests.support.app import App
from tests.support.waiting import until
from tests.tcts.test_cascade import delegated, issued, uid

__all__ = ["app"]

pytestmark = pytest.mark.anyio


def outcome(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json().get("code", "")


async def read(app: App, path: str, **params: Any) -> dict[str, Any]:
    response = await app.get(path, params=params)
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


async def test_a_thousand_tokens_are_revoked_in_one_request(app: App) -> None:
    """Part II, row 11: one answer in the order asked, one audit row, an event for each new entry, all in the list."""
    known = (await app.post(ENTRIES, {"jti": str(uuid4()), "reason": "before"})).json()
    jtis = [str(uuid4()) for _ in range(999)]
    jtis.insert(500, known["jti"])
    spelled = [jtis[0].upper(), UUID(jtis[1]).hex, f"urn:uuid:{jtis[2]}", *jtis[3:]]
    response = await app.post(ENTRIES, {"jtis": spelled, "reason": "key lost", "revokedAt": 1767323045})
    assert response.status_code == 201, response.text
    said = response.json()
    assert [entry["jti"] for entry in said["entries"]] == jtis
    assert (said["revoked"], said["alreadyRevoked"], said["entries"][500]) == (999, 1, known)
    new = {"jti": jtis[0], "revokedAt": "2026-01-02T03:04:05.000Z", "reason": "key lost", "listed": True}
    assert said["entries"][0] == new

    [row, _] = (await read(app, "/api/audit"))["entries"]
    assert (row["action"], row["details"]["count"], row["details"]["alreadyRevoked"]) == ("revocation.add", 999, 1)
    assert set(row["details"]["jtis"]) == set(jtis) - {known["jti"]}
    events = (await read(app, "/api/events/history", type="tct.revoked", limit=1000))["events"]
    assert sorted(event["payload"]["jti"] for event in events) == sorted(jtis)
    assert {"listed"} & events[0]["payload"].keys() == set()
    assert set(await get_list(app)) == set(jtis)


async def test_revoking_many_cascades_from_each_of_them(app: App) -> None:
    """Part II, row 11: what hangs from any of the tokens is revoked with it."""
    await report(app, issued(0), issued(10), delegated(1, 0), delegated(11, 10), delegated(12, 11), delegated(21, 20))
    await app.post(ENTRIES, {"jtis": [str(uid(0)), str(uid(11))]})
    rows = (await read(app, "/api/delegations"))["delegations"]
    assert {row["jti"]: row["revokedReason"] for row in rows} == {
        str(uid(1)): "parent_revoked",
        str(uid(11)): "explicit",
        str(uid(12)): "parent_revoked",
        str(uid(21)): None,
    }
    tokens = (await read(app, "/api/tcts"))["tcts"]
    assert {row["jti"]: row["revoked"] for row in tokens} == {str(uid(0)): True, str(uid(10)): False}


async def test_the_number_of_statements_does_not_depend_on_the_number_of_tokens(app: App) -> None:
    """Part II, row 11: a thousand entries take as many statements as two."""
    counts = []
    async with app.rt.db.connection() as conn:  # one for all: each connection looks up types of its own
        for size in (2, 2, 1000):
            logged: list[str] = []
            watched: Any = conn
            entries = [Revocation(uuid4(), app.clock(), None) for _ in range(size)]
            request = Request(entries, Actor("tester", None), bulk=True)
            with watched.query_logger(lambda record, logged=logged: logged.append(record.query)):
                async with conn.transaction():
                    await service.revoke(conn, [request], app.clock())
                await asyncio.sleep(0)  # the loop calls the logger
            counts.append(len(logged))
    assert counts[1] == counts[2] <= 14


@pytest.mark.parametrize(
    ("body", "code", "names"),
    [
        ({"jtis": []}, "BODY_INVALID", "0 ids"),
        ({"jtis": [str(uid(n)) for n in range(1001)]}, "BODY_INVALID", "1001 ids"),
        ({"jtis": [str(uid(1)), "x", "y"]}, "JTI_INVALID", "jtis[1]"),
        ({"jtis": [str(uid(1)), None]}, "JTI_INVALID", "jtis[1]"),
        ({"jtis": [str(uid(1))], "jti": str(uid(1))}, "BODY_INVALID", "not both"),
        ({"jtis": str(uid(1))}, "BODY_INVALID", "jtis"),
        ({"jtis": {"0": str(uid(1))}}, "BODY_INVALID", "jtis"),
        ({"jtis": [str(uid(1))], "reason": "r" * 501}, "BODY_INVALID", "reason"),
        ({"jtis": None}, "JTI_INVALID", "jti"),
    ],
)
async def test_a_wrong_list_is_refused_whole(app: App, body: dict[str, Any], code: str, names: str) -> None:
    """Part II, row 11: a clear 400 that says which member is wrong, and nothing is stored."""
    response = await app.post(ENTRIES, body)
    assert outcome(response) == (400, code)
    assert names in response.json()["error"]
    assert (await read(app, ENTRIES))["entries"] == (await read(app, "/api/audit"))["entries"] == []


async def test_a_token_named_twice_is_revoked_once(app: App) -> None:
    """Part II, row 11: in an incident a pasted list with a repetition is no reason to revoke nothing."""
    said = (await app.post(ENTRIES, {"jtis": [str(uid(1)), str(uid(2)), uid(1).hex.upper()]})).json()
    assert [entry["jti"] for entry in said["entries"]] == [str(uid(1)), str(uid(2)), str(uid(1))]
    assert (said["revoked"], said["alreadyRevoked"]) == (2, 1)
    [row] = (await read(app, "/api/audit"))["entries"]
    assert (row["details"]["count"], row["details"]["jtis"]) == (2, [str(uid(1)), str(uid(2))])
    assert len((await read(app, "/api/events/history", type="tct.revoked"))["events"]) == 2


async def test_a_list_is_idempotent_and_safe_beside_itself(app: App) -> None:
    """Part II, row 11: replayed under its key; two lists that overlap, in opposite orders, store each token once."""
    jtis = [str(uuid4()) for _ in range(100)]
    key = {"Idempotency-Key": "k"}
    first, again = [await app.post(ENTRIES, {"jtis": jtis[:10]}, headers=key) for _ in range(2)]
    assert (again.headers["Idempotency-Replayed"], again.json()) == ("true", first.json())
    orders = [jtis, jtis[::-1], jtis[50:] + jtis[:50], jtis[::-1]]
    responses = await asyncio.gather(*(app.post(ENTRIES, {"jtis": order}) for order in orders))
    assert {response.status_code for response in responses} == {201}
    assert sum(response.json()["revoked"] for response in responses) == 90
    assert len((await read(app, "/api/events/history", type="tct.revoked", limit=1000))["events"]) == 100
    assert len({str(sorted(entry["jti"] for entry in response.json()["entries"])) for response in responses}) == 1


async def test_no_revocation_is_dated_far_ahead(app: App) -> None:
    """Row A18: the first revocation stands, so one of the year 9999 would never take effect."""
    for field in ("revokedAt", "revoked_at"):
        for ahead, status in ((timedelta(minutes=4), 201), (timedelta(minutes=6), 400), (timedelta(days=2e6), 400)):
            at = (app.clock() + ahead).isoformat()
            assert (await app.post(ENTRIES, {"jti": str(uuid4()), field: at})).status_code == status
            assert (await app.post(ENTRIES, {"jtis": [str(uuid4())], field: at})).status_code == status


async def test_an_answer_says_whether_the_signed_list_holds_the_token(app: App) -> None:
    """Row A18: 201 for a jti that the SDK does not sign says so, in every answer."""
    signed, unsigned = str(uuid4()), str(UUID(int=uuid1().int))
    responses = [(await app.post(ENTRIES, {"jti": jti})).json()["listed"] for jti in (signed, unsigned)]
    bulk = (await app.post(ENTRIES, {"jtis": [signed, unsigned]})).json()["entries"]
    page = (await read(app, ENTRIES))["entries"]
    assert responses == [entry["listed"] for entry in bulk] == [True, False]
    assert {entry["jti"]: entry["listed"] for entry in page} == {signed: True, unsigned: False}
    assert await get_list(app) == [signed]


async def test_reported_parties_that_are_no_agents_are_in_no_event_of_the_control_plane(app: App) -> None:
    """Row A6: a token reported with `iss: "!"` and revoked by an operator gives null parties."""
    agent = new_agent().aid
    for issuer, subject, expected in (("!", "!", (None, None)), (agent, "!", (agent, None))):
        jti = str(uuid4())
        await report(app, {"type": "tct.issued", "payload": {"tct": {"jti": jti, "iss": issuer, "sub": subject}}})
        await app.post(ENTRIES, {"jti": jti})
        [event] = (await read(app, "/api/events/history", type="tct.revoked", limit=1))["events"]
        assert (event["payload"]["jti"], event["aidA"], event["aidB"]) == (jti, *expected)


async def test_the_signed_list_follows_its_table_without_any_event(app: App) -> None:
    """Row A6: an entry written, changed or removed by hand, or by an older control plane, is in the list in seconds."""
    jti = uuid4()
    assert await get_list(app) == []
    async with app.rt.db.connection() as conn:
        await conn.execute("INSERT INTO revocation_entries (jti, revoked_at) VALUES ($1, now())", jti)
        await until(lambda: holds(app, [str(jti)]), 5)
        await conn.execute("DELETE FROM revocation_entries")
        await until(lambda: holds(app, []), 5)
        assert await conn.fetchval("SELECT count(*) FROM audit_events") == 0


async def holds(app: App, jtis: list[str]) -> bool:
    return await get_list(app) == jtis
