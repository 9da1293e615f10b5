"""The processes under measurement: the real command, and a bare application that shows what the server allows."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.support.app import ENVIRONMENT
from tests.support.process import Process, free_port

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


@contextmanager
def serving(dsn: str, log: Path) -> Iterator[Process]:
    """The command as in production, without rate limits."""
    environment = {**ENVIRONMENT, "CP_ENV": "production", "CORS_ORIGIN": "*", "DB_POOL_MAX": "20"}
    with Process(dsn, log, **environment) as server:
        yield server


@dataclass
class Bare:
    """A bare ASGI application that answers every request with the same bytes."""

    log: Path

    @contextmanager
    def serving(self, body: bytes) -> Iterator[int]:
        port = free_port()
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-c", BARE, str(port)], stdin=subprocess.PIPE, stdout=log, stderr=log, env=os.environ
            )
        assert process.stdin is not None
        process.stdin.write(body)
        process.stdin.close()
        try:
            _await(port)
            yield port
        finally:
            process.kill()
            process.wait()


def _await(port: int) -> None:
    for _ in range(200):
        try:
            httpx.get(f"http://127.0.0.1:{port}/", timeout=1)
            return
        except httpx.TransportError:
            time.sleep(0.05)
    raise RuntimeError("the bare application does not answer")
