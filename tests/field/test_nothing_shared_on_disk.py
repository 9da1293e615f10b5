"""Processes that share a port share no file: a full disk or a missing folder kills none of them."""

import os
import resource
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from prometheus_client import generate_latest, values

from aitp_cp.telemetry import shared
from aitp_cp.telemetry.metrics import Metrics
from tests.flows.test_workers import LIVEZ, metric
from tests.support.process import Process
from tests.support.processes import children
from tests.support.waiting import eventually


def no_file_may_grow() -> None:
    """What a full disk does to whoever writes to it, on every file at once."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


def files_of(pid: int) -> Iterator[str]:
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            yield os.readlink(link)


@pytest.fixture
def places(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Room for few series, and this process as it was afterwards."""
    monkeypatch.setattr(shared, "LASTING_BYTES", 16 * 1024)
    monkeypatch.setattr(shared, "LIVE_BYTES", 16 * 1024)
    before = values.ValueClass
    yield
    shared._state.segments = None
    values.ValueClass = before


def test_workers_on_a_full_disk_without_a_temporary_folder(database_url: str, tmp_path: Path) -> None:
    """Nothing that several workers share on disk can kill them: they serve and count where no file can be written."""
    missing = str(tmp_path / "missing")
    server = Process(database_url, tmp_path / "log", "--workers", "2", TMPDIR=missing, PROMETHEUS_MULTIPROC_DIR=missing)
    server.start(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, preexec_fn=no_file_may_grow)
    try:
        first = children(server.running.pid)
        for _ in range(30):
            assert httpx.get(f"{server.url}/api/livez").status_code == 200
        assert metric(server, LIVEZ) == 30
        assert not [file for pid in first for file in files_of(pid) if file.startswith("/tmp/aitp")]
        os.kill(min(first), signal.SIGKILL)
        eventually(lambda: len(children(server.running.pid)) == 2)
        assert metric(server, LIVEZ) == 30
        assert server.terminate() == 0
    finally:
        server.kill()


def test_a_process_that_is_alone_minds_no_folder_of_the_library(database_url: str, tmp_path: Path) -> None:
    """The variable of the metrics library names a folder that is not there."""
    with Process(database_url, tmp_path / "log", PROMETHEUS_MULTIPROC_DIR=str(tmp_path / "missing")) as server:
        httpx.get(f"{server.url}/api/livez")
        assert metric(server, LIVEZ) == 1


@pytest.mark.usefixtures("places")
def test_memory_that_is_full_fails_no_request() -> None:
    """Series that find no room are missing in scrapes, and nothing else happens."""
    shared.prepare(1)
    shared.take(0)
    metrics = Metrics()
    for number in range(500):
        metrics.observe_request(f"/api/{number}", "GET", 2, 0.01)
    metrics.log_lines_dropped.inc(3)
    text = generate_latest(metrics.scraped()).decode()
    assert 'route="/api/0"' in text
    assert 'route="/api/499"' not in text


@pytest.mark.usefixtures("places")
def test_a_successor_goes_on_from_what_was_counted() -> None:
    """Counters outlive the process that counted; gauges of its life end with it."""
    shared.prepare(2)
    for number, retained in ((0, 5), (1, 7)):
        shared.take(number)
        metrics = Metrics()
        metrics.events_dropped.inc(retained)
        metrics.sse_open.set(retained)
    shared.forget(0)
    shared.take(0)
    successor = Metrics()
    successor.events_dropped.inc()
    lines = generate_latest(successor.scraped()).decode().splitlines()
    assert "aitp_control_plane_events_dropped_total 13.0" in lines
    assert "aitp_control_plane_sse_streams_open 7.0" in lines
