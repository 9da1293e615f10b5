"""Which clients are known to hold the list, and what proves nothing."""

from datetime import timedelta
from typing import Any

import pytest

from aitp_cp.containment import jobs, service
from aitp_cp.protocol.agent_token import AgentTokens
from aitp_cp.revocation import holders
from aitp_cp.revocation.holders import Holders
from aitp_cp.revocation.tags import ListTags
from tests.containment.support import claimed, contain, contained, report
from tests.revocation.support import LIST, revoke
from tests.support.agents import Agent, new_agent
from tests.support.app import SECRET, App, running_app
from tests.support.waiting import until

pytestmark = pytest.mark.anyio


async def fetch(app: App, agent: Agent | None = None, *tags: str) -> str:
    """Fetch the list, conditionally with `tags`; the ETag that came back."""
    headers = [("If-None-Match", tag) for tag in tags]
    if agent is not None:
        token = AgentTokens(SECRET.encode()).token(agent.sdk.aid, app.rt.clock())  # type: ignore[arg-type]
        headers.append(("X-Aitp-Agent-Token", token))
    response = await app.http.get(LIST, headers=headers)
    assert response.status_code in {200, 304}
    return response.headers["etag"]


async def reach(app: App, done: dict[str, Any]) -> dict[str, Any]:
    await app.rt.get(Holders).flush()
    response = await app.get(f"/api/containments/{done['containment']['id']}/reach")
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


def held(found: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {client["client"]: (client["holds"], client["proof"]) for client in found["clients"]}


async def test_a_conditional_get_with_a_token_confirms_a_peer(app: App, database_url: str) -> None:
    bad, first, second, silent = (new_agent() for _ in range(4))
    await report(app, *(claimed(bad.aid, peer.aid) for peer in (first, second, silent)))
    old = await fetch(app, second)
    await fetch(app, second, old)
    done = await contained(app, bad)
    found = await reach(app, done)
    assert found["exposedPeers"] == {"total": 3, "confirmed": 0, "unknown": 3}
    assert held(found) == {"192.0.2.1": ("older", "conditional-get"), second.aid: ("older", "conditional-get")}
    assert found["listedAt"] == done["containment"]["containedAt"]

    new = await fetch(app, first)
    assert held(await reach(app, done))[first.aid] == ("unknown", "fetched")
    await fetch(app, first, new)
    found = await reach(app, done)
    assert held(found)[first.aid] == ("current", "conditional-get")
    assert found["exposedPeers"] == {"total": 3, "confirmed": 1, "unknown": 2}
    assert found["halfConfirmedAt"] is None
    async with running_app(database_url) as replica:  # its own signing, the same version
        other = await fetch(replica, second)
        assert other.partition(".")[0] == new.partition(".")[0]
        await fetch(app, second, other)
    await jobs.watch(app.rt)
    found = await reach(app, done)
    assert found["exposedPeers"]["confirmed"] == 2
    await jobs.watch(app.rt)
    found = await reach(app, done)
    assert found["halfConfirmedAt"] is not None
    assert found["mostConfirmedAt"] is None
    assert app.rt.metrics.containment_confirmed._value.get() == pytest.approx(2 / 3)


async def test_a_later_version_confirms_too(app: App) -> None:
    bad, peer = new_agent(), new_agent()
    await report(app, claimed(bad.aid, peer.aid))
    done = await contained(app, bad)
    await revoke(app)
    await fetch(app, peer, await fetch(app, peer))
    assert (await reach(app, done))["exposedPeers"]["confirmed"] == 1


async def test_what_proves_nothing(app: App) -> None:
    bad, peer = new_agent(), new_agent()
    await report(app, claimed(bad.aid, peer.aid))
    done = await contained(app, bad)
    tag = await fetch(app)
    version = int(tag[1:].partition(".")[0])
    guess = ListTags(b"another secret of 32 characters!").mint(version, bytes(32))
    tampered = tag.replace(f'"{version}.', f'"{version + 1}.')
    for tags in (
        ("*",),
        (guess,),
        (tampered,),
        (f"W/{tag}",),
        (f"{tag}, {tag}",),
        (tag, tag),
        (tag[:-2] + '"',),
        ("",),
    ):
        await fetch(app, peer, *tags)
    forged = await app.http.get(LIST, headers={"If-None-Match": tag, "X-Aitp-Agent-Token": "aca_e30.AAAA"})
    assert forged.status_code == 304
    found = await reach(app, done)
    assert found["exposedPeers"] == {"total": 1, "confirmed": 0, "unknown": 1}
    assert held(found)[peer.aid] == ("unknown", "fetched")


async def test_only_the_whole_tag_of_this_moment_is_not_modified(app: App) -> None:
    tag = await fetch(app)
    assert (await app.http.get(LIST, headers={"If-None-Match": tag})).status_code == 304
    older = tag.replace(".", ".A", 1)[:-2] + '"'
    assert (await app.http.get(LIST, headers={"If-None-Match": older})).status_code == 200


async def test_memory_and_table_are_bounded(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holders, "MAX_NOTED", 3)
    monkeypatch.setattr(holders, "MAX_KEPT", 2)
    noted = app.rt.get(Holders)
    for number in range(5):
        app.clock.ahead += timedelta(seconds=1)
        noted.note("address", f"192.0.2.{number}", holds=1)
    await noted.flush()
    await noted.flush()
    async with app.rt.db.connection() as conn:
        kept = await holders.newest(conn, 10)
    assert [holder.client for holder in kept] == ["192.0.2.4", "192.0.2.3"]
    app.clock.ahead += timedelta(days=8)
    await noted.flush()
    async with app.rt.db.connection() as conn:
        assert await holders.newest(conn, 10) == []


async def test_nothing_is_current_while_the_job_is_at_work(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "AT_ONCE", 1)
    bad, peer = new_agent(), new_agent()
    await report(app, *(claimed(bad.aid, peer.aid) for _ in range(3)))
    done = await contained(app, bad)
    await fetch(app, peer, await fetch(app, peer))
    found = await reach(app, done)
    assert (found["listedAt"], found["exposedPeers"]["confirmed"]) == (None, 0)
    await jobs.settle(app.rt)

    async def is_confirmed() -> bool:
        await fetch(app, peer, await fetch(app, peer))
        return bool((await reach(app, done))["exposedPeers"]["confirmed"])

    await until(is_confirmed, 2)


async def test_webhooks_are_counted(app: App) -> None:
    async with app.rt.db.connection() as conn:
        await conn.execute(
            "INSERT INTO webhooks (id, url, events, secret, active, sees_after)"
            " VALUES (gen_random_uuid(), 'https://hook.example/', '[\"agent.contained\"]', 's', true, 0)"
        )
    bad = new_agent()
    done = await contained(app, bad)
    await app.enqueue()
    assert (await reach(app, done))["webhooks"] == {"delivered": 0, "pending": 1, "failed": 0}
    assert (await contain(app, bad)).status_code == 200
