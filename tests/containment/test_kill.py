"""kill -9 in the middle of the act leaves nothing of it, also of one at the console; after it, whoever starts next
does the rest.
"""

import threading
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from aitp_cp.containment.service import AT_ONCE
from tests.console.test_containing import form_in, page_of
from tests.containment.support import REASON, path
from tests.support.agents import new_agent
from tests.support.app import API_KEY, AUTH
from tests.support.process import Process
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

MORE = 50  # for the job
FILL = """
INSERT INTO issued_tcts (jti, issuer_aid, subject_aid, audience_aid, issued_at, expires_at)
SELECT gen_random_uuid(), $1, 'aid-' || n % 100, 'x', now(), now() + interval '1 h'
FROM generate_series(1, $2::int) AS n
"""
LEFT = """
SELECT (SELECT count(*) FROM containments) AS containments, (SELECT count(*) FROM revocation_entries) AS entries,
       (SELECT count(*) FROM issued_tcts WHERE revoked) AS revoked,
       (SELECT count(*) FROM audit_events WHERE type IN ('agent.contained', 'tct.revoked')) AS events,
       (SELECT count(*) FROM admin_audit_log WHERE action LIKE 'agent.%') AS audited,
       (SELECT coalesce(sum(remaining), 0) FROM containments) AS remaining
"""
WAITS_FOR_LOG = """
SELECT count(*) FROM pg_locks JOIN pg_database ON pg_database.oid = database
WHERE datname = current_database() AND locktype = 'relation' AND NOT granted
"""


async def test_all_or_nothing_of_the_act_and_the_job_resumes(database_url: str, tmp_path: Path) -> None:
    bad = new_agent()
    conn, beside = [await asyncpg.connect(database_url) for _ in range(2)]
    await conn.execute(FILL, bad.aid, AT_ONCE + MORE)

    async def left() -> dict[str, Any]:
        [row] = await conn.fetch(LEFT)
        return dict(row)

    async def act_waits() -> bool:
        return bool(await beside.fetchval(WAITS_FOR_LOG))

    def contain(server: Process) -> httpx.Response:
        return httpx.post(server.url + path(bad.aid, "contain"), json=REASON, headers=AUTH, timeout=30)

    def contain_at_console(server: Process) -> httpx.Response:
        with httpx.Client(base_url=server.url, headers={"Sec-Fetch-Site": "same-origin"}, timeout=30) as browser:
            browser.post("/console/login", data={"key": API_KEY})
            form = form_in(browser.get(page_of(bad)), reason="its key leaked", typed=bad.aid[-4:])
            return browser.post(page_of(bad), data=form)

    before = await left()
    with Process(database_url, tmp_path / "log", "--no-jobs") as server:
        transaction = conn.transaction()
        await transaction.start()
        await conn.execute("LOCK TABLE audit_events IN EXCLUSIVE MODE")  # the last thing that the act writes
        caller = threading.Thread(target=_unanswered, args=(contain_at_console, server))
        caller.start()
        await until(act_waits, 20)
        server.kill()
        await transaction.rollback()
        caller.join()
        await until(lambda: _gone(beside), 5)
        assert await left() == before == {**dict.fromkeys(before, 0)}

        server.start()
        assert contain(server).status_code == 201
        server.kill()
        done = {"containments": 1, "entries": AT_ONCE, "revoked": AT_ONCE, "events": AT_ONCE + 1, "audited": 1}
        assert await left() == {**done, "remaining": MORE}
    with Process(database_url, tmp_path / "log"):  # with jobs

        async def settled() -> bool:
            now = await left()
            return (now["entries"], now["revoked"], now["remaining"]) == (AT_ONCE + MORE, AT_ONCE + MORE, 0)

        await until(settled, 20)
    for each in (conn, beside):
        await each.close()


def _unanswered(contain: Any, server: Process) -> None:
    with pytest.raises(httpx.TransportError):
        contain(server)


async def _gone(conn: Any) -> bool:
    """Whether the killed process's transaction has ended."""
    return not await conn.fetchval(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state = 'idle in transaction'"
        " OR wait_event_type = 'Lock'"
    )
