"""A reporter in memory: order, outages, limits, refusals, and the end."""

import asyncio
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from aitp_cp_client import Limits, Reporter, ThreadReporter
from client.tests.reporting.support import KEY, QUICK, UNAVAILABLE, Sink, accepted, sink
from tests.support.receiver import Answer
from tests.support.waiting import until

pytestmark = pytest.mark.anyio


def reporter_of(cp: Sink, limits: Limits = QUICK) -> Reporter:
    return Reporter(cp.url, KEY, limits=limits)


async def test_events_arrive_in_batches_and_in_order_with_id_and_time() -> None:
    async with sink() as cp, reporter_of(cp) as reporter:
        ids = [reporter.report("capability.invoked", run_id="r", payload={"n": n}) for n in range(1200)]
        assert await reporter.flush(10)
        assert cp.numbers == list(range(1200))
        events = [event for batch in cp.batches for event in batch]
        assert [event["id"] for event in events] == ids
        assert len(set(ids)) == 1200
        now = datetime.now(UTC)
        assert all(now - datetime.fromisoformat(event["ts"]) < timedelta(minutes=1) for event in events)
        assert max(map(len, cp.batches)) <= 500
        assert cp.requests[0].headers["authorization"] == f"Bearer {KEY}"
        counters = reporter.counters
        assert (counters.reported, counters.queued, counters.sent, counters.last_error) == (1200, 0, 1200, None)


async def test_few_events_wait_for_each_other() -> None:
    async with sink() as cp, Reporter(cp.url, KEY, limits=Limits(linger_secs=0.05)) as reporter:
        for n in range(3):
            reporter.report("t", payload={"n": n})
            await asyncio.sleep(0)
        await until(lambda: cp.numbers == [0, 1, 2])
        assert len(cp.requests) == 1


async def test_an_outage_costs_nothing_and_a_lost_answer_sends_the_same_events_again() -> None:
    responses = [UNAVAILABLE, Answer(drop=True), Answer(raw=b"nonsense"), Answer(401, UNAVAILABLE.body), Answer(502)]
    async with sink() as cp, reporter_of(cp) as reporter:
        cp.script = lambda _: responses.pop(0) if responses else None
        for n in range(5):
            reporter.report("t", payload={"n": n})
        await until(lambda: len(cp.requests) >= 3)
        for n in range(5, 10):
            reporter.report("t", payload={"n": n})
        assert await reporter.flush(10)
        assert cp.numbers == list(range(10))
        assert cp.requests[0].body == cp.requests[1].body
        assert reporter.counters.retries == 5
        assert reporter.counters.last_error is not None


async def test_retry_after_is_waited_for_even_by_a_flush() -> None:
    busy = Answer(429, b'{"error":"slow","code":"RATE_LIMITED"}', {"Retry-After": "1"})
    responses = [busy]
    async with sink() as cp, reporter_of(cp) as reporter:
        cp.script = lambda _: responses.pop(0) if responses else None
        reporter.report("t", payload={"n": 1})
        began = time.monotonic()
        assert not await reporter.flush(0.1)
        assert await reporter.flush(10)
        assert time.monotonic() - began >= 1


async def test_memory_is_bounded_and_the_oldest_are_dropped() -> None:
    async with sink() as cp, reporter_of(cp) as reporter:
        cp.script = lambda _: UNAVAILABLE
        for n in range(4000):
            reporter.report("t", payload={"n": n, "text": "x" * 1000})
        counters = reporter.counters
        assert counters.reported == 4000
        assert counters.queued + counters.dropped == 4000
        assert 700 < counters.queued < 1000  # of 1 MiB
        cp.script = lambda _: None
        assert await reporter.flush(10)
        assert cp.numbers == sorted(set(cp.numbers))
        assert cp.numbers[-500:] == list(range(3500, 4000))
        assert len(cp.numbers) == counters.queued


@pytest.mark.parametrize("refusal", [Answer(413, b"<html>"), Answer(400, b'{"error":"x","code":"BODY_INVALID"}')])
async def test_an_event_that_is_refused_holds_up_no_other(refusal: Answer) -> None:
    def script(batch: list[dict[str, Any]]) -> Answer | None:
        return refusal if any(event["payload"]["n"] in {70, 71, 400} for event in batch) else None

    async with sink() as cp, reporter_of(cp) as reporter:
        cp.script = script
        for n in range(600):
            reporter.report("t", payload={"n": n})
        assert await reporter.flush(20)
        assert cp.numbers == [n for n in range(600) if n not in {70, 71, 400}]
        assert (reporter.counters.sent, reporter.counters.refused) == (597, 3)
        assert reporter.counters.queued == 0


async def test_items_that_the_control_plane_drops_are_counted() -> None:
    problem = {"index": 1, "field": "aid_a", "reason": "not a party"}
    async with sink() as cp, reporter_of(cp) as reporter:
        cp.script = lambda _: accepted(1, dropped=1, errors=[problem])
        reporter.report("t", payload={"n": 1})
        reporter.report("t", payload={"n": 2})
        assert await reporter.flush(10)
        counters = reporter.counters
        assert (counters.sent, counters.refused, len(cp.requests)) == (1, 1, 1)
        assert counters.last_error == "the control plane refused aid_a: not a party"


class Nasty:
    def __str__(self) -> str:
        raise RuntimeError("nasty")


def nested() -> list[Any]:
    deep: list[Any] = []
    deep.append(deep)
    return deep


@pytest.mark.parametrize("payload", [Nasty(), "\ud800", nested(), {"text": "x" * 300_000}, {1: 10**400, object(): 1}])
async def test_what_cannot_be_sent_raises_nothing(payload: Any) -> None:
    async with sink() as cp, reporter_of(cp) as reporter:
        assert reporter.report("t", payload=payload)
        assert reporter.handshake_complete("s", "no token", "initiator")
        reporter.report("t", payload={"n": 1})
        assert await reporter.flush(10)
        assert cp.numbers == [1]
        assert reporter.counters.refused == 2


async def test_close_keeps_to_its_deadline_and_counts_what_is_lost() -> None:
    async with sink() as cp:
        cp.script = lambda _: Answer(wait_secs=60)
        reporter = Reporter(cp.url, KEY, limits=Limits(linger_secs=0))
        for n in range(3):
            reporter.report("t", payload={"n": n})
        began = time.monotonic()
        assert not await reporter.close(0.05)
        assert time.monotonic() - began < 2
        reporter.report("t", payload={"n": 3})
        assert (reporter.counters.dropped, reporter.counters.queued) == (4, 0)
        assert await reporter.close(0) is True
        assert "aitp-reporter" not in [thread.name for thread in threading.enumerate()]


async def test_a_cancelled_task_still_sends_what_it_reported() -> None:
    async def agent(cp: Sink) -> None:
        async with reporter_of(cp, Limits(linger_secs=60)) as reporter:
            reporter.report("t", payload={"n": 1})
            await asyncio.sleep(60)

    async with sink() as cp:
        task = asyncio.create_task(agent(cp))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert cp.numbers == [1]


async def test_plain_threads_share_one() -> None:
    async with sink() as cp:

        def work() -> None:
            with ThreadReporter(cp.url, KEY, limits=QUICK) as reporter:
                threads = [threading.Thread(target=several, args=(reporter, first)) for first in range(0, 400, 100)]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()
                assert reporter.safe(10)
                assert reporter.flush(10)

        def several(reporter: ThreadReporter, first: int) -> None:
            for n in range(first, first + 100):
                reporter.report("t", payload={"n": n})

        await asyncio.to_thread(work)
        assert sorted(cp.numbers) == list(range(400))
        for first in range(0, 400, 100):  # each thread's own order stands
            assert [n for n in cp.numbers if first <= n < first + 100] == list(range(first, first + 100))


@pytest.mark.parametrize("url", ["ftp://cp", "http://user:secret@cp"])
def test_arguments_that_cannot_be_right_are_refused_at_once(url: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError) as refused:
        Reporter(url, KEY)
    assert "secret" not in str(refused.value)
    with pytest.raises(ValueError):
        Reporter("http://cp", "a key with spaces")
    with pytest.raises(ValueError):
        Reporter("http://cp", KEY, limits=Limits(memory_bytes=10))
    with pytest.raises(ValueError, match="identity"):
        Reporter("http://cp", msgspec.UNSET)  # type: ignore[arg-type]
    with pytest.raises(OSError, match="missing"):
        Reporter("http://cp", KEY, spool=tmp_path / "missing" / "spool")
