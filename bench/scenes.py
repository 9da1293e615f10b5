"""What is measured, and under which load."""

import itertools
import json
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import httpx

from bench.load import Outcome, drive, request
from bench.servers import Bare
from tests.support.agents import new_agent, sdk_manifest
from tests.support.app import API_KEY
from tests.support.process import Process

AGENTS = 1000
SECONDS = 4.0
KEY = {"authorization": f"Bearer {API_KEY}"}
HOST = "127.0.0.1"


@dataclass(frozen=True)
class Scene:
    """One row of the table; `per_request` is how many things one request carries."""

    path: str
    requests: Callable[[], Iterator[bytes]]
    connections: int
    per_request: int = 1
    has_limit: bool = True

    async def run(self, server: Process) -> tuple[Outcome, bytes]:
        sample = await _body_of(server, next(self.requests())) if self.has_limit else b""
        outcome = await drive(HOST, server.port, self.requests(), connections=self.connections, seconds=SECONDS)
        return outcome, sample

    async def limit(self, bare: Bare, sample: bytes) -> Outcome:
        with bare.serving(sample) as port:
            return await drive(HOST, port, self.requests(), connections=self.connections, seconds=SECONDS)

    def row(self, outcome: Outcome, limit: Outcome | None) -> dict[str, object]:
        return {
            "path": self.path,
            "rate": round(outcome.rate * self.per_request),
            "p50": round(outcome.percentile(0.50), 2),
            "p99": round(outcome.percentile(0.99), 2),
            "refused": outcome.refused,
            "limit": round(limit.rate) if limit else "",
            "share": f"{outcome.rate / limit.rate:.0%}" if limit else "",
        }


async def prepare(server: Process) -> None:
    """Enrol the agents, five of which offer the capability that is asked for, and report some history."""
    async with httpx.AsyncClient(base_url=server.url, timeout=30) as http:
        for number in range(AGENTS):
            rare = ["bench.rare"] if number % (AGENTS // 5) == 0 else ["bench.common"]
            body = sdk_manifest(new_agent(), name=f"agent {number}", caps=rare)
            token = (await http.post("/api/registry/enroll", content=body)).json()["token"]
            done = await http.post("/api/registry/agents", content=body, headers={"Authorization": f"Bearer {token}"})
            done.raise_for_status()
        for jti in range(AGENTS):
            entry = {"jti": str(uuid.UUID(int=jti, version=4))}
            (await http.post("/api/revocation/entries", json=entry, headers=KEY)).raise_for_status()


async def _body_of(server: Process, raw: bytes) -> bytes:
    target = raw.split(b" ", 2)[1].decode()
    async with httpx.AsyncClient(base_url=server.url, timeout=30) as http:
        return (await http.get(target, headers=KEY)).content


def get(path: str, *, keyed: bool = False) -> Callable[[], Iterator[bytes]]:
    return lambda: itertools.repeat(request("GET", path, **(KEY if keyed else {})))


def batches(size: int) -> Callable[[], Iterator[bytes]]:
    """Batches of handshakes and invocations as agents report them, never the same twice."""

    def made() -> Iterator[bytes]:
        while True:
            events = [_event(number) for number in range(size)]
            yield request("POST", "/api/events", json.dumps(events).encode(), **KEY)

    return made


def _event(number: int) -> dict[str, object]:
    kind = ("capability.invoked", "handshake.started", "handshake.complete")[number % 3]
    return {
        "type": kind,
        "ts": time.time(),
        "aid_a": f"agent-{number % 20}",
        "aid_b": f"agent-{number % 20 + 20}",
        "session_id": str(uuid.uuid4()),
        "run_id": "bench",
        "payload": {"capability": "demo.echo", "n": number},
    }


SCENES = (
    Scene("POST /api/events, 50 per batch (events/s)", batches(50), 8, per_request=50, has_limit=False),
    Scene("POST /api/events, one by one", batches(1), 32, has_limit=False),
    Scene("GET /api/registry/agents?capability=", get("/api/registry/agents?capability=bench.rare"), 32),
    Scene("GET /.well-known/aitp-manifest", get("/.well-known/aitp-manifest"), 32),
    Scene("GET /.well-known/aitp-revocation-list", get("/.well-known/aitp-revocation-list"), 32),
    Scene("GET /api/events/history, 100 rows", get("/api/events/history", keyed=True), 8),
    Scene("GET /api/sessions, 100 rows", get("/api/sessions?limit=100", keyed=True), 8),
    Scene("GET /api/health", get("/api/health"), 32),
    Scene("GET /api/metrics", get("/api/metrics"), 8),
    Scene("GET /api/dashboard/overview", get("/api/dashboard/overview", keyed=True), 8),
)
