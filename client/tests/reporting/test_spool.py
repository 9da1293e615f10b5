"""Events on disk: over restarts and crashes, in order, bounded, shared by processes."""

import asyncio
import os
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from aitp_cp_client import Reporter
from aitp_cp_client.reporting import worker
from aitp_cp_client.reporting.spool import Spool
from client.tests.reporting.support import KEY, MIB, QUICK, UNAVAILABLE, sink
from tests.support.waiting import until

pytestmark = pytest.mark.anyio


def item(n: int, size: int = 0) -> bytes:
    return b'{"payload":{"n":%d,"text":"%b"}}' % (n, b"x" * size)


async def test_what_was_not_sent_is_sent_by_the_next_reporter(tmp_path: Path) -> None:
    path = tmp_path / "spool"
    async with sink() as cp:
        cp.script = lambda _: UNAVAILABLE
        reporter = Reporter(cp.url, KEY, spool=path, limits=QUICK)
        for n in range(10):
            reporter.report("t", payload={"n": n})
        assert await reporter.safe(10)
        assert reporter.counters.queued == 10
        for n in range(10, 20):
            reporter.report("t", payload={"n": n})
        assert await reporter.close(0)
        assert reporter.counters.dropped == 0
        assert not cp.numbers
        cp.script = lambda _: None
        async with Reporter(cp.url, KEY, spool=path, limits=QUICK) as second:
            await until(lambda: len(cp.numbers) == 20)
            second.report("t", payload={"n": 20})
            assert await second.flush(10)
            assert second.counters.queued == 0
        assert cp.numbers == list(range(21))


async def test_a_disk_that_fails_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "TICK_SECS", 0.05)
    path = tmp_path / "spool"
    async with sink() as cp:
        reporter = Reporter(cp.url, KEY, spool=path, limits=QUICK)
        assert await reporter.close()
        path.write_bytes(b"this is no database" * 100)
        async with Reporter(cp.url, KEY, spool=path, limits=QUICK) as reporter:
            reporter.report("t", payload={"n": 1})
            await until(lambda: reporter.counters.last_error is not None)
            assert "spool failed" in (reporter.counters.last_error or "")
            assert not await reporter.safe(0)
            path.write_bytes(b"")
            assert await reporter.flush(10)
            assert cp.numbers == [1]


def test_it_is_bounded_and_what_is_being_sent_stays(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", MIB)
    assert spool.add([item(n, 1000) for n in range(500)]) == 0
    batch = spool.head(100, MIB)
    dropped = spool.add([item(n, 1000) for n in range(500, 1500)])
    assert dropped > 400
    assert spool.size().events == 1500 - dropped
    assert spool.head(100, MIB).items[:100] == batch.items
    spool.remove(batch)
    assert spool.head(1, MIB).items == [item(100 + dropped, 1000)]
    spool.close()


def test_each_agent_needs_a_file_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "spool"
    for owner in (None, "aid:alice", None, "aid:alice"):
        spool = Spool(path, MIB, owner)
        spool.add([item(1)])
        spool.close()
    other = Spool(path, MIB, "aid:bob")
    with pytest.raises(OSError, match="another agent"):
        other.add([item(2)])
    other.close()


def test_its_file_is_the_owners_alone(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", MIB)
    spool.add([item(1)])
    assert spool.leads()
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()}
    assert set(modes.values()) == {0o600}
    assert len(modes) >= 3
    spool.close()


def test_one_of_several_leads_until_it_ends(tmp_path: Path) -> None:
    first, second = Spool(tmp_path / "spool", MIB), Spool(tmp_path / "spool", MIB)
    assert first.leads()
    assert not second.leads()
    second.add([item(1)])
    first.add([item(2)])
    batch = first.head(10, MIB)
    assert batch.items == [item(1), item(2)]
    first.remove(batch)
    assert second.passed(batch.last)
    first.close()
    assert second.leads()
    second.close()


def test_a_batch_that_cannot_be_deleted_is_not_sent_again(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", MIB)
    spool.add([item(1)])
    batch = spool.head(10, MIB)
    with sqlite3.connect(tmp_path / "spool") as db:
        db.execute("CREATE TRIGGER full BEFORE DELETE ON events BEGIN SELECT raise(ABORT, 'disk full'); END")
    with pytest.raises(sqlite3.Error):
        spool.remove(batch)
    assert spool.head(10, MIB).items == []
    assert spool.passed(batch.last)
    db.execute("DROP TRIGGER full")
    db.close()
    spool.add([item(2)])
    spool.remove(spool.head(10, MIB))
    assert spool.size().events == 0
    spool.close()


EXITING = """
import sys
from aitp_cp_client import ThreadReporter

reporter = ThreadReporter(sys.argv[1], "k")
reporter.report("t", payload={"n": 1})
"""


async def test_the_end_of_the_program_sends_what_is_left() -> None:
    async with sink() as cp:
        done = await asyncio.to_thread(
            subprocess.run, [sys.executable, "-c", EXITING, cp.url], env=environment(), timeout=30
        )
        assert (done.returncode, cp.numbers) == (0, [1])


def environment() -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path)}
