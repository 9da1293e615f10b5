"""Runs the commands of the client's README as printed."""

import json
import sys
from pathlib import Path

from aitp_cp_client.commands.exits import LEGEND
from tests.support.process import Process
from tests.support.readme import Readme

README = Readme("client")


def test_the_commands(server: Process, tmp_path: Path) -> None:
    output = README.paste("The command", server.url, tmp_path)
    assert json.loads(output[output.index("{") : output.rindex("}") + 1]).keys() == {"agents"}
    assert (tmp_path / "events.jsonl").exists()
    assert "verified: " in output


def test_the_library(server: Process, tmp_path: Path) -> None:
    (script,) = README.blocks("The library", "python")
    output = README.run([sys.executable, "-c", script], server.url, tmp_path)
    assert output.splitlines() == ["1 stored", "tool.called nightly", "404 NOT_FOUND"]


def test_the_agent(server: Process, tmp_path: Path) -> None:
    (script,) = README.blocks("An agent that reports for itself", "python")
    assert README.run([sys.executable, "-c", script], server.url, tmp_path) == "True 1\n"


def test_every_exit_code_is_in_the_table() -> None:
    codes = [row.split("|")[1].strip() for row in README.section("The command").splitlines() if row.startswith("| ")]
    assert codes[1:] == [word for word in LEGEND.split() if word.isdigit()]
