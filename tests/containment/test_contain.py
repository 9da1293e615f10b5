"""Containing an agent: the plan, the act, and what it may never touch."""

from typing import Any
from uuid import uuid4

import pytest

from tests.containment.support import (
    claimed,
    contain,
    contained,
    delegated,
    live,
    path,
    release,
    report,
    tokens,
)
from tests.revocation.support import get_list
from tests.support.agents import new_agent, sdk_manifest
from tests.support.app import API_KEY, App
from tests.support.enrolment import audit_of, events_of, registered
from tests.support.waiting import until

pytestmark = pytest.mark.anyio


async def test_the_dry_run_names_what_the_act_then_does(app: App) -> None:
    bad, peer, other = new_agent(), new_agent(), new_agent()
    await registered(app, sdk_manifest(peer, name="Peer"))
    events = [
        *(claimed(bad.aid, peer.aid) for _ in range(3)),
        *(claimed(other.aid, bad.aid) for _ in range(2)),
        claimed(bad.aid, peer.aid, jti="6fa459ea-ee8a-3ca4-894e-db77e160355e"),
        claimed(bad.aid, peer.aid, exp=1_700_000_000),
        claimed(peer.aid, other.aid),
    ]
    jtis = await report(app, *events)
    await report(app, delegated(peer.aid, other.aid, jtis[0]))
    dry = await contain(app, bad, dry=True)
    assert dry.status_code == 200
    assert len(await live(app, bad)) == 6
    plan = dry.json()
    assert plan["containment"] is None
    assert plan["tokens"] == {"issued": 4, "held": 2, "unlistable": 1, "byVerdict": {"none": 6}, "shared": 0}
    assert (plan["delegations"]["count"], plan["delegations"]["depth"]) == (1, 1)
    assert [(found["aid"], found["displayName"], found["liveTokens"]) for found in plan["exposedPeers"]] == [
        (peer.aid, "Peer", 4),
        (other.aid, None, 2),
    ]
    done = await contained(app, bad, expect=plan["planDigest"], ticket="INC-7")
    assert {**done, "containment": None} == plan
    assert done["containment"]["ticket"] == "INC-7"
    assert await live(app, bad) == []
    assert len(await get_list(app)) == plan["listEntriesAfter"] == 5
    assert set(await get_list(app)) == set(jtis[:5])
    assert [token["jti"] for token in await tokens(app, issuer=peer.aid, active="true")] == [jtis[7]]
    [delegation] = (await app.get("/api/delegations")).json()["delegations"]
    assert delegation["revoked"]


async def test_one_audit_row_and_one_event_each(app: App) -> None:
    bad = new_agent()
    await report(app, *(claimed(bad.aid, new_agent().aid) for _ in range(3)))
    done = await contained(app, bad)
    [row] = await audit_of(app)
    assert (row["action"], row["targetId"], row["details"]["tokens"]["issued"]) == ("agent.contain", bad.aid, 3)
    kinds = [event["type"] for event in await events_of(app) if event["source"] == "cp"]
    assert kinds == ["agent.contained", "tct.revoked", "tct.revoked", "tct.revoked"]
    again = await contain(app, bad, reason="somebody else was faster")
    assert (again.status_code, again.json()) == (200, done)
    assert len(await audit_of(app)) == 1


async def test_a_plan_that_has_changed_is_not_carried_out(app: App) -> None:
    bad = new_agent()
    await report(app, claimed(bad.aid, new_agent().aid))
    plan = (await contain(app, bad, dry=True)).json()
    await report(app, claimed(new_agent().aid, bad.aid))
    refused = await contain(app, bad, expect=plan["planDigest"])
    assert (refused.status_code, refused.json()["code"]) == (409, "PLAN_CHANGED")
    assert len(await live(app, bad)) == 2
    await contained(app, bad, expect=refused.json()["planDigest"])
    assert await live(app, bad) == []


async def test_the_mode_is_part_of_the_plan(app: App) -> None:
    bad = new_agent()
    plan = (await contain(app, bad, dry=True)).json()
    refused = await contain(app, bad, expect=plan["planDigest"], heldDelegations="revokeSource")
    assert refused.status_code == 409


async def test_a_received_delegation_is_collateral_unless_its_source_goes(app: App) -> None:
    bad, delegator, issuer = new_agent(), new_agent(), new_agent()
    [source] = await report(app, claimed(issuer.aid, delegator.aid))
    single_hop = "886313e1-3b8a-5372-9b90-0c9aee199e5d"
    await report(app, delegated(delegator.aid, bad.aid, source, jti=single_hop))
    plan = (await contain(app, bad, dry=True)).json()
    assert plan["delegations"]["collateral"] == [
        {"kind": "delegation", "jti": single_hop, "sourceJti": source, "aid": delegator.aid}
    ]
    assert plan["listEntriesAfter"] == 0
    harder = (await contain(app, bad, dry=True, heldDelegations="revokeSource")).json()
    assert harder["listEntriesAfter"] == 1
    await contained(app, bad, heldDelegations="revokeSource", expect=harder["planDigest"])
    assert await get_list(app) == [source]
    [delegation] = (await app.get("/api/delegations", params={"delegatee": bad.aid})).json()["delegations"]
    assert delegation["revoked"]


async def test_a_marked_delegation_is_revoked_and_its_source_is_not(app: App) -> None:
    bad, delegator = new_agent(), new_agent()
    [source] = await report(app, claimed(new_agent().aid, delegator.aid))
    await report(app, delegated(delegator.aid, bad.aid, source, jti="886313e1-3b8a-5372-9b90-0c9aee199e5d"))
    await contained(app, bad)
    [delegation] = (await app.get("/api/delegations", params={"delegatee": bad.aid})).json()["delegations"]
    assert (delegation["revoked"], delegation["revokedReason"]) == (True, "explicit")
    assert await live(app, delegator) == [source]
    assert await get_list(app) == []


async def test_a_reported_revocation_keeps_no_token_off_the_list(app: App) -> None:
    bad = new_agent()
    [jti] = await report(app, claimed(bad.aid, new_agent().aid))
    event = {"type": "tct.revoked", "ts": "2026-01-01T00:00:00Z", "payload": {"jti": jti}}
    await app.post("/api/events", [event])
    assert await live(app, bad) == []
    assert (await contained(app, bad))["tokens"]["issued"] == 1
    assert await get_list(app) == [jti]


async def test_what_is_reported_later_is_revoked_with_the_report(app: App) -> None:
    bad, peer = new_agent(), new_agent()
    done = await contained(app, bad)
    late = await report(app, claimed(bad.aid, peer.aid), claimed(peer.aid, bad.aid), claimed(peer.aid, new_agent().aid))
    assert await live(app, bad) == []
    assert await live(app, peer) == [late[2]]
    # A claim may name any id, so it does not reach the public list.
    assert await get_list(app) == []
    stored = (await app.get(f"/api/containments/{done['containment']['id']}")).json()
    assert (stored["containment"]["claimedOnly"], stored["containment"]["laterListed"]) == (2, 0)
    await report(app, delegated(peer.aid, bad.aid, late[2]))
    [delegation] = (await app.get("/api/delegations")).json()["delegations"]
    assert delegation["revoked"]


async def test_after_a_release_new_tokens_live_and_old_ones_do_not(app: App) -> None:
    bad, peer = new_agent(), new_agent()
    await report(app, claimed(bad.aid, peer.aid))
    await contained(app, bad)
    released = await release(app, bad)
    assert released.status_code == 200
    assert released.json()["containment"]["releaseReason"] == "a new key"
    assert await live(app, bad) == []
    fresh = await report(app, claimed(bad.aid, peer.aid))
    assert await live(app, bad) == fresh
    assert [event["type"] for event in await events_of(app)][-2:] == ["agent.released", "tct.issued"]
    assert [row["action"] for row in await audit_of(app)] == ["agent.contain", "agent.release"]
    again = await release(app, bad)
    assert (again.status_code, again.json()["code"]) == (409, "NOT_CONTAINED")


async def test_lists_of_containments(app: App) -> None:
    first, second = new_agent(), new_agent()
    ended = await contained(app, first)
    await release(app, first)
    running = await contained(app, second)

    async def ids(**query: Any) -> list[str]:
        response = await app.get("/api/containments", params=query)
        return [found["id"] for found in response.json()["containments"]]

    both = [running["containment"]["id"], ended["containment"]["id"]]
    assert await ids() == both
    assert await ids(open="true") == both[:1]
    assert await ids(open="false") == both[1:]
    assert await ids(aid=first.aid) == both[1:]
    page = (await app.get("/api/containments", params={"limit": "1"})).json()
    assert await ids(limit="1", before=page["nextBefore"]) == both[1:]
    assert (await app.get(f"/api/containments/{uuid4()}")).status_code == 404


@pytest.mark.parametrize(
    "body",
    [
        {"reason": ""},
        {"reason": " \n"},
        {"reason": "x" * 501},
        {"reason": None},
        {"reason": "x\0"},
        {"ticket": "x" * 256},
        {"heldDelegations": "burn"},
        {"include": "some"},
        {"expect": 7},
    ],
)
async def test_bad_bodies(app: App, body: dict[str, Any]) -> None:
    agent = new_agent()
    response = await contain(app, agent, **body)
    assert (response.status_code, response.json()["code"]) == (400, "BODY_INVALID")
    assert (await app.get("/api/containments")).json() == {"containments": []}


async def test_bad_aids_and_keys(app: App) -> None:
    response = await app.post(path("aid:pubkey:short", "contain"), {"reason": "x"})
    assert (response.status_code, response.json()["code"]) == (400, "BAD_REQUEST")
    agent = new_agent()
    tagged = agent.aid.replace("aid:pubkey:", "aid:pubkey:ed25519:")
    assert (await app.post(path(tagged, "contain"), {"reason": "x"})).json()["containment"]["aid"] == agent.aid
    wrong = {"Authorization": f"Bearer {API_KEY}x"}
    assert (await app.http.post(path(agent.aid, "contain"), json={"reason": "x"}, headers=wrong)).status_code == 401
    refused = await contain(app, new_agent(), expect="0" * 64)
    assert (refused.status_code, refused.json()["code"]) == (409, "PLAN_CHANGED")


async def test_every_replica_lists_the_tokens_at_once(app: App) -> None:
    bad = new_agent()
    jtis = await report(app, *(claimed(bad.aid, new_agent().aid) for _ in range(20)))
    assert await get_list(app) == []
    await contained(app, bad)
    await until(lambda: _is_listed(app, jtis), 1)


async def _is_listed(app: App, jtis: list[str]) -> bool:
    return set(await get_list(app)) == set(jtis)
