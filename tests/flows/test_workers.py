"""`serve --workers`: several processes behind one port, and `worker`, one without a port."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from tests.support.app import AUTH
from tests.support.process import Process
from tests.support.processes import alive, children
from tests.support.waiting import eventually

LIVEZ = 'http_request_duration_seconds_count{method="GET",route="/api/livez",status="2xx"}'


def metric(server: Process, name: str) -> float:
    lines = httpx.get(f"{server.url}/api/metrics", timeout=15).text.splitlines()
    (value,) = [line.rpartition(" ")[2] for line in lines if line.startswith(f"aitp_control_plane_{name} ")]
    return float(value)


def test_they_answer_as_one_and_the_dead_are_replaced(database_url: str, tmp_path: Path) -> None:
    with Process(database_url, tmp_path / "log", "--workers", "2", CP_AID_SEED_HEX="") as server:
        first = children(server.running.pid)
        assert len(first) == 2
        aids = {httpx.get(f"{server.url}/api/health").json()["aid"] for _ in range(20)}
        assert len(aids) == 1  # one identity, even if none was configured
        for _ in range(30):
            httpx.get(f"{server.url}/api/livez")
        assert metric(server, LIVEZ) == 30

        os.kill(min(first), signal.SIGKILL)
        for _ in range(30):  # connections that meet the dead one wait for its successor
            assert httpx.get(f"{server.url}/api/livez", timeout=15).status_code == 200
        eventually(lambda: len(children(server.running.pid)) == 2)
        assert metric(server, LIVEZ) == 60
        eventually(lambda: metric(server, "db_up") == 1)
        assert "pid=" not in httpx.get(f"{server.url}/api/metrics", timeout=15).text

        second = children(server.running.pid)
        assert server.terminate() == 0
        assert alive(second) == set()


def test_they_end_with_their_parent(database_url: str, tmp_path: Path) -> None:
    with Process(database_url, tmp_path / "log", "--workers", "2", TMPDIR=str(tmp_path)) as server:
        orphans = children(server.running.pid)
        server.kill()
        eventually(lambda: not alive(orphans))


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_port_that_is_taken_is_said(database_url: str, tmp_path: Path, workers: str) -> None:
    with Process(database_url, tmp_path / "log") as first:
        other = Process(database_url, tmp_path / "other", "--workers", workers, port=first.port)
        assert other.start(wait=False).running.wait(20) == 1
        assert "address already in use" in other.log().lower()


def test_jobs_can_run_elsewhere(database_url: str, tmp_path: Path) -> None:
    with Process(database_url, tmp_path / "log", "--no-jobs") as server:
        worker = Process(database_url, tmp_path / "worker")
        command = [sys.executable, "-m", "aitp_cp", "worker"]
        with (tmp_path / "worker").open("wb") as log:
            running = subprocess.Popen(command, env=worker.environment, stdout=log, stderr=log)
        try:
            eventually(lambda: "starting" in worker.log())
            with pytest.raises(httpx.ConnectError):
                httpx.get(f"{worker.url}/api/livez")
            posted = httpx.post(f"{server.url}/api/events", json=[{"type": "demo.event"}], headers=AUTH)
            assert posted.status_code == 200
            time.sleep(0.5)
        finally:
            running.send_signal(signal.SIGTERM)
        assert running.wait(15) == 0
        assert "stopped" in worker.log()
        assert "error" not in worker.log()
