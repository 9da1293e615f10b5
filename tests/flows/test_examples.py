"""The second and the third story of the README, with the programs it names."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.app import API_KEY, AUTH
from tests.support.postgres import migrated_database
from tests.support.process import Process
from tests.support.rendered import ROOT


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Process]:
    with migrated_database() as dsn, Process(dsn, tmp_path / "log") as process:
        yield process


def run(name: str, server: Process, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "examples" / name), server.url],
        cwd=folder,
        env={"API_KEY": API_KEY},
        capture_output=True,
        text=True,
        timeout=30,
    )


def test_a_handshake_is_seen_and_its_token_is_refused_once_revoked(server: Process, tmp_path: Path) -> None:
    done = run("handshake.py", server, tmp_path)
    shown = dict(line.split("=") for line in done.stdout.splitlines())
    assert run("peer.py", server, tmp_path).stdout == f"good: {shown['jti']}\n"
    with httpx.Client(base_url=server.url, headers=AUTH) as http:
        [session] = http.get("/api/sessions?runId=example").json()["sessions"]
        assert (session["sessionId"], session["status"]) == (shown["session"], "complete")
        assert len(http.get("/api/tcts?active=true").json()["tcts"]) == 2
        http.post("/api/revocation/entries", content=json.dumps({"jti": shown["jti"]})).raise_for_status()
    refused = run("peer.py", server, tmp_path)
    assert (refused.returncode, refused.stderr) == (1, "refused: TCT_REVOKED\n")
