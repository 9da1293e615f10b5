"""The processes under measurement: the real command, and a bare application that shows what the server allows."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.load import HOST
from tests.support.app import ENVIRONMENT
from tests.support.process import Process, free_port

TICKS = os.sysconf("SC_CLK_TCK")

BARE = """
import sys, uvicorn
body = sys.stdin.buffer.read()
head = {"type": "http.response.start", "status": 200, "headers": [
    (b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]}
async def app(scope, receive, send):
    await send(head)
    await send({"type": "http.response.body", "body": body})
uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), http="httptools", loop="uvloop", lifespan="off",
            access_log=False, log_level="error")
"""


@dataclass(frozen=True)
class Running:
    """A server that listens on `port` of this machine."""

    port: int
    pid: int

    def cpu_secs(self) -> float:
        """What the process has used so far, in user and kernel mode."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def resident_kib(self) -> int:
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))


@contextmanager
def serving(dsn: str, log: Path, **environment: str) -> Iterator[Running]:
    """The command as in production, without rate limits; its log goes to a file, one line per request."""
    process = Process(dsn, log, **{**production(), **environment})
    with process:
        yield Running(process.port, process.running.pid)


def production() -> dict[str, str]:
    return {**ENVIRONMENT, "CP_ENV": "production", "CORS_ORIGIN": "*", "DB_POOL_MAX": "20"}


def start(dsn: str, log: Path) -> tuple[Process, float]:
    """The command, started and ready, and the seconds until then."""
    process = Process(dsn, log, **production())
    began = time.perf_counter()
    process.start(wait=False)
    while not _is_ready(process.port):
        time.sleep(0.005)
    return process, time.perf_counter() - began


def _is_ready(port: int) -> bool:
    try:
        with socket.create_connection((HOST, port), timeout=2) as sock:
            sock.sendall(b"GET /api/readyz HTTP/1.1\r\nhost: bench\r\n\r\n")
            return sock.recv(64).startswith(b"HTTP/1.1 200")
    except OSError:
        return False


@contextmanager
def bare(body: bytes, log: Path) -> Iterator[Running]:
    """A bare ASGI application under the same kind of server that answers every request with the same bytes."""
    port = free_port()
    with log.open("ab") as file:
        process = subprocess.Popen(
            [sys.executable, "-c", BARE, str(port)], stdin=subprocess.PIPE, stdout=file, stderr=file
        )
    assert process.stdin is not None
    process.stdin.write(body)
    process.stdin.close()
    try:
        _await(port)
        yield Running(port, process.pid)
    finally:
        process.kill()
        process.wait()


def _await(port: int) -> None:
    for _ in range(400):
        try:
            socket.create_connection((HOST, port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.02)
    raise RuntimeError("the bare application does not answer")
