"""Standard output that takes nothing: lines are dropped and counted, everything else goes on."""

import fcntl
import json
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import httpx
import pytest
import structlog

from aitp_cp.telemetry import logging
from aitp_cp.telemetry.log_writer import LogWriter, to_descriptor
from tests.support.process import Process
from tests.support.waiting import eventually

PAGE = 4096
DROPPED = "aitp_control_plane_log_lines_dropped_total"


@contextmanager
def serving(dsn: str, log: Path, stdout: int | IO[bytes], *arguments: str) -> Iterator[Process]:
    process = Process(dsn, log, *arguments, CP_ENV="production")
    process.start(wait=False, stdout=stdout)
    try:
        process.wait_ready()
        yield process
    finally:
        process.kill()


def answered(server: Process, times: int) -> None:
    with httpx.Client(timeout=5) as http:
        for _ in range(times):
            assert http.get(f"{server.url}/api/livez").status_code == 200


def dropped(server: Process) -> float:
    lines = httpx.get(f"{server.url}/api/metrics", timeout=10).text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith(DROPPED + " "))


@pytest.mark.parametrize("arguments", [(), ("--workers", "2")])
def test_a_reader_that_stalls_holds_up_nothing(database_url: str, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """Row 9: with nobody reading the pipe, requests are answered and SIGTERM ends the process."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, PAGE)
    with serving(database_url, tmp_path / "log", writer, *arguments) as server:
        os.close(writer)
        answered(server, 300)
        assert server.terminate() == 0
    os.close(reader)


def test_a_full_disk_fails_no_request_and_is_counted(database_url: str, tmp_path: Path) -> None:
    """Row 9: lines that cannot be written are counted, one by one."""
    with open("/dev/full", "wb") as full, serving(database_url, tmp_path / "log", full) as server:
        answered(server, 20)
        eventually(lambda: dropped(server) >= 20)
        assert server.terminate() == 0


def test_a_reader_that_goes_away_fails_no_request(database_url: str, tmp_path: Path) -> None:
    """Row 9: a broken pipe is like a full disk."""
    with serving(database_url, tmp_path / "log", subprocess.PIPE) as server:
        assert server.running.stdout is not None
        server.running.stdout.close()
        answered(server, 20)
        eventually(lambda: dropped(server) >= 20)
        assert server.terminate() == 0


def test_lost_lines_are_counted_and_told_when_it_goes_on() -> None:
    """Row 9: what waits is bounded in bytes; once the reader reads, whole lines and one about the lost ones arrive."""
    reader, writer = os.pipe()
    lost: list[int] = []
    resumed = threading.Event()

    def told(lines: int) -> None:
        log.line(b"lost %d" % lines)
        resumed.set()

    log = LogWriter(to_descriptor(writer), on_drop=lost.append, on_resume=told, max_waiting_bytes=8 * PAGE)
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, PAGE)
    began = time.monotonic()
    for number in range(1000):
        log.line(b"%099d" % number)
    assert time.monotonic() - began < 1
    assert sum(lost) == 1000 - 8 * PAGE // 100
    log.flush(0.05)  # it waits no longer than it is allowed to

    text = bytearray()
    while not resumed.is_set() or b"lost" not in text:
        text += os.read(reader, PAGE)
    *kept, last = text.decode().splitlines()
    assert kept == [f"{number:099}" for number in range(1000 - sum(lost))]
    assert last == f"lost {sum(lost)}"


def test_a_line_that_was_torn_by_a_full_disk_spoils_no_other(tmp_path: Path) -> None:
    """Row 9: half a line was written when the disk was full; the next one begins on a line of its own."""
    written = bytearray()
    room = 30

    def write(data: Any) -> int:
        taken = bytes(data[: room - len(written)])
        if not taken:
            raise OSError(28, "No space left on device")
        written.extend(taken)
        return len(taken)

    lost: list[int] = []
    log = LogWriter(write, on_drop=lost.append)
    log.line(b"x" * 19)
    log.flush(5)
    log.line(b"y" * 19)
    log.flush(5)
    assert lost == [1]
    room = 100
    log.line(b"z" * 19)
    log.flush(5)
    assert written.splitlines() == [b"x" * 19, b"y" * 10, b"z" * 19]


def test_a_pipe_that_somebody_made_non_blocking_gets_every_line() -> None:
    """Row 9: the parent's choice for the pipe it shares with us loses nothing."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    log = LogWriter(to_descriptor(writer), on_drop=lambda lines: pytest.fail("lost"))
    for number in range(5000):
        log.line(b"%099d" % number)
    text = b""
    while text.count(b"\n") < 5000:
        text += os.read(reader, 1 << 20)
    assert text.splitlines() == [b"%099d" % number for number in range(5000)]


@pytest.mark.usefixtures("own_logging")
def test_the_line_about_lost_lines_has_a_stable_name() -> None:
    """Row 9: `log_lines_dropped`, with their number."""
    written = bytearray()
    broken = True

    def write(data: Any) -> int:
        if broken:
            raise OSError(28, "No space left on device")
        written.extend(data)
        return len(data)

    logging.configure("info", json=True, write=write)
    log = structlog.get_logger("ours")
    log.info("lost")
    logging.flush()
    broken = False
    log.info("kept")
    eventually(lambda: written.count(b"\n") == 2)
    kept, told = map(json.loads, written.splitlines())
    assert kept["event"] == "kept"
    assert (told["event"], told["level"], told["lines"]) == ("log_lines_dropped", "warning", 1)
