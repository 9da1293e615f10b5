"""Hostile connections of every kind at once: what the process holds, and what other callers notice.

A slice belongs to the suite; `make acceptance` runs the whole, alone on its machine, with 1,000 connections.
"""

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.agents import manifest, new_agent
from tests.support.app import AUTH
from tests.support.enrolment import register
from tests.support.process import Process
from tests.support.rendered import ROOT

pytestmark = pytest.mark.anyio

CONNECTIONS = int(os.environ.get("HOSTILE_CONNECTIONS", "150"))
WHOLE = CONNECTIONS >= 1000
SECS = 40 if WHOLE else 5
MOST_MIB = 300
P99_SECS = 0.1
AGENTS = 20
EVENT = [{"type": "playground.note", "payload": {"n": 1}}]


# Without limits the strangers get as many large pages as the processor can make, with them what one address may have.
LIMITS: dict[str, dict[str, Any]] = {
    "no limits": {},
    "usual limits": {
        "RATE_LIMIT_ENABLED": "true",
        "RATE_LIMIT_ENROLLMENT_PER_IP_MIN": "0",
        "RATE_LIMIT_API_KEY_PER_MIN": "0",
    },
}


@pytest.mark.parametrize("limits", LIMITS if WHOLE else ["no limits"])
async def test_hostile_connections_hold_little_and_hold_up_nobody(
    database_url: str, tmp_path: Path, limits: str
) -> None:
    """Row A5: 1,000 unread, slow, pipelined, trailing and half-finished connections stay under 300 MiB."""
    with Process(database_url, tmp_path / "log", LOG_LEVEL="warn", **LIMITS[limits]) as server:
        await fill(server)
        command = [sys.executable, "-m", "tests.support.hostile", str(server.port), str(CONNECTIONS)]
        with subprocess.Popen(command, cwd=ROOT) as siege:
            try:
                most, latencies = await watched(server)
            finally:
                siege.kill()
        log = server.log()
    latencies.sort()
    p99 = latencies[len(latencies) * 99 // 100]
    print(f"{CONNECTIONS} connections, {limits}: {most:.0f} MiB at most, p99 {p99 * 1000:.0f} ms of {len(latencies)}")
    assert most < MOST_MIB
    assert "Traceback" not in log
    if limits == "usual limits":
        assert p99 < P99_SECS


async def fill(server: Process) -> None:
    """Agents whose manifests make a page of the largest size."""
    async with httpx.AsyncClient(base_url=server.url) as http:
        for _ in range(AGENTS):
            large = manifest(new_agent(), extensions={"filler": "x" * 60_000})
            assert (await register(http, large)).status_code == 201


async def watched(server: Process) -> tuple[float, list[float]]:
    """The most memory that was held, in MiB, and how long another caller waited for each answer, in seconds."""
    most, latencies = 0.0, []
    until = time.monotonic() + SECS
    async with httpx.AsyncClient(base_url=server.url, headers=AUTH, timeout=20) as http:
        while time.monotonic() < until:
            for ask in (http.get("/api/events/history?limit=10"), http.post("/api/events", json=EVENT)):
                began = time.monotonic()
                assert (await ask).status_code == 200
                latencies.append(time.monotonic() - began)
            most = max(most, server.rss_mib())
            await asyncio.sleep(0.02)
    return most, latencies
