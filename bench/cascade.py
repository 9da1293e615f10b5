"""`python -m bench.cascade`: revoke a token with 1,200,000 delegations below it, while others report.

Fails unless the revocation is answered and listed within a second, no report of another caller waits longer than a
second, and all delegations are revoked in the end.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path
from uuid import UUID, uuid4

import asyncpg
import httpx

from aitp_cp.db import embedded
from aitp_cp.db.migrations.run import upgrade
from bench.history import LOADING, TIMEOUT_SECS
from bench.servers import Running, serving
from tests.support.app import AUTH

ROWS = 1_200_000
SECS = 1.0
LIST = "/.well-known/aitp-revocation-list"

# The parent of row n, by shape.
SHAPES = {
    "star": "$1::uuid",
    "chain": "CASE n WHEN 1 THEN $1::uuid ELSE md5($1::uuid::text || n - 1)::uuid END",
    "tree": "CASE WHEN n <= 8 THEN $1::uuid ELSE md5($1::uuid::text || n / 8)::uuid END",
}
FILL = """
INSERT INTO delegations (jti, parent_jti, delegator_aid, delegatee_aid, issued_at)
SELECT md5($1::uuid::text || n)::uuid, {parent}, 'aid-' || n % 1000, 'aid-' || n % 777, now()
FROM generate_series(1, $2::int) AS n
"""
OPEN = "SELECT count(*) FROM delegations WHERE NOT revoked AND delegator_aid <> 'other'"
WORK = "SELECT EXISTS (SELECT 1 FROM cascade_work)"


async def measure(dsn: str, server: Running, shape: str, rows: int) -> dict[str, float]:
    """Seconds, by what took them."""
    root = uuid4()
    conn = await asyncpg.connect(dsn, server_settings=LOADING, command_timeout=TIMEOUT_SECS)
    await conn.execute(FILL.format(parent=SHAPES[shape]), root, rows)
    await conn.execute("VACUUM ANALYZE delegations")
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}", headers=AUTH, timeout=60) as http:
        others = asyncio.create_task(_report(http))
        await asyncio.sleep(1)
        started = time.perf_counter()
        response = await http.post("/api/revocation/entries", json={"jti": str(root)})
        took = {"answered": time.perf_counter() - started}
        assert response.status_code == 201, response.text
        took["listed"] = await _listed(http, root)
        while await conn.fetchval(WORK):  # noqa: ASYNC110 - another process settles
            await asyncio.sleep(0.1)
        took["settled"] = time.perf_counter() - started
        others.cancel()
        took["slowest report"] = max(others_took) if (others_took := REPORTS.copy()) else 0.0
        REPORTS.clear()
    took["left"] = await conn.fetchval(OPEN)
    await conn.close()
    return took


REPORTS: list[float] = []


async def _report(http: httpx.AsyncClient) -> None:
    """A token and a delegation of others, again and again."""
    while True:
        jti, child = str(uuid4()), str(uuid4())
        events = [
            {"type": "tct.issued", "payload": {"tct": {"jti": jti, "iss": "other", "sub": "holder"}}},
            {"type": "delegation.issued", "payload": {"jti": child, "parent_jti": jti, "iss": "other", "sub": "x"}},
        ]
        started = time.perf_counter()
        response = await http.post("/api/events", json=events)
        assert response.status_code == 200, response.text
        REPORTS.append(time.perf_counter() - started)
        await asyncio.sleep(0.02)


async def _listed(http: httpx.AsyncClient, jti: UUID) -> float:
    started = time.perf_counter()
    while str(jti) not in (await http.get(LIST)).text:  # noqa: ASYNC110 - another process lists
        await asyncio.sleep(0.01)
    return time.perf_counter() - started


async def main(rows: int, shapes: list[str]) -> int:
    failed = 0
    with tempfile.TemporaryDirectory() as name, embedded.start(Path(name) / "pg") as server:
        for shape in shapes:
            dsn = await _prepared(server, shape)
            with serving(dsn, Path(name) / "server.log") as process:
                took = await measure(dsn, process, shape, rows)
            late = {what for what in ("answered", "listed", "slowest report") if took[what] > SECS}
            failed += bool(late or took["left"])
            print(shape, rows, *(f"{what} {value:.3f}" for what, value in took.items()), "FAILED" if late else "met")
    return failed


async def _prepared(server: embedded.Server, shape: str) -> str:

    conn = await asyncpg.connect(server.dsn())
    await conn.execute(f"CREATE DATABASE {shape}")
    await conn.close()
    await upgrade(server.dsn(shape))
    return server.dsn(shape)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.cascade", description=__doc__)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--shape", nargs="+", choices=SHAPES, default=list(SHAPES))
    asked = parser.parse_args()
    sys.exit(asyncio.run(main(asked.rows, asked.shape)))
