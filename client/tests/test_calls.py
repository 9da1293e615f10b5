"""Every call, against a real server."""

import asyncio
import json
import re
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import msgspec
import pytest

from aitp_cp_client import AnchorPatch, ControlPlane, ControlPlaneError, MovedWebhook, TrustAnchor
from aitp_cp_client.sessions import SessionFilter
from client.tests.support import collected, handshake_report
from tests.support.agents import new_agent, sdk_manifest
from tests.support.process import Process
from tests.support.receiver import receiver
from tests.support.waiting import until

pytestmark = pytest.mark.anyio


async def test_health_and_readiness(server: Process, control_plane: ControlPlane) -> None:
    health = await control_plane.health()
    assert (health.ok, health.db) == (True, "ok")
    assert (await control_plane.readiness()).ready
    assert repr(control_plane) == f"ControlPlane('{server.url}')"


async def test_an_agent_registers_moves_and_deregisters(control_plane: ControlPlane) -> None:
    agent, namespace = new_agent(), uuid4().hex
    envelope = sdk_manifest(agent, name="Näme", caps=["client.a"])
    done = await control_plane.agents.enroll_and_register(envelope, namespace)
    assert (done.aid, done.display_name) == (agent.aid, "Näme")

    (listed,) = await control_plane.agents.page(namespace=namespace, capability="client.a", display_name="Näme")
    assert (listed.aid, listed.offered_caps, listed.status) == (agent.aid, ["client.a"], "active")
    assert abs(datetime.now(UTC) - listed.registered_at) < timedelta(minutes=1)
    assert listed.manifest_json is None
    (with_manifest,) = await control_plane.agents.page(namespace=namespace, include_manifest=True)
    assert with_manifest.manifest_json == envelope.decode()
    assert await control_plane.agents.get(agent.aid) == listed
    assert await control_plane.agents.manifest(agent.aid) == envelope

    moved = await control_plane.agents.move(agent.aid, f"{namespace}-2")
    assert (moved.namespace, await control_plane.agents.get(agent.aid)) == (f"{namespace}-2", moved)
    await control_plane.agents.move(agent.aid, namespace)
    assert (await control_plane.agents.deregister(agent.aid)).status == "deregistered"
    assert (await control_plane.agents.deregister(agent.aid)).status == "deregistered"
    assert await control_plane.agents.page(namespace=namespace) == []
    (gone,) = await collected(control_plane.agents.each(namespace=namespace, status="all"))
    assert gone.status == "deregistered"


async def test_a_registration_is_renewed_until_the_agent_ends(control_plane: ControlPlane) -> None:
    agent = new_agent()
    built: list[str] = []

    def build() -> str:
        built.append(sdk_manifest(agent).decode() if len(built) != 2 else "not a manifest")
        return built[-1]

    async with control_plane.agents.registered(build, "renewed", renew_secs=0.02) as registration:
        assert registration.aid == agent.aid
        first = await control_plane.agents.get(agent.aid)
        async with asyncio.timeout(10):
            while len(built) < 5:
                await asyncio.sleep(0.01)
        latest = await control_plane.agents.get(agent.aid)
        assert (latest.registered_at, latest.namespace) == (first.registered_at, "renewed")
        assert latest.last_enrolled_at is not None
        assert first.last_enrolled_at is not None
        assert latest.last_enrolled_at > first.last_enrolled_at
    ended = len(built)
    await asyncio.sleep(0.05)
    assert len(built) == ended
    with pytest.raises(ControlPlaneError):
        async with control_plane.agents.registered(lambda: "{}"):
            pass


async def test_an_enrollment_does_not_show_its_token(control_plane: ControlPlane) -> None:
    enrollment = await control_plane.agents.enroll(sdk_manifest(new_agent()))
    assert enrollment.token not in repr(enrollment)


async def test_exports_come_as_bytes(control_plane: ControlPlane) -> None:
    agent = new_agent()
    await control_plane.agents.enroll_and_register(sdk_manifest(agent))
    document = json.loads(b"".join(await collected(control_plane.agents.export(agent.aid))))
    assert document["agent"]["aid"] == agent.aid
    assert [event["type"] for event in document["events"]] == ["agent.registered"]
    lines = b"".join(await collected(control_plane.agents.export(agent.aid, "jsonl", event_limit=1))).splitlines()
    assert [json.loads(line)["kind"] for line in lines] == ["agent", "event"]


async def test_a_batch_is_stored_once(control_plane: ControlPlane) -> None:
    run = uuid4().hex
    batch = [{"id": f"{run}-{number}", "type": "client.counted", "run_id": run} for number in range(3)]
    first = await control_plane.events.report(batch)
    assert (first.inserted, first.duplicates, first.dropped) == (3, 0, 0)
    again = await control_plane.events.report(batch)
    assert (again.inserted, again.duplicates) == (0, 3)
    unnamed = await control_plane.events.report([{"type": "client.counted", "run_id": run}], idempotency_key=run)
    assert unnamed.inserted == 1
    assert len(await control_plane.events.history(run_id=run, type="client.counted")) == 4
    refused = await control_plane.events.report([{"type": "x" * 200}, {"type": "y", "id": run}])
    assert (refused.dropped, refused.errors[0].index, refused.errors[0].field) == (1, 0, "type")


async def test_the_log_is_read_in_its_order_over_pages(control_plane: ControlPlane) -> None:
    run = uuid4().hex
    for part in range(3):
        await control_plane.events.report(
            [{"id": f"{run}-{part}-{number}", "type": "client.paged", "run_id": run} for number in range(400)]
        )
    events = await collected(control_plane.events.log(run_id=run))
    positions = [event.seq or 0 for event in events]
    assert len(positions) == 1200
    assert positions == sorted(set(positions))
    rest = await collected(control_plane.events.log(after=positions[700], run_id=run))
    assert [event.seq for event in rest] == positions[701:]
    later = datetime.now(UTC) + timedelta(minutes=5)
    assert await collected(control_plane.events.log(run_id=run, since=later)) == []


async def test_sessions_tokens_and_delegations(control_plane: ControlPlane) -> None:
    session, run = uuid4().hex, uuid4().hex
    report = handshake_report(session, run)
    jti = UUID(report["payload"]["tct"]["jti"])
    child = uuid4()
    delegated = {"jti": str(child), "parent_jti": str(jti), "delegator": "aid:alice", "delegatee": "aid:carol"}
    await control_plane.events.report(
        [report, {"id": str(child), "type": "delegation.issued", "payload": {"delegation": delegated}}]
    )
    (listed,) = await collected(control_plane.sessions.each(run_id=run))
    assert (listed.session_id, listed.status, listed.aid_a) == (session, "complete", "aid:alice")
    assert await control_plane.sessions.page(run_id=run, status="failed") == []
    hour = timedelta(hours=1)
    before, after = datetime.now(UTC) - hour, datetime.now(UTC) + hour
    assert await control_plane.sessions.page(run_id=run, since=before, until=after) == [listed]
    others: list[SessionFilter] = [{"since": after}, {"until": before}, {"boundary": "x"}, {"error": "x"}]
    for other in others:
        other["run_id"] = run
        assert await control_plane.sessions.page(**other) == []
    detail = await control_plane.sessions.get(session)
    assert detail.session == listed
    assert [event.type for event in detail.events] == ["handshake.complete"]
    assert await control_plane.sessions.replay(session) == detail.events
    assert await control_plane.sessions.replay(session, since=datetime.now(UTC) + timedelta(minutes=5)) == []
    exported = json.loads(b"".join(await collected(control_plane.sessions.export(session))))
    assert exported["tcts"][0]["jti"] == str(jti)

    (tct,) = await collected(control_plane.tcts.each(session_id=session, active=True))
    assert (tct.jti, tct.subject, tct.revoked) == (jti, "aid:alice", False)
    ending = {"jti": str(uuid4()), "iss": session, "sub": "aid:alice", "exp": after.timestamp() - 60}
    await control_plane.events.report([{"type": "tct.issued", "id": session, "payload": {"tct": ending}}])
    [soon] = await control_plane.tcts.page(issuer=session, expires_before=after)
    assert str(soon.jti) == ending["jti"]
    assert await control_plane.tcts.page(issuer=session, expires_before=before) == []
    (delegation,) = await control_plane.delegations.page(parent_jti=jti)
    assert (delegation.jti, delegation.delegatee) == (child, "aid:carol")
    assert await control_plane.delegations.tree(jti) == [delegation]
    assert await collected(control_plane.delegations.each(parent_jti=jti)) == [delegation]

    await control_plane.revocations.add(jti)
    assert await control_plane.tcts.page(session_id=session, active=True) == []
    assert await control_plane.delegations.tree(jti, active=True) == []


async def test_a_revocation_is_in_the_verified_list(control_plane: ControlPlane) -> None:
    jti = uuid4()
    entry = await control_plane.revocations.add(jti, reason="key lost")
    assert await control_plane.revocations.add(jti, reason="another reason") == entry
    assert await control_plane.revocations.page(jti=jti) == [entry]
    assert entry in await collected(control_plane.revocations.each())

    aid = (await control_plane.health()).aid
    assert (await control_plane.manifest(pinned=aid)).aid == aid
    pinned = await control_plane.revocation_list(pinned=aid, max_age=timedelta(minutes=5))
    assert (pinned.issuer, pinned.pinned) == (aid, True)
    assert str(jti) in pinned.jtis
    assert (await control_plane.revocation_list()).pinned is False


async def test_a_list_that_is_held_is_not_sent_again(server: Process, control_plane: ControlPlane) -> None:
    proof = (await control_plane.agents.prove(new_agent().sdk)).token
    held = await control_plane.revocation_list()
    for _ in range(3):  # it is signed anew once a minute
        before, held = held, await control_plane.revocation_list(held=held, proof=proof)
        if held == before:
            break
    assert held == before
    await until(lambda: re.search(r"status\W+304\b", server.log()))


async def test_a_tag_alone_is_no_list(control_plane: ControlPlane) -> None:
    held = await control_plane.revocation_list()
    with pytest.raises(ControlPlaneError) as refused:
        await control_plane.revocation_list(pinned=new_agent().aid, held=held)
    assert refused.value.code == "UNVERIFIED"


async def test_documents_of_another_signer_do_not_verify(control_plane: ControlPlane) -> None:
    stranger = new_agent().aid
    with pytest.raises(ControlPlaneError) as refused:
        await control_plane.revocation_list(pinned=stranger)
    assert refused.value.code == "UNVERIFIED"
    with pytest.raises(ControlPlaneError, match="pinned") as refused:
        await control_plane.manifest(pinned=stranger)
    assert refused.value.code == "UNVERIFIED"
    with pytest.raises(ControlPlaneError, match="older") as refused:
        await control_plane.revocation_list(max_age=timedelta(seconds=-5))
    assert refused.value.code == "UNVERIFIED"
    with pytest.raises(ValueError, match="not an AID"):
        await control_plane.revocation_list(pinned="aid:pubkey:short")


async def test_webhooks_and_their_deliveries(control_plane: ControlPlane) -> None:
    async with receiver() as upstream:
        webhook, secret = await control_plane.webhooks.create(upstream.url, events=["tct.revoked"])
        assert len(secret) == 64
        assert secret not in repr(webhook)
        assert webhook in await collected(control_plane.webhooks.each())
        delivery = await control_plane.webhooks.test(webhook.id)
        assert delivery.event_type == "webhook.test"
        await upstream.wait_for(1)
        async with asyncio.timeout(10):
            while not await control_plane.webhooks.deliveries(webhook.id, "delivered"):
                await asyncio.sleep(0.02)
        again = await control_plane.webhooks.redeliver(webhook.id, delivery.id)
        await upstream.wait_for(2)
        assert upstream.got[0].body == upstream.got[1].body
        assert len(await collected(control_plane.webhooks.each_delivery(webhook.id))) == len({delivery.id, again.id})
        async with asyncio.timeout(10):
            while len(attempts := await control_plane.webhooks.attempts(webhook.id, delivery.id)) < 2:
                await asyncio.sleep(0.02)
        assert [(attempt.n, attempt.status, attempt.error) for attempt in attempts] == [(2, 200, None), (1, 200, None)]
        assert (await control_plane.webhooks.health(webhook.id)).last_hour.delivered == 1
        long_ago = datetime(2026, 1, 1, tzinfo=UTC)
        assert (await control_plane.webhooks.deliveries(webhook.id, type="webhook.test", since=long_ago)) != []
        assert (await control_plane.webhooks.recover(webhook.id, long_ago)).matched == 0
        assert (await control_plane.webhooks.replay_missing(webhook.id, long_ago, dry_run=True)).queued == 0
        resent = await control_plane.webhooks.resend(webhook.id, {"ids": [delivery.id]})
        assert (resent.matched, resent.queued, resent.next_after) == (1, 1, None)
        [entry] = await control_plane.audit.page(target=str(webhook.id), action="webhook.resend")
        file = b"".join([chunk async for chunk in control_plane.audit.export("csv", request_id=entry.request_id)])
        assert file.decode().count("webhook.resend") == 1

    assert (await control_plane.webhooks.breaker(webhook.id)).state == "closed"
    assert (await control_plane.webhooks.reset_breaker(webhook.id)).failures == 0
    changed = await control_plane.webhooks.update(webhook.id, active=False, secret="another")
    assert (changed.active, changed.events) == (False, ["tct.revoked"])
    assert await control_plane.webhooks.get(webhook.id) == changed
    moved = await control_plane.webhooks.update(webhook.id, url="http://127.0.0.1:9/")
    assert isinstance(moved, MovedWebhook)
    assert len(moved.secret) == 64
    assert moved.secret not in repr(moved)
    await control_plane.webhooks.delete(webhook.id)
    with pytest.raises(ControlPlaneError) as refused:
        await control_plane.webhooks.get(webhook.id)
    assert (refused.value.status, refused.value.code) == (404, "NOT_FOUND")


def _unfetched(anchor: TrustAnchor) -> TrustAnchor:
    """Return the anchor without the members that a background fetch changes."""
    return msgspec.structs.replace(anchor, last_error=None, last_error_at=None)


async def test_the_trust_store(control_plane: ControlPlane) -> None:
    namespace = uuid4().hex
    anchor = await control_plane.trust_anchors.create("https://issuer.example", namespace, label="one")
    with pytest.raises(ControlPlaneError) as refused:
        await control_plane.trust_anchors.create("https://issuer.example", namespace)
    assert (refused.value.code, refused.value.extra) == ("ALREADY_EXISTS", {"existing": {"id": str(anchor.id)}})
    changed = await control_plane.trust_anchors.update(anchor.id, AnchorPatch(label=None))
    assert (changed.label, changed.issuer_url) == (None, "https://issuer.example")
    assert _unfetched(await control_plane.trust_anchors.get(anchor.id)) == _unfetched(changed)
    listed = await collected(control_plane.trust_anchors.each(namespace))
    assert [_unfetched(one) for one in listed] == [_unfetched(changed)]
    with pytest.raises(ControlPlaneError) as refused:
        await control_plane.trust_anchors.jwks(uuid4())
    assert refused.value.status == 404
    await control_plane.trust_anchors.delete(anchor.id)
    assert await control_plane.trust_anchors.page(namespace=namespace) == []

    agent = new_agent()
    expires_at = datetime(2040, 1, 1, tzinfo=UTC)
    pinned = await control_plane.pinned_keys.pin(agent.aid, agent.key, namespace, expires_at=expires_at)
    assert pinned.expires_at == expires_at
    assert await control_plane.pinned_keys.get(agent.aid, namespace) == pinned
    assert await collected(control_plane.pinned_keys.each(namespace)) == [pinned]
    await control_plane.pinned_keys.unpin(agent.aid, namespace)
    assert await control_plane.pinned_keys.page(namespace=namespace) == []


async def test_the_audit_and_the_dashboard(control_plane: ControlPlane) -> None:
    agent = new_agent()
    await control_plane.agents.enroll_and_register(sdk_manifest(agent))
    entry = next(entry for entry in await control_plane.audit.page(limit=1000) if entry.target_id == agent.aid)
    assert (entry.action, entry.actor_id) == ("agent.register", f"enrollment:{agent.aid}")
    assert entry in await collected(control_plane.audit.each())
    overview = await control_plane.dashboard.overview("1h")
    assert overview.range == "1h"
    assert overview.kpis.agents_registered >= 1
    assert len(overview.charts.handshakes_over_time) >= 60
    assert agent.aid in {activity.aid for activity in await control_plane.dashboard.agents()}
