"""Several real processes, killed at will, and receivers that misbehave (contract, section 12)."""

import asyncio
import random
from collections import defaultdict
from pathlib import Path

import asyncpg
import httpx
import pytest

from tests.support.app import AUTH
from tests.support.process import Process, free_port
from tests.support.receiver import Answer, Behaviour, Received, Receiver, receiver

pytestmark = pytest.mark.anyio

EVENTS = 300
KILLS = 4
SETTINGS = {
    "WEBHOOK_ALLOWED_CIDRS": "127.0.0.0/8",
    "WEBHOOK_BREAKER_RESET_MS": "300",
    "LOG_LEVEL": "warn",
}

# Half a minute and more lies between attempts: the rows are told that it has passed. Leases are left to run out.
HURRY = """
UPDATE webhook_deliveries SET next_retry_at = now() WHERE status = 'pending' AND next_retry_at > now()
"""
UNFINISHED = "SELECT count(*) FROM webhook_deliveries WHERE status NOT IN ('delivered', 'failed')"


def misbehaving(seed: int, elsewhere: str) -> Behaviour:
    """Fails one request in three, redirects one in fifty and hangs on one in fifty."""
    dice = random.Random(seed)

    def behave(_: Received) -> Answer:
        roll = dice.random()
        if roll < 1 / 3:
            return dice.choice([Answer(500), Answer(429), Answer(drop=True), Answer(raw=b"junk")])
        if roll < 1 / 3 + 1 / 50:
            return Answer(302, headers={"Location": elsewhere})
        if roll < 1 / 3 + 2 / 50:
            return Answer(wait_secs=20)
        return Answer(wait_secs=dice.random() / 50)

    return behave


async def report_all(urls: list[str]) -> None:
    """In batches, to whoever answers; a batch that was cut off is sent again and stored once."""
    async with httpx.AsyncClient(headers=AUTH, timeout=5) as http:
        for first in range(0, EVENTS, 20):
            batch = [{"type": "handshake.failed", "id": f"event-{first + n}"} for n in range(20)]
            while not await _sent(http, random.choice(urls), batch):
                await asyncio.sleep(0.05)


async def _sent(http: httpx.AsyncClient, url: str, batch: list[dict[str, str]]) -> bool:
    try:
        return (await http.post(f"{url}/api/events", json=batch)).status_code == 200
    except httpx.TransportError:
        return False


async def kill_and_restart(processes: list[Process]) -> None:
    for _ in range(KILLS):
        await asyncio.sleep(random.uniform(0.5, 1.5))
        process = random.choice(processes)
        process.kill()
        process.start(wait=False)


async def finish(conn: asyncpg.Connection) -> None:
    """Until every delivery is delivered or has spent its attempts."""
    async with asyncio.timeout(120):
        while await conn.fetchval(UNFINISHED):
            await conn.execute(HURRY)
            await asyncio.sleep(0.3)


async def test_whatever_dies_every_delivery_comes_to_an_end(database_url: str, tmp_path: Path) -> None:
    processes = [Process(database_url, tmp_path / f"{n}.log", port=free_port(), **SETTINGS) for n in range(2)]
    conn = await asyncpg.connect(database_url)
    async with receiver() as elsewhere, receiver() as there:
        there.behave = misbehaving(4711, elsewhere.url)
        try:
            for process in processes:
                process.start()
            async with httpx.AsyncClient(headers=AUTH) as http:
                for name in ("a", "b", "c"):
                    await http.post(f"{processes[0].url}/api/webhooks", json={"url": f"{there.url}/{name}"})
            await asyncio.gather(report_all([one.url for one in processes]), kill_and_restart(processes))
            await finish(conn)
        finally:
            for process in processes:
                process.kill()
        await check(conn, there)
        assert elsewhere.connections == 0
    await conn.close()


async def check(conn: asyncpg.Connection, there: Receiver) -> None:
    rows = await conn.fetch("SELECT id, status, attempts, status_code FROM webhook_deliveries")
    assert len(rows) == 3 * EVENTS
    received: dict[str, list[bytes]] = defaultdict(list)
    for got in there.got:
        received[got.headers["x-aitp-delivery"]].append(got.body)
    for row in rows:
        posts = received[str(row["id"])]
        # An attempt is counted before it is sent, and sent at most once.
        assert len(posts) <= row["attempts"] <= 6
        assert len(set(posts)) <= 1
        assert row["status"] == "delivered" or row["attempts"] == 6, dict(row)
    assert sum(row["status"] == "delivered" for row in rows) > 0.95 * len(rows)
