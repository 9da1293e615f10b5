"""Notes, older manifests and the search through the client, at a real server."""

import pytest

from aitp_cp_client import ControlPlane, ControlPlaneError, Hit
from client.tests.support import collected
from tests.support.agents import manifest, new_agent

pytestmark = pytest.mark.anyio


async def test_notes_are_written_listed_and_forgotten(control_plane: ControlPlane) -> None:
    agent, notes = new_agent(), control_plane.notes
    stored = await notes.put(agent.aid, "team-rag", "a remark", ["rag"])
    assert await notes.get(agent.aid) == stored
    assert await collected(notes.each(owner="team-rag", label="rag", aid=agent.aid)) == [stored]
    await notes.delete(agent.aid)
    with pytest.raises(ControlPlaneError) as refused:
        await notes.get(agent.aid)
    assert refused.value.code == "NOT_FOUND"


async def test_older_manifests_are_read_as_they_came(control_plane: ControlPlane) -> None:
    agent, agents = new_agent(), control_plane.agents
    body = manifest(agent, display_name="One that is found")
    await agents.enroll_and_register(body)
    (kept,) = await agents.manifests(agent.aid)
    assert (kept.seq, kept.bytes) == (1, len(body))
    assert await agents.kept_manifest(agent.aid, kept.sha256) == body
    (record,) = await agents.page(q=agent.aid, looks_like="0ne that is found")
    assert record.manifest_expires_at is not None
    hit = Hit("agent", agent.aid, "One that is found", "active")
    assert await control_plane.search(agent.aid) == [hit]
    assert hit in await control_plane.search("one that is f")
