"""aitp-cp events tail, and exports."""

import json
import os
import signal
import socket
import stat
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from client.tests.commands.support import at, enrolled, lines, on_screen, report, started
from tests.support.app import AUTH
from tests.support.process import Process
from tests.support.waiting import eventually

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"


def history(server: Process, run_id: str) -> list[dict[str, object]]:
    params = {"order": "asc", "runId": run_id, "limit": "1000"}
    page = httpx.get(f"{server.url}/api/events/history", params=params, headers=AUTH).json()
    events: list[dict[str, object]] = page["events"]
    return events


def test_tail_continues_after_a_restart_and_ends_cleanly(database_url: str, tmp_path: Path) -> None:
    with Process(database_url, tmp_path / "log") as server:
        report(server, "r", 3)
        with started(server.url, "events", "tail", "--run", "r", "--json") as tail:
            assert tail.stdout
            seen = [json.loads(tail.stdout.readline()) for _ in range(3)]
            assert server.terminate() == 0
            server.start()
            report(server, "r", 3)
            seen += [json.loads(tail.stdout.readline()) for _ in range(3)]
            assert seen == history(server, "r")
            tail.send_signal(signal.SIGINT)
            rest, errors = tail.communicate(timeout=20)
    assert (tail.returncode, rest) == (0, "")
    assert "reconnecting in" in errors
    assert "Traceback" not in errors


def test_tail_for_people(server: Process) -> None:
    run = uuid4().hex
    report(server, run, session_id="s1", aid_a="aid:alice", aid_b="aid:bob", grants=["demo.echo"], type="\x1b[2Jx")
    (event,) = history(server, run)
    with started(server.url, "events", "tail", "--run", run) as tail:
        assert tail.stdout
        line = tail.stdout.readline()
        tail.send_signal(signal.SIGTERM)
        assert tail.wait(20) == 143
    assert line.split() == [
        *(str(event["seq"]), event["ts"], "\\x1b[2Jx", "aid:alice", "→", "aid:bob"),
        *("session=s1", f"run={run}", "grants=demo.echo"),
    ]


def test_tail_reports_missing_events(server: Process) -> None:
    with started(server.url, "events", "tail", "--after", "900000000", "--json") as tail:
        assert tail.stdout
        assert json.loads(tail.stdout.readline())["reset"]["reason"] == "cursor_unknown"


def test_the_log_is_exported_in_order(server: Process, tmp_path: Path) -> None:
    run = uuid4().hex
    report(server, run, 300)
    report(server, run, 300)
    whole_log = history(server, run)
    assert lines(at(server, "events", "export", "--run", run)) == whole_log
    position = str(whole_log[399]["seq"])
    assert lines(at(server, "events", "export", "--run", run, "--after", position)) == whole_log[400:]
    assert lines(at(server, "events", "export", "--run", run, "--until", "2001-01-01T00:00:00")) == []

    file = tmp_path / "events.jsonl"
    file.write_text("old")
    file.chmod(0o640)
    done = at(server, "events", "export", "--run", run, "--output", str(file))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert [json.loads(line) for line in file.read_text().splitlines()] == whole_log
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert os.listdir(tmp_path) == ["events.jsonl"]


def test_an_export_that_fails_leaves_the_old_file(server: Process, tmp_path: Path) -> None:
    file = tmp_path / "agent.json"
    file.write_text("old")
    assert at(server, "agents", "export", "unknown", "-o", str(file)).returncode == 3
    assert (file.read_text(), os.listdir(tmp_path)) == ("old", ["agent.json"])
    nowhere = at(server, "agents", "export", "unknown", "-o", str(tmp_path / "no" / "file"))
    assert (nowhere.returncode, "cannot be written" in nowhere.stderr) == (1, True)
    assert at(server, "events", "export", "-o", os.devnull).returncode == 0
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)


def test_an_agent_is_exported(server: Process, tmp_path: Path) -> None:
    agent = enrolled(server)
    file = tmp_path / "agent.json"
    assert at(server, "agents", "export", agent.aid, "-o", str(file)).returncode == 0
    assert json.loads(file.read_text())["agent"]["aid"] == agent.aid
    kinds = [record["kind"] for record in lines(at(server, "agents", "export", agent.aid, "--format", "jsonl"))]
    assert kinds == ["agent", "event"]


def test_an_export_cannot_control_the_terminal(server: Process) -> None:
    agent = enrolled(server, name="\x9b2J\u202eevil €")
    shown = on_screen(server.url, "agents", "export", agent.aid)
    assert "\\u009b2J\\u202eevil €" in shown
    assert json.loads(shown)["agent"]["displayName"] == "\x9b2J\u202eevil €"


@pytest.mark.parametrize(
    "arguments", [("events", "export"), ("agents", "list"), ("audit", "list", "--json"), ("conformance", "--list")]
)
def test_a_closed_pipe_is_no_error(server: Process, arguments: tuple[str, ...]) -> None:
    report(server, uuid4().hex, 300, payload={"filler": "x" * 300})
    with started(server.url, *arguments) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.close()
        assert process.wait(20) == 141
        assert process.stderr.read() == ""
        process.stdout = None


def test_an_export_that_is_interrupted_leaves_nothing(tmp_path: Path) -> None:
    file = tmp_path / "agent.json"
    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        with socket.create_server(("127.0.0.1", 0)) as slow:
            url = f"http://127.0.0.1:{slow.getsockname()[1]}"
            with started(url, "agents", "export", "aid", "-o", str(file)) as process:
                connection, _ = slow.accept()
                connection.sendall(HEAD + b"2\r\n{}\r\n")
                eventually(lambda: [record for record in tmp_path.iterdir() if record.name.endswith(".part")])
                process.send_signal(number)
                assert process.wait(20) == code
                assert process.stderr
                assert process.stderr.read() == ""
                connection.close()
        assert os.listdir(tmp_path) == []
