"""A restore or a failover can leave the sequence behind the log, or the log behind its readers (rows 2 and 3)."""

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from aitp_cp.db.migrations.run import upgrade
from aitp_cp.db.numbering import read, repair
from tests.cli.support import GOOD, run, said, shell
from tests.events.support import append_numbers, connected, replica
from tests.support.app import AUTH, App, running_app
from tests.support.process import Process, free_port
from tests.support.standby import Pair, Switch, streaming_pair
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

NEW_LOG = "SELECT setval('audit_events_seq', 1, false)"


async def write(dsn: str, *statements: str) -> None:
    async with connected(dsn) as conn:
        for statement in statements:
            await conn.execute(statement)


async def fill(dsn: str, count: int) -> None:
    """A log of its own with positions from 1 to `count`."""
    await write(dsn, "DELETE FROM log_horizon", NEW_LOG)
    async with running_app(dsn) as app:
        await append_numbers(app.rt, range(count))


BEHIND = {
    "all rows there": (NEW_LOG,),
    "low rows gone": (NEW_LOG, "DELETE FROM audit_events WHERE seq < 10"),
    "all rows gone": (
        NEW_LOG,
        "INSERT INTO log_horizon (deleted_through) VALUES (30)",
        "DELETE FROM audit_events",
    ),
    "in the middle": ("SELECT setval('audit_events_seq', 12)",),
}


@pytest.mark.parametrize("case", BEHIND)
async def test_a_sequence_behind_the_log_is_set_right(database_url: str, case: str) -> None:
    """Row 2: 30 events, then `setval('audit_events_seq', 1, false)`; `migrate` repairs and says so."""
    await fill(database_url, 30)
    await write(database_url, *BEHIND[case])
    said: list[str] = []
    assert await upgrade(database_url, on_step=said.append) == []
    assert [line for line in said if "the log ends at 30: set right" in line]
    async with running_app(database_url) as app:
        assert await append_numbers(app.rt, range(2)) == [31, 32]


def test_check_says_it_and_a_start_repairs_it(database_url: str, tmp_path: Path) -> None:
    """Row 2: check fails with both numbers and changes nothing; serve repairs, says so in its log, and stores."""
    asyncio.run(fill(database_url, 30))
    asyncio.run(write(database_url, NEW_LOG))
    for _ in range(2):
        checked = run("check", **GOOD, DATABASE_URL=database_url)
        assert checked.returncode == 1
        assert "fail log sequence the sequence audit_events_seq gives 1 next, but the log ends at 30" in said(checked)
    with Process(database_url, tmp_path / "log") as process:
        posted = httpx.post(f"{process.url}/api/events", json=[{"type": "demo.event"}], headers=AUTH)
        assert posted.status_code == 200
        assert re.search(r"log_sequence_repaired.*log_end=30 next=1", process.log())
    checked = run("check", **GOOD, DATABASE_URL=database_url)
    assert "ok log sequence is past the end of the log (31)" in said(checked)


def test_a_role_that_may_not_set_the_sequence(database_url: str) -> None:
    """Row 2: who cannot repair does not start, and is told who can."""
    role = f"plain_{uuid4().hex[:12]}"
    asyncio.run(fill(database_url, 30))
    rights = ("ALL ON ALL TABLES IN SCHEMA public", "USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public")
    grants = (f"GRANT {right} TO {role}" for right in rights)
    asyncio.run(write(database_url, NEW_LOG, f"CREATE ROLE {role} LOGIN", *grants))
    try:
        dsn = database_url.replace("//postgres@", f"//{role}@")
        refused = shell("serve", **GOOD, DATABASE_URL=dsn, HOST="127.0.0.1", PORT=str(free_port()))
        assert (refused.returncode, "run `aitp-cp migrate` as the role that owns it" in said(refused)) == (3, True)
    finally:
        asyncio.run(write(database_url, f"DROP OWNED BY {role}", f"DROP ROLE {role}"))


async def test_two_repairs_at_once_and_none_when_all_is_well(database_url: str) -> None:
    """Row 2: replicas that start together repair once, under the log lock."""
    await fill(database_url, 30)
    await write(database_url, NEW_LOG)
    async with connected(database_url) as one, connected(database_url) as other:
        repairs = await asyncio.gather(repair(one), repair(other))
        assert [found for found in repairs if found] == [(1, 30)]
        assert await repair(one) is None
        assert (await read(one)).next == 31


async def test_a_sequence_set_back_under_a_running_process(
    database_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Row 2: every event was a 500 without a word until a restart; now the next one but the first is stored."""
    await fill(database_url, 30)
    async with running_app(database_url) as app:
        await write(database_url, NEW_LOG)
        events = [{"type": "demo.event"}]
        refused = await app.post("/api/events", events)
        assert (refused.status_code, refused.json()["code"]) == (503, "DATABASE_UNAVAILABLE")
        async with asyncio.timeout(20):
            while (await app.post("/api/events", events)).status_code != 200:
                await asyncio.sleep(0.05)
        async with connected(database_url) as conn:
            assert await conn.fetchval("SELECT max(seq) FROM audit_events") == 31
    assert "log_sequence_repaired" in capsys.readouterr().out


async def test_a_restore_in_place_under_a_running_process(database_url: str) -> None:
    """Row 3: read up to 40, cut to 10 with the sequence; 8 events reach open and new streams after a reset."""
    await write(database_url, "DELETE FROM log_horizon", NEW_LOG)
    async with replica(database_url) as one:
        await append_numbers(one.rt, range(40))
        await until(lambda: one.tail.last == 40)
        async with one.stream() as stream, one.stream(last=39) as resumed, one.stream(type="rare") as filtered:
            assert await stream.places(40) == list(range(1, 41))
            assert await resumed.places(1) == [40]
            await write(
                database_url,
                "DELETE FROM audit_events WHERE seq > 10",
                "SELECT setval('audit_events_seq', 10)",
            )
            assert await append_numbers(one.rt, range(8)) == list(range(11, 19))
            for reader in (stream, resumed):
                assert (await reader.reset()) == {"reason": "cursor_unknown", "oldest": 1}
                assert await reader.places(18) == list(range(1, 19))
            assert (await filtered.reset())["reason"] == "cursor_unknown"
            assert one.metric("tail_resets_total") == 1
            await append_numbers(one.rt, [99])
            assert await stream.places(1) == await resumed.places(1) == [19]
        async with one.stream(last=40) as late:
            assert (await late.reset())["reason"] == "cursor_unknown"
            assert await late.places(19) == list(range(1, 20))


async def test_a_log_that_has_grown_past_the_position_meanwhile(database_url: str) -> None:
    """Row 3: the replaced log is longer than the one that was read; positions alone would not tell."""
    await write(database_url, "DELETE FROM log_horizon", NEW_LOG)
    async with replica(database_url) as one:
        await append_numbers(one.rt, range(20))
        await until(lambda: one.tail.last == 20)
        async with one.stream(last=19) as stream:
            assert await stream.places(1) == [20]
            await write(
                database_url,
                """
                WITH gone AS (DELETE FROM audit_events WHERE seq > 5)
                INSERT INTO audit_events (id, type, ts, payload, seq)
                SELECT gen_random_uuid(), 'demo.event', now(), '{}', n + 100 FROM generate_series(1, 30) AS n
                """,
                "UPDATE audit_events SET seq = seq - 95 WHERE seq > 100",
                "SELECT setval('audit_events_seq', 35)",
            )
            assert (await stream.reset())["reason"] == "cursor_unknown"
            assert await stream.places(35) == list(range(1, 36))


async def test_what_retention_takes_resets_nobody(database_url: str) -> None:
    """Row 3: the event at the tail's position is gone because it was swept; that is no other log."""
    await write(database_url, "DELETE FROM log_horizon", NEW_LOG)
    async with replica(database_url) as one:
        await append_numbers(one.rt, range(5))
        await until(lambda: one.tail.last == 5)
        async with one.stream(last=5) as stream:
            await write(
                database_url,
                "INSERT INTO log_horizon (deleted_through) VALUES (5)",
                "DELETE FROM audit_events",
            )
            await append_numbers(one.rt, [6])
            assert await stream.places(1) == [6]
        assert one.metric("tail_resets_total") == 0


async def test_the_revocation_list_follows_a_replaced_log(database_url: str) -> None:
    """Row 3: caches start anew: a revocation at a lower position than the last one is listed at once."""
    jtis = ["6f9619ff-8b86-4d01-b42d-00c04fc964ff", "7f9619ff-8b86-4d01-b42d-00c04fc964ff"]
    await write(database_url, "DELETE FROM log_horizon", NEW_LOG)
    async with running_app(database_url) as app, running_app(database_url) as other:
        await append_numbers(app.rt, range(40))
        assert (await app.post("/api/revocation/entries", {"jti": jtis[0]})).status_code == 201
        await is_listed(other, jtis[0])
        await write(database_url, "DELETE FROM audit_events WHERE seq > 10", "SELECT setval('audit_events_seq', 10)")
        async with asyncio.timeout(10):
            while "tail_resets_total 1.0" not in (await other.http.get("/api/metrics")).text:
                await asyncio.sleep(0.1)
        assert (await app.post("/api/revocation/entries", {"jti": jtis[1]})).status_code == 201
        await is_listed(other, jtis[1])


async def is_listed(app: App, jti: str) -> None:
    """Far sooner than the minute after which the list is signed again anyway."""
    async with asyncio.timeout(5):
        while jti not in (await app.http.get("/.well-known/aitp-revocation-list")).text:
            await asyncio.sleep(0.05)


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    with streaming_pair() as both:
        yield both


async def test_a_failover_to_a_standby_that_lagged(pair: Pair) -> None:
    """Row 3: the standby lacks the newest events and is promoted; streams go on there after a reset."""
    async with Switch(pair.primary.dsn()) as name, replica(name.dsn) as one:
        await append_numbers(one.rt, range(10))
        await pair.caught_up()
        await write(pair.standby.dsn(), "ALTER SYSTEM SET primary_conninfo = ''", "SELECT pg_reload_conf()")
        await cut_off(pair.standby.dsn())
        await append_numbers(one.rt, range(10, 15))
        await until(lambda: one.tail.last == 15)
        async with one.stream(last=14) as stream:
            assert await stream.places(1) == [15]
            name.lead_to(pair.standby)
            await asyncio.to_thread(pair.primary.stop)
            await asyncio.to_thread(pair.standby.promote)
            assert (await stream.reset())["reason"] == "cursor_unknown"
            assert await stream.places(10) == list(range(1, 11))
            new = await append_numbers(one.rt, [16])
            assert await stream.places(1) == new


async def cut_off(standby: str) -> None:
    async with connected(standby) as conn, asyncio.timeout(20):
        while await conn.fetchval("SELECT count(*) FROM pg_stat_wal_receiver"):
            await asyncio.sleep(0.02)
