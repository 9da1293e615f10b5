"""API keys through the client, at a real server."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from aitp_cp_client import ControlPlane, ControlPlaneError
from client.tests.support import answered, collected
from tests.support.app import API_KEY
from tests.support.process import Process
from tests.support.receiver import Answer

pytestmark = pytest.mark.anyio


async def test_a_key_is_created_changed_rotated_and_revoked(server: Process, control_plane: ControlPlane) -> None:
    ends = datetime.now(UTC).replace(microsecond=0) + timedelta(days=1)
    created = await control_plane.keys.create("nightly", role="reporter", expires_at=ends, rate_per_min=50)
    assert created.key not in repr(created)
    assert created.key.startswith(created.shown)
    assert (created.scopes, created.expires_at, created.rate_per_min) == (["events:write"], ends, 50)
    assert (created.family, created.actor, created.state) == (created.id, f"key:{created.id}", "active")
    changed = await control_plane.keys.update(created.id, name="nightly job", rate_per_min=None)
    assert (changed.name, changed.rate_per_min) == ("nightly job", None)
    assert (await control_plane.keys.update(created.id, name="nightly")).rate_per_min is None
    fresh = await control_plane.keys.rotate(created.id, timedelta(minutes=5))
    assert (fresh.family, fresh.scopes, fresh.expires_at) == (created.id, created.scopes, ends)
    old = await control_plane.keys.get(created.id)
    assert old.replaced_by == fresh.id
    assert old.expires_at is not None
    assert old.expires_at < ends
    assert {key.id for key in await collected(control_plane.keys.each())} >= {created.id, fresh.id}

    async with ControlPlane(server.url, fresh.key) as reporter:
        me = await reporter.whoami()
        assert (me.actor, me.actor_name, me.kind) == (created.actor, "nightly", "key")
        assert (me.scopes, me.expires_at) == (["events:write"], ends)
        assert (await reporter.events.report([{"type": "client.keyed"}])).inserted == 1
        with pytest.raises(ControlPlaneError) as refused:
            await reporter.keys.page()
        assert (refused.value.status, refused.value.code) == (403, "SCOPE_MISSING")
        assert refused.value.extra["required"] == "keys:admin"

        revoked = await control_plane.keys.revoke(fresh.id, "a test", family=True)
        assert set(revoked.keys) == {created.id, fresh.id}
        with pytest.raises(ControlPlaneError) as refused:
            await reporter.whoami()
        assert (refused.value.status, refused.value.code) == (401, "API_KEY_REVOKED")
    assert (await control_plane.keys.revoke(fresh.id)).keys == []
    gone = next(key for key in await control_plane.keys.page("revoked") if key.id == fresh.id)
    assert (gone.state, gone.revoked_reason) == ("revoked", "a test")


async def test_the_audit_names_the_key(server: Process, control_plane: ControlPlane) -> None:
    admin = await control_plane.keys.create("an admin", role="admin")
    async with ControlPlane(server.url, admin.key) as client:
        made = await client.keys.create("made by it", scopes=["events:read", "audit:read"])
    entry = next(entry for entry in await control_plane.audit.page() if entry.target_id == str(made.id))
    assert (entry.action, entry.actor_id, entry.actor_name) == ("key.create", admin.actor, "an admin")
    assert made.key not in str(entry)


async def test_an_environment_key_has_every_scope(control_plane: ControlPlane) -> None:
    me = await control_plane.whoami()
    assert (me.kind, me.expires_at) == ("environment", None)
    assert "keys:admin" in me.scopes
    assert API_KEY not in str(me)


async def test_a_key_whose_secret_was_lost_is_named() -> None:
    """What a control plane answers to a creation that it is asked for again."""
    id = uuid4()
    names = ("createdBy", "expiresAt", "revokedAt", "revokedReason", "replacedBy", "lastUsedAt", "lastUsedIp")
    key: dict[str, Any] = {
        "id": str(id),
        "family": str(id),
        "name": "x",
        "shown": "acp_1234",
        "state": "active",
        "actor": f"key:{id}",
    }
    key |= dict.fromkeys(names) | {"scopes": ["events:write"], "createdAt": "2026-01-01T00:00:00.000Z"}
    async with answered(Answer(body=json.dumps(key | {"ratePerMin": None}).encode())) as (client, there):
        with pytest.raises(ControlPlaneError, match=str(id)) as lost:
            await client.keys.create("x", role="reporter")
    assert (lost.value.code, lost.value.extra) == ("KEY_LOST", {"id": str(id)})
    assert "idempotency-key" in {name.lower() for name in there.got[0].headers}
