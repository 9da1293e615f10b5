"""`python -m bench.containment`: contain an agent with 10,000 live tokens, then one with 50,000, while others report.

Fails unless the act is answered within two seconds (three for 50,000), everything is listed within a second after the
commit (half a minute where the job does the rest), and no report of others waits longer than a second.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import quote

import asyncpg
import httpx

from aitp_cp.db import embedded
from aitp_cp.db.migrations.run import upgrade
from bench.cascade import REPORTS, _report
from bench.history import LOADING, TIMEOUT_SECS
from bench.servers import serving
from tests.support.agents import new_agent
from tests.support.app import AUTH

LIST = "/.well-known/aitp-revocation-list"
# Tokens of one agent among 300,000 others; of each tenth it is the holder.
FILL = """
INSERT INTO issued_tcts (jti, issuer_aid, subject_aid, audience_aid, issued_at, expires_at)
SELECT gen_random_uuid(), CASE WHEN n % 10 = 0 THEN 'aid-' || n % 100 ELSE $1 END,
       CASE WHEN n % 10 = 0 THEN $1 ELSE 'aid-' || n % 100 END, 'x', now() - n * interval '1 ms', now() + interval '1 h'
FROM generate_series(1, $2::int) AS n
"""
OTHERS = """
INSERT INTO issued_tcts (jti, issuer_aid, subject_aid, audience_aid, issued_at, expires_at)
SELECT gen_random_uuid(), 'aid-' || n % 5000, 'aid-' || n % 777, 'x', now(), now() + interval '1 h'
FROM generate_series(1, 300000) AS n
"""
DELEGATED = """
INSERT INTO delegations (jti, parent_jti, delegator_aid, delegatee_aid, issued_at)
SELECT gen_random_uuid(), jti, subject_aid, 'aid-below', now()
FROM issued_tcts WHERE issuer_aid = $1 AND jti::text < '2'
"""


async def measure(dsn: str, port: int, tokens: int) -> dict[str, float]:
    """Seconds, by what took them."""
    bad = new_agent()
    conn = await asyncpg.connect(dsn, server_settings=LOADING, command_timeout=TIMEOUT_SECS)
    await conn.execute(FILL, bad.aid, tokens)
    await conn.execute(DELEGATED, bad.aid)
    await conn.execute("VACUUM ANALYZE issued_tcts, delegations")
    await conn.close()
    path = f"/api/registry/agents/{quote(bad.aid, safe='')}/contain"
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=AUTH, timeout=60) as http:
        others = asyncio.create_task(_report(http))
        await asyncio.sleep(1)
        started = time.perf_counter()
        plan = (await http.post(path, params={"dryRun": "true"}, json={"reason": "bench"})).json()
        took = {"dry run": time.perf_counter() - started}
        started = time.perf_counter()
        response = await http.post(path, json={"reason": "bench", "expect": plan["planDigest"]})
        took["answered"] = time.perf_counter() - started
        assert response.status_code == 201, response.text
        started = time.perf_counter()
        while (await http.get(LIST)).text.count('"jti"') < plan["listEntriesAfter"]:
            await asyncio.sleep(0.02)
            assert time.perf_counter() - started < 60
        took["listed"] = time.perf_counter() - started
        await asyncio.sleep(1)
        others.cancel()
        took["slowest report"] = max(REPORTS)
        REPORTS.clear()
    return took


async def main(sizes: list[int]) -> int:
    failed = 0
    with tempfile.TemporaryDirectory() as name, embedded.start(Path(name) / "pg") as server:
        conn = await asyncpg.connect(server.dsn())
        await conn.execute("CREATE DATABASE contain")
        await conn.close()
        dsn = server.dsn("contain")
        await upgrade(dsn)
        conn = await asyncpg.connect(dsn, server_settings=LOADING, command_timeout=TIMEOUT_SECS)
        await conn.execute(OTHERS)
        await conn.close()
        with serving(dsn, Path(name) / "server.log") as process:
            for tokens in sizes:
                took = await measure(dsn, process.port, tokens)
                small = tokens <= 10_000
                limits = {"answered": 2 if small else 3, "listed": 1 if small else 30, "slowest report": 1}
                late = [what for what, secs in limits.items() if took[what] > secs]
                failed += bool(late)
                print(
                    tokens, *(f"{what} {value:.3f}" for what, value in took.items()), f"LATE: {late}" if late else "met"
                )
    return failed


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.containment", description=__doc__)
    parser.add_argument("--tokens", type=int, nargs="+", default=[10_000, 50_000])
    sys.exit(asyncio.run(main(parser.parse_args().tokens)))
