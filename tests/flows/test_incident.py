"""The commands of docs/incident.md, in their order, pasted from the page."""

import re
import shlex
import signal
from pathlib import Path

import aitp
import httpx
import pytest
from typer.testing import CliRunner

from aitp_cp_client.commands.main import app
from client.tests.commands.support import at, enrolled, read, started
from tests.containment.support import claimed, proven, signed
from tests.revocation.support import LIST
from tests.support.agents import Agent
from tests.support.app import API_KEY, AUTH
from tests.support.process import Process
from tests.support.rendered import DOCS
from tests.support.served import server
from tests.support.signed import pop_response

__all__ = ["server"]

ENDLESS = "events tail"
# A replica signs the list itself: the other one's tag says the version, and is the same if both signed in one second.
NOT_MODIFIED = set[str]()


def pasted() -> list[str]:
    blocks = re.findall(r"```sh\n(.*?)```", (DOCS / "incident.md").read_text(), re.DOTALL)
    lines = "".join(blocks).splitlines()
    return [line.partition(" #")[0].strip() for line in lines if line.startswith("aitp-cp ") and ENDLESS not in line]


def test_the_page_leads_from_the_plan_to_the_release(
    server: Process, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    bad = enrolled(server, name="Bad")
    # A token of the agent for itself: no peer is exposed, so that watching ends at once.
    httpx.post(f"{server.url}/api/events", json=[claimed(bad.aid, bad.aid)], headers=AUTH).raise_for_status()
    commands, id = pasted(), ""
    assert len(commands) >= 7
    for command in commands:
        arguments = shlex.split(command.replace("$AID", bad.aid).replace("CONTAINMENT", id))[1:]
        env = {"AITP_CP_URL": server.url, "AITP_CP_API_KEY": API_KEY}
        done = CliRunner().invoke(app, arguments, env=env, input=f"{bad.aid[-4:]}\n")
        assert done.exit_code == 0, (command, done.output)
        found = read(at(server, "containments", "list", "--aid", bad.aid, "--json"))["containments"]
        assert bool(found) != ("--dry-run" in command), command
        id = found[0]["id"] if found else ""
    assert found[0]["releasedAt"] is not None
    assert found[0]["ticket"] == "INC-7"
    assert (tmp_path / "agent.json").exists()
    assert read(at(server, "agents", "show", bad.aid, "--json"))["status"] == "deregistered"


def tag_of(replica: Process, agent: Agent, **more: str) -> tuple[str, set[str]]:
    """Fetch the list as a peer does, with a token of its own; the ETag and the ids on it, none where nothing is new."""
    with httpx.Client(base_url=replica.url) as http:
        challenge = http.post("/api/agent-auth/challenge", json={"aid": agent.aid}).json()
        proof = pop_response(agent.sdk, challenge["nonce"], challenge["audience"])
        token = http.post("/api/agent-auth/token", content=proof).json()["token"]
        response = http.get(LIST, headers={"X-Aitp-Agent-Token": token, **more})
    if response.status_code == 304:
        return response.headers["etag"], NOT_MODIFIED
    aitp.verify_revocation_list(response.text, challenge["audience"])
    return response.headers["etag"], {entry["jti"] for entry in response.json()["revocation_list"]["entries"]}


def test_three_of_four_peers_are_confirmed_and_the_fourth_is_named(server: Process, tmp_path: Path) -> None:
    """Two replicas; the fourth peer holds an older list and never fetches again."""
    bad, *peers = (enrolled(server, name=name) for name in ("Bad", "One", "Two", "Three", "Four"))
    events = [proven(signed(bad, peer)) for peer in peers]
    revoked = {event["payload"]["tct"]["jti"] for event in events}
    httpx.post(f"{server.url}/api/events", json=events, headers=AUTH).raise_for_status()
    tags = [tag_of(server, peer)[0] for peer in peers]
    listed = tag_of(server, bad)[1]
    (act,) = (command for command in pasted() if "agents contain" in command and "--watch" in command)
    with Process(server.environment["DATABASE_URL"], tmp_path / "log") as replica:
        for peer, tag in zip(peers, tags, strict=True):  # all four hold the list as it was
            assert tag_of(replica, peer, **{"If-None-Match": tag})[1] in (listed, NOT_MODIFIED)
        with started(server.url, *shlex.split(act.replace("$AID", bad.aid))[1:]) as operator:
            assert operator.stdin is not None
            assert operator.stderr is not None
            operator.stdin.write(f"{bad.aid[-4:]}\n")
            operator.stdin.flush()
            assert operator.stderr.readline().endswith("0 of 4 exposed peers confirmed\n")  # after the question
            for peer, tag in zip(peers[:3], tags, strict=False):
                new, entries = tag_of(server, peer, **{"If-None-Match": tag})
                assert entries == listed | revoked
                assert tag_of(replica, peer, **{"If-None-Match": new})[1] in (entries, NOT_MODIFIED)
            assert replica.terminate() == 0  # it writes down at once what it has seen
            assert operator.stderr.readline() == "3 of 4 exposed peers confirmed\n"
            operator.send_signal(signal.SIGINT)
            shown, _ = operator.communicate(timeout=20)
    assert operator.returncode == 0
    lines = [" ".join(line.replace("│", " ").split()) for line in shown.splitlines()]
    assert "exposed peers 4" in lines
    found = {peer.aid: [line for line in lines if line.startswith(f"{peer.aid} ")][-1] for peer in peers}
    assert [found[peer.aid].split()[2] for peer in peers] == ["confirmed"] * 3 + ["unknown"]
    assert found[peers[3].aid].startswith(f"{peers[3].aid} Four unknown")
