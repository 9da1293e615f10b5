"""The README's first story against the real command, with a kill -9 in the middle."""

from pathlib import Path

import httpx

from tests.support.agents import manifest, new_agent
from tests.support.app import AUTH
from tests.support.process import Process


def test_an_agent_enrols_is_discovered_and_leaves(database_url: str, tmp_path: Path) -> None:
    agent = new_agent()
    body = manifest(agent)
    with Process(database_url, tmp_path / "log") as server, httpx.Client(base_url=server.url) as http:
        token = http.post("/api/registry/enroll", content=body).json()["token"]
        registered = http.post("/api/registry/agents", content=body, headers={"Authorization": f"Bearer {token}"})
        assert (registered.status_code, registered.json()["aid"]) == (201, agent.aid)

        server.kill()
        server.start()

        found = http.get("/api/registry/agents", params={"capability": "cap.read"}).json()["agents"]
        assert [entry["aid"] for entry in found] == [agent.aid]
        assert http.get(found[0]["manifestUrl"]).content == body

        gone = http.delete(f"/api/registry/agents/{agent.aid}", headers=AUTH)
        assert gone.json() == {"aid": agent.aid, "status": "deregistered"}
        assert http.get("/api/registry/agents").json() == {"agents": []}

        events = http.get("/api/events/history", headers=AUTH).json()["events"]
        assert [event["type"] for event in events] == ["agent.deregistered", "agent.registered"]
        actions = http.get("/api/audit", headers=AUTH).json()["entries"]
        assert [entry["action"] for entry in actions] == ["agent.deregister", "agent.register"]
        assert server.terminate() == 0
