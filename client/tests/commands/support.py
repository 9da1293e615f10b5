"""Helpers: run commands against a server, and create records there."""

import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import httpx

from tests.cli.support import Done, environment, run
from tests.support.agents import Agent, new_agent, sdk_manifest
from tests.support.app import API_KEY, AUTH
from tests.support.process import Process

TIMEOUT_SECS = 20


def at(server: Process, *arguments: str, **variables: str) -> Done:
    """Run the command in this process, with a valid key by default."""
    return run(*arguments, **{"AITP_CP_URL": server.url, "AITP_CP_API_KEY": API_KEY, **variables})


def read(done: Done) -> Any:
    """Return the JSON document on standard output."""
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def lines(done: Done) -> list[Any]:
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@contextmanager
def started(url: str, *arguments: str, stdout: int = subprocess.PIPE) -> Iterator["subprocess.Popen[str]"]:
    """Yield the command in its own process, to read its output while it runs."""
    process = subprocess.Popen(
        [sys.executable, "-m", "aitp_cp_client", *arguments],
        env=environment(AITP_CP_URL=url, AITP_CP_API_KEY=API_KEY),
        stdin=subprocess.PIPE,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def on_screen(url: str, *arguments: str) -> str:
    """Run a command that succeeds; return its output on a terminal of 80 columns."""
    screen, inner = pty.openpty()
    with started(url, *arguments, stdout=inner) as process:
        assert process.wait(TIMEOUT_SECS) == 0
    os.close(inner)
    shown = os.read(screen, 65536).decode()
    os.close(screen)
    return shown


def enrolled(server: Process, name: str = "Test agent", **headers: str) -> Agent:
    agent = new_agent()
    body = sdk_manifest(agent, name=name)
    token = httpx.post(f"{server.url}/api/registry/enroll", content=body).json()["token"]
    request_headers = {"Authorization": f"Bearer {token}", **headers}
    response = httpx.post(f"{server.url}/api/registry/agents", content=body, headers=request_headers)
    assert response.status_code == 201, response.text
    return agent


def report(server: Process, run_id: str, count: int = 1, **members: Any) -> None:
    batch = [{"id": str(uuid4()), "type": "cli.test", "run_id": run_id, **members} for _ in range(count)]
    response = httpx.post(f"{server.url}/api/events", json=batch, headers=AUTH)
    assert response.json()["inserted"] == count, response.text
