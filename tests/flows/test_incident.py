"""The commands of docs/incident.md, in their order, pasted from the page."""

import re
import shlex
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from aitp_cp_client.commands.main import app
from client.tests.commands.support import at, enrolled, read
from tests.containment.support import claimed
from tests.support.app import API_KEY, AUTH
from tests.support.process import Process
from tests.support.rendered import DOCS
from tests.support.served import server

__all__ = ["server"]

ENDLESS = "events tail"


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
