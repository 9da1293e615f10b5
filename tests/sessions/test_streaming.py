"""A long export through the real server: whole, and in little memory."""

import subprocess
from pathlib import Path

import httpx
import pytest

from tests.events.support import connected
from tests.support.app import AUTH
from tests.support.process import Process

pytestmark = pytest.mark.anyio

EVENTS = 700
PAYLOAD = 60_000

FILL = """
INSERT INTO audit_events (id, type, ts, session_id, payload, source, seq)
SELECT gen_random_uuid(), 'demo.event', now() - n % 7 * interval '1 second', 's-1',
       jsonb_build_object('text', repeat('p', $2)), 'tests', nextval('audit_events_seq')
FROM generate_series(1, $1) AS n
"""


def resident(pid: int) -> int:
    """The memory a process has at the moment, in bytes."""
    status = Path(f"/proc/{pid}/status")
    if status.exists():
        return (
            int(next(line for line in status.read_text().splitlines() if line.startswith("VmRSS:")).split()[1]) * 1024
        )
    return int(subprocess.check_output(["/bin/ps", "-o", "rss=", "-p", str(pid)])) * 1024


@pytest.mark.parametrize("path", ["/api/sessions/s-1/export?format=jsonl", "/api/sessions/s-1"])
async def test_a_long_answer_is_whole_and_takes_little_memory(database_url: str, tmp_path: Path, path: str) -> None:
    async with connected(database_url) as conn:
        await conn.execute("INSERT INTO handshake_sessions (session_id) VALUES ('s-1')")
        await conn.execute(FILL, EVENTS, PAYLOAD)
    with Process(database_url, tmp_path / "log") as process:
        pid = process.running.pid
        before = resident(pid)
        size = seqs = most = 0
        with httpx.stream("GET", f"{process.url}{path}", headers=AUTH, timeout=60) as response:
            for number, chunk in enumerate(response.iter_bytes()):
                size += len(chunk)
                seqs += chunk.count(b'"seq":')
                most = max(most, resident(pid)) if number % 20 == 0 else most
        assert size > EVENTS * PAYLOAD
        assert seqs == pytest.approx(EVENTS, abs=5)  # a name may be cut in two by the edge of a chunk
        assert most - before < size / 3
        with httpx.stream("GET", f"{process.url}{path}", headers=AUTH, timeout=60) as given_up:
            next(given_up.iter_bytes())
        assert httpx.get(f"{process.url}/api/sessions", headers=AUTH).json()["sessions"][0]["sessionId"] == "s-1"
    assert "Traceback" not in process.log()
