"""The examples and tables of docs/client.md."""

import re
import subprocess
import sys
from pathlib import Path

from aitp_cp_client import ControlPlane, ThreadReporter
from tests.cli.support import environment
from tests.support.app import API_KEY
from tests.support.process import Process

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "client.md").read_text()


THE_CLIENT, THE_REPORTER = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def run(script: str, server: Process, folder: Path) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=environment(AITP_CP_URL=server.url, AITP_CP_API_KEY=API_KEY),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def test_the_example_runs(server: Process, tmp_path: Path) -> None:
    *lines, stored, event, listed, failed = run(THE_CLIENT, server, tmp_path)
    assert "researcher" in lines[-1]
    assert stored == "1 stored"
    assert event.endswith(" capability.failed")
    assert listed == "True"
    assert failed.startswith("404 NOT_FOUND ")


def test_the_reporters_example_runs(server: Process, tmp_path: Path) -> None:
    assert run(THE_REPORTER, server, tmp_path) == ["safe: True sent: True", "2 sent, 0 dropped"]


def test_every_call_of_a_reporter_is_in_the_table() -> None:
    rows = re.findall(r"^\| (`.*`) \| .* \|$", PAGE.partition("## Reporting")[2].partition("### ")[0], re.MULTILINE)
    assert {name for row in rows for name in re.findall(r"`(\w+)", row)} >= {
        name for kind in ThreadReporter.__mro__[:-1] for name in vars(kind) if not name.startswith("_")
    }


def test_every_call_is_in_the_table() -> None:
    rows = dict(re.findall(r"^\| (`\w+`|the client itself) \| (`.*`) \|$", PAGE, re.MULTILINE))
    client = ControlPlane("http://127.0.0.1:4000")
    rooms = {name: room for name, room in vars(client).items() if not name.startswith("_")}
    for name, room in rooms.items():
        assert set(re.findall(r"`(\w+)`", rows[f"`{name}`"])) == calls(type(room)), name
    assert set(re.findall(r"`(\w+)`", rows["the client itself"])) == calls(ControlPlane)


def calls(kind: type) -> set[str]:
    return {name for name in vars(kind) if not name.startswith("_")}
