"""Several real processes, killed at will, and receivers that misbehave (contract, section 12).

`WEBHOOK_STORM=full` makes it the long one: a thousand events, attempts that hang for all of their ten seconds, leases
that run out by themselves. It takes minutes.
"""

import asyncio
import os
import random
from collections import defaultdict
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import httpx
import pytest

from tests.support.app import AUTH
from tests.support.process import Process, free_port
from tests.support.receiver import Answer, Behaviour, Received, Receiver, receiver

pytestmark = pytest.mark.anyio


@dataclass(frozen=True)
class Storm:
    """`kills` hit one process or both; `hang_secs` is how long a receiver says nothing before it hangs up."""

    events: int
    kills: int
    calm_secs: tuple[float, float]
    hang_secs: float
    patience_secs: float
    leases_run_out: bool


SHORT = Storm(120, 4, (0.3, 0.6), hang_secs=0.8, patience_secs=60, leases_run_out=False)
FULL = Storm(1000, 5, (1.0, 6.0), hang_secs=20, patience_secs=600, leases_run_out=True)
STORM = FULL if os.environ.get("WEBHOOK_STORM") == "full" else SHORT

WEBHOOKS = ("a", "b", "c")
ATTEMPTS = 6
SETTINGS = {
    "WEBHOOK_ALLOWED_CIDRS": "127.0.0.0/8",
    "WEBHOOK_BREAKER_RESET_MS": "300",
    "WEBHOOK_RETRY_ATTEMPTS": str(ATTEMPTS),
    "LOG_LEVEL": "warn",
}

# Half a minute and more lies between attempts: the rows are told that it has passed.
HURRY = """
UPDATE webhook_deliveries SET next_retry_at = now() WHERE status = 'pending' AND next_retry_at > now()
"""
# The same for leases, at a moment when whoever held them is dead.
END_LEASES = "UPDATE webhook_deliveries SET lease_until = now() WHERE lease_until > now()"
STILL_SERVED = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()
"""
UNFINISHED = """
SELECT (SELECT count(*) FROM webhook_deliveries WHERE status NOT IN ('delivered', 'failed'))
     + (SELECT max(seq) FROM audit_events) - (SELECT enqueued_through FROM webhook_outbox)
"""


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
            return Answer(wait_secs=STORM.hang_secs, drop=True)
        return Answer(wait_secs=dice.random() / 50)

    return behave


async def report_all(urls: list[str]) -> None:
    """In batches, to whoever answers; a batch that was cut off is sent again and stored once."""
    async with httpx.AsyncClient(headers=AUTH, timeout=5) as http:
        for first in range(0, STORM.events, 20):
            batch = [{"type": "handshake.failed", "id": f"event-{first + n}"} for n in range(20)]
            while not await _sent(http, random.choice(urls), batch):
                await asyncio.sleep(0.05)


async def _sent(http: httpx.AsyncClient, url: str, batch: list[dict[str, str]]) -> bool:
    try:
        return (await http.post(f"{url}/api/events", json=batch)).status_code == 200
    except httpx.TransportError:
        return False


async def kill_and_restart(processes: list[Process], conn: asyncpg.Connection) -> None:
    """Any of them, and all of them the last time."""
    for number in range(1, STORM.kills + 1):
        await asyncio.sleep(random.uniform(*STORM.calm_secs))
        victims = processes if number == STORM.kills else random.sample(processes, random.randint(1, len(processes)))
        for process in victims:
            process.kill()
        if victims is processes and not STORM.leases_run_out:
            await end_leases(conn)
        for process in victims:
            process.start(wait=False)


async def end_leases(conn: asyncpg.Connection) -> None:
    """Once the server has ended what the dead had asked of it."""
    async with asyncio.timeout(20):
        while await conn.fetchval(STILL_SERVED):
            await asyncio.sleep(0.02)
    await conn.execute(END_LEASES)


async def finish(conn: asyncpg.Connection, http: httpx.AsyncClient, webhook: str) -> None:
    """Until every delivery is delivered or has spent its attempts."""
    async with asyncio.timeout(STORM.patience_secs):
        while await conn.fetchval(UNFINISHED):
            await conn.execute(HURRY)
            with suppress(httpx.TransportError):
                await http.patch(webhook, json={})  # changes nothing, and makes its process look
            await asyncio.sleep(0.3)


async def subscribe_all(http: httpx.AsyncClient, url: str) -> str:
    """The path of the last one."""
    for name in WEBHOOKS:
        created = (await http.post("/api/webhooks", json={"url": f"{url}/{name}"})).raise_for_status()
    return f"/api/webhooks/{created.json()['id']}"


async def test_whatever_dies_every_delivery_comes_to_an_end(database_url: str, tmp_path: Path) -> None:
    conn = await asyncpg.connect(database_url)
    async with receiver() as elsewhere, receiver() as there:
        there.behave = misbehaving(4711, elsewhere.url)
        with ExitStack() as stack:
            processes = [
                stack.enter_context(Process(database_url, tmp_path / f"{n}.log", port=free_port(), **SETTINGS))
                for n in range(2)
            ]
            async with httpx.AsyncClient(base_url=processes[0].url, headers=AUTH) as http:
                webhook = await subscribe_all(http, there.url)
                await asyncio.gather(report_all([one.url for one in processes]), kill_and_restart(processes, conn))
                await finish(conn, http, webhook)
        await check(conn, there)
        assert elsewhere.connections == 0
    await conn.close()


async def check(conn: asyncpg.Connection, there: Receiver) -> None:
    rows = await conn.fetch("SELECT id, status, attempts FROM webhook_deliveries")
    assert len(rows) == len(WEBHOOKS) * STORM.events
    received: dict[str, list[bytes]] = defaultdict(list)
    for got in there.got:
        received[got.headers["x-aitp-delivery"]].append(got.body)
    for row in rows:
        posts = received[str(row["id"])]
        # An attempt is counted before it is sent, and sent at most once.
        assert len(posts) <= row["attempts"] <= ATTEMPTS
        assert len(set(posts)) <= 1
        assert row["status"] == "delivered" or row["attempts"] == ATTEMPTS, dict(row)
    assert sum(row["status"] == "delivered" for row in rows) > 0.95 * len(rows)
    if STORM is FULL:
        tally(rows, received)


def tally(rows: list[asyncpg.Record], received: dict[str, list[bytes]]) -> None:
    """What the long one is run for, besides passing; shown by `pytest -s`."""
    attempts, posts = sum(row["attempts"] for row in rows), sum(map(len, received.values()))
    failed = sum(row["status"] == "failed" for row in rows)
    print(f"\n{len(rows)} deliveries, {failed} failed; {attempts} attempts counted, {posts} requests received")
