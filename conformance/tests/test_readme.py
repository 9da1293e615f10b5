"""Runs the commands of the kit's README as printed."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.postgres import migrated_database
from tests.support.process import Process
from tests.support.readme import Readme


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Process]:
    with migrated_database() as dsn, Process(dsn, tmp_path / "log") as process:
        yield process


def test_the_run(server: Process, tmp_path: Path) -> None:
    output = Readme("conformance").paste("Run", server.url, tmp_path)
    assert "6. Health" in output
    report = json.loads((tmp_path / "conformance.json").read_text())
    assert {result["section"] for result in report["results"]} == {"6"}
