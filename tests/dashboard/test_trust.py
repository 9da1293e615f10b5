"""GET /api/trust/edges: who trusts whom right now."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from tests.ingest.support import report
from tests.support.agents import manifest, new_agent
from tests.support.app import App
from tests.support.enrolment import registered
from tests.support.rows import execute

pytestmark = pytest.mark.anyio


def token(app: App, number: int, issuer: str, subject: str, hours: float = 1, **claims: Any) -> dict[str, Any]:
    now = app.rt.clock()
    exp = int((now + timedelta(hours=hours)).timestamp())
    tct = {"jti": str(UUID(int=number, version=4)), "iss": issuer, "sub": subject, "grants": ["read"], "exp": exp}
    return {"type": "tct.issued", "payload": {"tct": {"iat": int(now.timestamp()) - 7200, **tct, **claims}}}


def hop(app: App, number: int, parent: int, delegator: str, delegatee: str) -> dict[str, Any]:
    ids = {"jti": str(UUID(int=number, version=4)), "parent_jti": str(UUID(int=parent, version=4))}
    exp = int((app.rt.clock() + timedelta(hours=1)).timestamp())
    return {
        "type": "delegation.issued",
        "payload": {**ids, "delegator": delegator, "delegatee": delegatee, "scope": ["read"], "exp": exp},
    }


async def edges(app: App, **query: Any) -> dict[str, Any]:
    response = await app.get("/api/trust/edges", params=query)
    assert response.status_code == 200, response.text
    shown: dict[str, Any] = response.json()
    return shown


def peers(side: dict[str, Any]) -> dict[str, tuple[int, int]]:
    return {peer["aid"]: (peer["tokens"], peer["verified"]) for peer in side["peers"]}


async def test_live_tokens_are_edges_and_verified_ones_are_told_from_claims(app: App) -> None:
    agent = new_agent()
    await registered(app, manifest(agent, display_name="Centre"))
    await report(
        app,
        *(token(app, number, "planner", agent.aid) for number in (1, 2, 3)),
        token(app, 4, "indexer", agent.aid),
        token(app, 5, agent.aid, "broker", grants=["pay"]),
        token(app, 6, agent.aid, "gone", hours=-1),
        token(app, 7, agent.aid, "revoked"),
        token(app, 8, agent.aid, agent.aid),
        token(app, 9, "planner", "broker"),
        token(app, 10, "planner", "far"),
    )
    await execute(app, "UPDATE issued_tcts SET revoked = true WHERE subject_aid = 'revoked'")
    await execute(app, "UPDATE issued_tcts SET verdict = 'verified' WHERE jti <= $1", UUID(int=2, version=4))
    shown = await edges(app, aid=agent.aid)
    assert (shown["displayName"], shown["status"], shown["truncated"]) == ("Centre", "active", False)
    assert peers(shown["trustedBy"]) == {"planner": (3, 2), "indexer": (1, 0)}
    assert peers(shown["trusts"]) == {"broker": (1, 0)}
    assert (shown["trustedBy"]["agents"], shown["trustedBy"]["tokens"], shown["trustedBy"]["verified"]) == (2, 4, 2)
    assert shown["blastRadius"] == {"peers": 3, "tokens": 5, "below": 0, "secondHop": 1}
    assert set(peers((await edges(app, aid=agent.aid, liveOnly="false"))["trusts"])) == {"broker", "gone", "revoked"}
    assert set(peers((await edges(app, aid=agent.aid, minTokens=2))["trustedBy"])) == {"planner"}
    granted = await edges(app, aid=agent.aid, grant="pay")
    assert (peers(granted["trusts"]), granted["trustedBy"]["agents"]) == ({"broker": (1, 0)}, 0)


async def test_delegations_are_followed_by_levels_and_a_circle_ends(app: App) -> None:
    await report(
        app,
        token(app, 1, "centre", "broker"),
        hop(app, 11, 1, "broker", "worker-1"),
        hop(app, 12, 1, "broker", "worker-2"),
        hop(app, 13, 11, "worker-1", "worker-3"),
        hop(app, 14, 13, "worker-3", "worker-1"),
        hop(app, 15, 99, "somebody", "centre"),
    )
    await execute(
        app, "UPDATE delegations SET parent_jti = $1 WHERE jti = $2", *(UUID(int=n, version=4) for n in (14, 11))
    )
    await execute(app, "INSERT INTO delegation_parents VALUES ($1, $2)", *(UUID(int=n, version=4) for n in (11, 1)))
    shown = await edges(app, aid="centre")
    assert (shown["displayName"], shown["status"]) == (None, None)
    levels = {level["level"]: (level["delegations"], level["agents"]) for level in shown["delegated"]["levels"]}
    assert levels[1][0] >= 2
    assert sum(delegations for delegations, _ in levels.values()) <= 5
    assert {(one["delegator"], one["delegatee"]) for one in shown["delegated"]["hops"]} >= {
        ("broker", "worker-2"),
        ("somebody", "centre"),
    }


async def test_without_an_agent_the_most_trusted_come_first(app: App) -> None:
    assert (await edges(app))["mostTrusted"] == []
    await report(
        app,
        *(token(app, number, f"peer-{number}", "known") for number in range(3)),
        *(token(app, number, "peer-1", "twice") for number in (10, 11)),
        token(app, 20, "peer-1", "expired", hours=-1),
    )
    ranked = (await edges(app))["mostTrusted"]
    assert [(row["aid"], row["agents"], row["tokens"]) for row in ranked] == [("known", 3, 3), ("twice", 1, 2)]
    assert [row["aid"] for row in (await edges(app, minTokens=3))["mostTrusted"]] == ["known"]
    assert (await edges(app, grant="none"))["mostTrusted"] == []


async def test_a_hub_is_counted_and_only_its_first_peers_are_named(app: App) -> None:
    await execute(
        app,
        "INSERT INTO issued_tcts (jti, issuer_aid, subject_aid, audience_aid, grants, issued_at)"
        " SELECT gen_random_uuid(), 'hub', 'peer-' || n, 'a', '[]', now() FROM generate_series(1, 12000) AS n",
    )
    shown = await edges(app, aid="hub")
    assert (len(shown["trusts"]["peers"]), shown["trusts"]["agents"], shown["truncated"]) == (24, 10_000, True)
    [peer] = (await edges(app, aid="peer-7"))["trustedBy"]["peers"]
    assert (peer["aid"], peer["until"], peer["live"]) == ("hub", None, 1)
