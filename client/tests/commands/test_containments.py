"""aitp-cp agents contain and release, aitp-cp containments."""

import json
import signal
from typing import Any

import httpx
import pytest
import typer
from typer.testing import CliRunner

from aitp_cp_client.commands import containments
from aitp_cp_client.commands.main import app
from client.tests.commands.support import TIMEOUT_SECS, at, read, started
from tests.cli.support import Done, said
from tests.containment.support import claimed
from tests.support.agents import new_agent
from tests.support.app import API_KEY, AUTH
from tests.support.process import Process

REASON = ("--reason", "key leaked")


def reported(server: Process, *events: dict[str, Any]) -> None:
    response = httpx.post(f"{server.url}/api/events", json=events, headers=AUTH)
    assert response.json()["inserted"] == len(events), response.text


def typing(server: Process, typed: str, *arguments: str) -> Done:
    """Run a command with this on its standard input."""
    env = {"AITP_CP_URL": server.url, "AITP_CP_API_KEY": API_KEY}
    result = CliRunner().invoke(app, arguments, env=env, input=typed)
    return Done(result.exit_code, result.stdout, result.stderr)


def containments_of(server: Process, aid: str) -> list[Any]:
    found: list[Any] = read(at(server, "containments", "list", "--aid", aid, "--json"))["containments"]
    return found


def test_an_agent_from_its_plan_to_its_release(server: Process) -> None:
    bad, peer = new_agent(), new_agent()
    reported(server, claimed(bad.aid, peer.aid), claimed(peer.aid, bad.aid))
    dry = at(server, "agents", "contain", bad.aid, *REASON, "--dry-run")
    assert "tokens issued 1 tokens held 1 not listable 0 by verdict 2 none" in said(dry)
    assert peer.aid in dry.stdout
    for typed in ("nope\n", ""):
        refused = typing(server, typed, "agents", "contain", bad.aid, *REASON)
        assert refused.returncode == 1
        assert peer.aid in refused.stdout
    assert containments_of(server, bad.aid) == []

    done = typing(server, f"{bad.aid[-4:]}\n", "agents", "contain", bad.aid, *REASON, "--ticket", "INC-7")
    assert done.returncode == 0, done.stderr
    assert "type its last 4 characters:" in done.stderr
    (record,) = containments_of(server, bad.aid)
    assert (record["ticket"], record["releasedAt"]) == ("INC-7", None)
    assert record["id"] in done.stdout
    again = at(server, "agents", "contain", bad.aid, "--reason", "again")
    assert (again.returncode, again.stderr) == (0, "the agent is contained already\n")
    assert record["id"] in again.stdout
    assert "ticket INC-7 reason key leaked" in said(at(server, "containments", "show", record["id"]))
    assert record["id"] in at(server, "containments", "list", "--open").stdout

    shown = said(at(server, "containments", "reach", record["id"]))
    assert "exposed peers 1 confirmed 0 unknown 1" in shown
    assert f"{peer.aid} — unknown —" in shown
    assert read(at(server, "containments", "reach", record["id"], "--json"))["exposedPeers"]["unknown"] == 1

    released = at(server, "agents", "release", bad.aid, "--reason", "a new key")
    assert "release reason a new key" in said(released)
    refused = at(server, "agents", "release", bad.aid, "--reason", "a new key")
    assert (refused.returncode, "NOT_CONTAINED" in refused.stderr) == (1, True)


def test_a_plan_that_changes_is_shown_and_asked_again(server: Process, monkeypatch: pytest.MonkeyPatch) -> None:
    bad, questions = new_agent(), list[str]()

    def response(question: str, *, err: bool) -> str:
        questions.append(question)
        if len(questions) == 1:  # somebody reports while the operator reads
            reported(server, claimed(bad.aid, new_agent().aid))
        return bad.aid[-4:]

    monkeypatch.setattr(typer, "prompt", response)
    done = at(server, "agents", "contain", bad.aid, *REASON)
    assert done.returncode == 0, done.stderr
    assert len(questions) == 2
    assert "have changed since this plan" in done.stderr
    assert "tokens issued 0" in said(done)
    assert "tokens issued 1" in said(done)
    assert len(containments_of(server, bad.aid)) == 1


def test_yes_contains_although_the_plan_changes(server: Process, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is there to look at a new plan, and an agent must not escape because it goes on reporting."""
    bad, plans = new_agent(), list[Any]()
    plan = containments._plan

    def planned(options: Any) -> Any:
        plans.append(plan(options))
        if len(plans) == 1:  # somebody reports before the script acts
            reported(server, claimed(bad.aid, new_agent().aid))
        return plans[-1]

    monkeypatch.setattr(containments, "_plan", planned)
    done = at(server, "agents", "contain", bad.aid, *REASON, "--yes")
    assert done.returncode == 0, done.stderr
    assert "have changed since this plan" in done.stderr
    assert [shown.tokens.issued for shown in plans] == [0, 1]
    assert len(containments_of(server, bad.aid)) == 1


def test_a_script_contains_without_a_question(server: Process) -> None:
    bad = new_agent()
    refused = at(server, "agents", "contain", bad.aid, *REASON, "--json")
    assert (refused.returncode, refused.stdout) == (2, "")
    dry = read(at(server, "agents", "contain", bad.aid, *REASON, "--json", "--dry-run"))
    assert dry["containment"] is None
    done = read(at(server, "agents", "contain", bad.aid, *REASON, "--json", "--yes"))
    assert {**done, "containment": None} == dry
    shown = at(server, "agents", "contain", bad.aid, *REASON, "--watch")  # no peers: complete at once
    assert shown.returncode == 0
    assert "exposed peers 0 confirmed 0 unknown 0" in said(shown)
    assert at(server, "agents", "contain", "nobody", *REASON, "--yes").returncode == 1
    assert at(server, "agents", "contain", bad.aid, *REASON, AITP_CP_API_KEY="wrong").returncode == 4
    assert at(server, "containments", "show", "6fa459ea-ee8a-4ca4-894e-db77e160355e").returncode == 3
    assert at(server, "agents", "contain", bad.aid).returncode == 2


def test_watching_ends_with_an_interrupt_and_shows_who_is_unknown(server: Process) -> None:
    bad, peer = new_agent(), new_agent()
    reported(server, claimed(bad.aid, peer.aid))
    id = read(at(server, "agents", "contain", bad.aid, *REASON, "--json", "--yes"))["containment"]["id"]
    with started(server.url, "containments", "reach", id, "--watch", "--json") as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "0 of 1 exposed peers confirmed\n"
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=TIMEOUT_SECS)
    assert process.returncode == 0
    assert json.loads(output)["exposedPeers"] == {"total": 1, "confirmed": 0, "unknown": 1}
