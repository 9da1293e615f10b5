"""Containing and releasing through the client, at a real server."""

from collections.abc import Callable
from typing import Any

import pytest

from aitp_cp_client import ControlPlane, ControlPlaneError
from client.tests.support import collected
from tests.containment.support import claimed
from tests.support.agents import new_agent

pytestmark = pytest.mark.anyio


async def test_an_agent_is_contained_as_planned_followed_and_released(control_plane: ControlPlane) -> None:
    bad, peer = new_agent(), new_agent()
    await control_plane.events.report([claimed(bad.aid, peer.aid), claimed(peer.aid, bad.aid)])
    agents, containments = control_plane.agents, control_plane.containments
    plan = await agents.contain(bad.aid, "key leaked", dry_run=True)
    assert plan.containment is None
    assert (plan.tokens.issued, plan.tokens.held, plan.revocations, plan.remaining) == (1, 1, 2, 0)
    assert [(found.aid, found.live_tokens) for found in plan.exposed_peers] == [(peer.aid, 2)]
    assert await collected(containments.each(aid=bad.aid)) == []

    await control_plane.events.report([claimed(bad.aid, peer.aid)])
    with pytest.raises(ControlPlaneError) as refused:
        await agents.contain(bad.aid, "key leaked", expect=plan.plan_digest)
    assert (refused.value.status, refused.value.code) == (409, "PLAN_CHANGED")
    plan = await agents.contain(bad.aid, "key leaked", dry_run=True, held_delegations="revokeSource")
    done = await agents.contain(
        bad.aid, "key leaked", expect=plan.plan_digest, ticket="INC-7", held_delegations="revokeSource"
    )
    assert done.containment is not None
    record = done.containment
    assert (record.aid, record.ticket, record.held_delegations, record.include) == (
        bad.aid,
        "INC-7",
        "revokeSource",
        "all",
    )
    assert record.released_at is None
    assert await agents.contain(bad.aid, "again") == done
    assert await containments.get(record.id) == done
    assert await collected(containments.each(open=True, aid=bad.aid)) == [record]

    reach = await containments.reach(record.id)
    assert reach.listed_at is not None
    assert (reach.exposed_peers.total, reach.exposed_peers.confirmed, reach.exposed_peers.unknown) == (1, 0, 1)

    released = (await agents.release(bad.aid, "a new key")).containment
    assert released is not None
    assert (released.id, released.release_reason) == (record.id, "a new key")
    assert released.released_at is not None
    assert await containments.page(open=True, aid=bad.aid) == []
    with pytest.raises(ControlPlaneError) as refused:
        await agents.release(bad.aid, "again")
    assert (refused.value.status, refused.value.code) == (409, "NOT_CONTAINED")


async def test_verified_only_leaves_claims_alone(control_plane: ControlPlane) -> None:
    bad = new_agent()
    await control_plane.events.report([claimed(bad.aid, new_agent().aid)])
    plan = await control_plane.agents.contain(bad.aid, "a rumour", dry_run=True, include="verified")
    assert (plan.tokens.issued, plan.revocations) == (0, 0)


@pytest.mark.parametrize("field", ["aid", "reason"])
async def test_bad_input_is_refused(control_plane: ControlPlane, field: str) -> None:
    good: dict[str, Any] = {"aid": new_agent().aid, "reason": "key leaked"}
    bad = {**good, field: "" if field == "reason" else "nobody"}
    calls: list[Callable[..., Any]] = [control_plane.agents.contain, control_plane.agents.release]
    for call in calls:
        with pytest.raises(ControlPlaneError) as refused:
            await call(bad["aid"], bad["reason"])
        assert refused.value.status == 400
