"""Tokens and delegations as operators read them."""

from datetime import timedelta
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import pytest

from tests.ingest.support import report
from tests.support.agents import new_agent
from tests.support.app import App
from tests.tcts.test_cascade import delegated, issued, revoked, uid

pytestmark = pytest.mark.anyio


def tct(number: int, **claims: Any) -> dict[str, Any]:
    event = issued(number)
    event["payload"]["tct"] |= {"iat": 1_772_600_000 + number} | claims
    return event


async def listed(app: App, query: str = "") -> list[str]:
    response = await app.get(f"/api/{query}")
    assert response.status_code == 200, response.text
    rows = next(iter(response.json().values()))
    return [row["jti"] for row in rows]


def named(*numbers: int) -> list[str]:
    return [str(uid(number)) for number in numbers]


async def test_tokens_are_listed_newest_issued_first(app: App) -> None:
    await report(app, *(tct(number) for number in (1, 3, 0, 2)))
    assert await listed(app, "tcts") == named(3, 2, 1, 0)
    assert await listed(app, "tcts?limit=2&offset=1") == named(2, 1)


async def test_the_record_of_a_token_has_the_contracts_members(app: App) -> None:
    claims = {"grants": ["read"], "cnf": {"jkt": "k"}, "aud": "audience", "exp": 1_772_603_600}
    await report(app, tct(0, **claims) | {"session_id": "s-1"})
    assert (await app.get("/api/tcts")).json() == {
        "tcts": [
            {
                "jti": str(uid(0)),
                "issuer": "issuer",
                "subject": "holder",
                "audience": "audience",
                "grants": ["read"],
                "bindingCnf": "k",
                "issuedAt": "2026-03-04T04:53:20.000Z",
                "expiresAt": "2026-03-04T05:53:20.000Z",
                "sessionId": "s-1",
                "revoked": False,
                "revokedAt": None,
                "verdict": "none",
                "mismatch": False,
                "conflict": False,
                "reportedBy": None,
                "statements": [],
            }
        ]
    }


async def test_tokens_are_filtered_by_every_side_grant_and_session(app: App) -> None:
    aid = new_agent().aid
    await report(
        app,
        tct(0, iss=aid),
        tct(1, sub=aid, aud="other"),
        tct(2, aud=aid, grants=["read", "write"]),
        tct(3) | {"session_id": "s-1"},
    )
    tagged = aid.replace("aid:pubkey:", "aid:pubkey:ed25519:")
    for spelling in (aid, tagged):
        assert await listed(app, f"tcts?issuer={spelling}") == named(0)
        assert await listed(app, f"tcts?subject={spelling}") == named(1)
        assert await listed(app, f"tcts?audience={spelling}") == named(2)
    assert await listed(app, "tcts?capability=write") == named(2)
    assert await listed(app, "tcts?capability=wri") == []
    assert await listed(app, "tcts?sessionId=s-1") == await listed(app, "tcts?session_id=s-1") == named(3)


async def test_active_leaves_out_what_is_revoked_or_expired(app: App) -> None:
    now = int(app.rt.clock().timestamp())
    await report(app, tct(0), tct(1, exp=now + 60), tct(2, exp=now - 60), tct(3), revoked(3))
    assert set(await listed(app, "tcts?active=true")) == set(named(0, 1))
    app.clock.ahead = timedelta(seconds=90)
    assert await listed(app, "tcts?active=true") == named(0)
    assert len(await listed(app, "tcts?active=false")) == 4


async def test_delegations_are_filtered_by_parent_side_and_state(app: App) -> None:
    aid = new_agent().aid
    first, second = delegated(1, 0), delegated(2, 1)
    first["payload"] |= {"sub": aid, "iat": 1_772_600_001}
    second["payload"] |= {"iss": aid, "iat": 1_772_600_002, "scope": ["read"]}
    await report(app, first, second, revoked(2))
    assert await listed(app, "delegations") == named(2, 1)
    assert await listed(app, f"delegations?parent_jti={uid(0)}") == named(1)
    assert await listed(app, f"delegations?delegator={aid}") == named(2)
    assert await listed(app, f"delegations?delegatee={aid}") == named(1)
    assert await listed(app, "delegations?active=true") == named(1)
    [_, shown] = (await app.get("/api/delegations?rootJti=" + str(uid(0)))).json()["delegations"]
    assert shown == {
        "jti": str(uid(2)),
        "parentJti": str(uid(1)),
        "delegator": aid,
        "delegatee": "taker",
        "scope": ["read"],
        "issuedAt": "2026-03-04T04:53:22.000Z",
        "expiresAt": None,
        "revoked": True,
        "revokedAt": "2026-03-04T12:00:00.000Z",
        "revokedReason": "explicit",
        "verdict": "none",
        "mismatch": False,
        "conflict": False,
        "pendingCascade": False,
    }


async def test_a_tree_hangs_from_a_token_or_a_delegation(app: App) -> None:
    await report(
        app, issued(0), *(delegated(child, parent) for child, parent in ((1, 0), (2, 1), (3, 1), (4, 2), (9, 8)))
    )
    assert set(await listed(app, f"delegations?root_jti={uid(0)}")) == set(named(1, 2, 3, 4))
    assert set(await listed(app, f"delegations?root_jti={uid(2)}")) == set(named(2, 4))
    assert await listed(app, f"delegations?root_jti={uuid4()}") == []


async def test_a_tree_is_oldest_first_and_can_leave_out_what_is_revoked(app: App) -> None:
    events = [delegated(number, number - 1) for number in range(1, 5)]
    for number, event in enumerate(events):
        event["payload"]["iat"] = 1_772_600_000 - number
    await report(app, *events, revoked(3))
    assert await listed(app, f"delegations?root_jti={uid(0)}") == named(4, 3, 2, 1)
    assert await listed(app, f"delegations?root_jti={uid(0)}&active=true") == named(2, 1)


async def test_a_tree_ends_at_its_depth_at_its_size_and_at_a_forged_cycle(app: App) -> None:
    await report(app, *(delegated(number, number - 1) for number in range(1, 41)))
    assert set(await listed(app, f"delegations?root_jti={uid(0)}")) == set(named(*range(1, 33)))
    assert set(await listed(app, f"delegations?root_jti={uid(1)}")) == set(named(*range(1, 34)))
    for start in range(1000, 2200, 400):
        await report(app, *(delegated(number, 999) for number in range(start, start + 400)))
    assert len(await listed(app, f"delegations?root_jti={uid(999)}")) == 1000
    await report(app, delegated(51, 53), delegated(52, 51), delegated(53, 52), delegated(54, 54))
    assert sorted(await listed(app, f"delegations?root_jti={uid(51)}")) == named(51, 52, 53)
    assert await listed(app, f"delegations?root_jti={uid(54)}") == named(54)


@pytest.mark.parametrize("query", ["root_jti=7", "rootJti=x", "parent_jti=abc", "parentJti=%F0%9F%A6%8A"])
async def test_an_id_that_is_no_uuid_is_refused(app: App, query: str) -> None:
    response = await app.get(f"/api/delegations?{query}")
    assert (response.status_code, response.json()["code"]) == (400, "BAD_REQUEST")


async def test_live_tokens_are_listed_by_their_end(app: App) -> None:
    now = app.rt.clock()

    def ending(number: int, hours: float) -> dict[str, Any]:
        return tct(number, exp=int((now + timedelta(hours=hours)).timestamp()))

    await report(app, ending(0, 3), ending(1, 1), ending(2, -1), ending(3, 2), ending(4, 48), tct(5))
    await report(app, revoked(3))
    until = quote((now + timedelta(hours=4)).isoformat())
    assert await listed(app, f"tcts?expiresBefore={until}") == named(1, 0)
    first = (await app.get(f"/api/tcts?expiresBefore={until}&limit=1")).json()
    assert await listed(app, f"tcts?expiresBefore={until}&limit=1&before={first['nextBefore']}") == named(0)
    other = await app.get(f"/api/tcts?before={first['nextBefore']}")
    assert (other.status_code, other.json()["code"]) == (400, "FILTER_INVALID")


@pytest.mark.parametrize("path", ["tcts", "delegations"])
async def test_a_verdict_that_does_not_exist_is_refused(app: App, path: str) -> None:
    """Issue 15: no row has it, and an empty list would look like good news."""
    for verdict in ("bogus", "forged", "VERIFIED"):
        response = await app.get(f"/api/{path}?verdict={verdict}")
        assert response.status_code == 400
        assert "verdict is invalid or none or unverifiable or verified" in response.json()["error"]
