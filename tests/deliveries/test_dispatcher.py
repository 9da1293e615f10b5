"""Leases, limits, fairness and shutdown (contract, section 12)."""

import asyncio
from collections import Counter
from contextlib import AsyncExitStack
from datetime import timedelta
from uuid import UUID

import pytest

from aitp_cp.deliveries import queue, results
from aitp_cp.deliveries.dispatcher import Dispatcher
from aitp_cp.deliveries.model import Attempt, Claim, Outcome, Rules, Verdict
from aitp_cp.deliveries.queue import LEASE
from aitp_cp.jobs import Done
from tests.deliveries.support import (
    LOCAL,
    attempted,
    delivering,
    ended,
    log_of,
    pass_time,
    quiet,
    report,
    sql,
    subscribe,
)
from tests.support.app import App, running_app
from tests.support.receiver import HANG_SECS, Answer, Received, always, receiver
from tests.support.waiting import until

pytestmark = pytest.mark.anyio


async def claim(app: App, room: int = 8, **in_flight: int) -> list[Attempt]:
    """Lease rows as a process would, and then die: nothing is sent, nothing is recorded."""
    busy = {UUID(id): places for id, places in in_flight.items()}
    async with app.rt.db.connection() as conn:
        return await queue.claim_due(conn, Claim(room, app.rt.settings.webhook_retry_attempts, busy))


async def test_two_per_webhook_and_eight_in_all(database_url: str) -> None:
    at_once: list[int] = []
    eight = asyncio.Event()

    def behave(_: Received) -> Answer:
        at_once.append(sum(one.at_once for one in receivers))
        return Answer(after=eight)

    async with AsyncExitStack() as stack:
        receivers = [await stack.enter_async_context(receiver(behave)) for _ in range(6)]
        app = await stack.enter_async_context(delivering(database_url))
        webhooks = [await subscribe(app, one.url) for one in receivers]
        await report(app, 10)

        async def full() -> bool:
            return sum(one.at_once for one in receivers) == 8

        await until(full)
        await report(app, 1)  # rings the bell
        await asyncio.sleep(0.3)
        assert len(at_once) == 8
        eight.set()
        for webhook in webhooks:
            await ended(app, webhook, 11)
        assert max(at_once) == 8
        assert max(one.most_at_once for one in receivers) == 2


async def test_a_long_queue_delays_nobody_else(database_url: str) -> None:
    async with receiver() as busy, receiver() as other, running_app(database_url, **LOCAL) as app:
        await subscribe(app, busy.url)
        await report(app, 500)
        late = await subscribe(app, other.url)
        await report(app, 5)
        ahead: list[int] = []

        def behave(_: Received) -> Answer:
            ahead.append(len(busy.got))
            return Answer()

        other.behave = behave
        app.rt.get(Dispatcher).start()
        await ended(app, late, 5)
        assert max(ahead) < 100


async def test_an_endpoint_that_hangs_holds_two_places_and_no_more(database_url: str) -> None:
    async with (
        receiver(Answer(wait_secs=HANG_SECS)) as dead,
        receiver() as well,
        delivering(database_url) as app,
    ):
        stuck, fine = await subscribe(app, dead.url), await subscribe(app, well.url)
        await report(app, 60)
        await ended(app, fine, 60)
        statuses = Counter((one["status"], one["attempts"]) for one in await log_of(app, stuck))
        assert statuses == {("in_flight", 1): 2, ("pending", 0): 58}
        await dead.close()


async def test_claims_go_round_among_webhooks(database_url: str) -> None:
    async with running_app(database_url, **LOCAL) as app:
        webhooks = [await subscribe(app, "http://127.0.0.1:9/") for _ in range(5)]
        await report(app, 20)
        full = webhooks[0]["id"]
        taken = Counter(str(attempt.webhook_id) for attempt in await claim(app, 8, **{full: 2}))
        assert taken == {webhook["id"]: 2 for webhook in webhooks[1:]}
        taken = Counter(str(attempt.webhook_id) for attempt in await claim(app, 5))
        assert taken == {webhook["id"]: 1 for webhook in webhooks}


async def test_two_processes_never_lease_the_same_row(database_url: str) -> None:
    async with running_app(database_url, **LOCAL) as app:
        for _ in range(4):
            await subscribe(app, "http://127.0.0.1:9/")
        await report(app, 50)
        leased: list[Attempt] = []
        while claimed := [one for some in await asyncio.gather(*(claim(app) for _ in range(6))) for one in some]:
            leased += claimed
        assert len(leased) == len({attempt.id for attempt in leased}) == 200
        assert {attempt.number for attempt in leased} == {1}


async def test_two_dispatchers_share_the_queue_and_send_everything_once(database_url: str) -> None:
    async with receiver(Answer(wait_secs=0.005)) as there, running_app(database_url, **LOCAL) as first:
        webhooks = [await subscribe(first, there.url) for _ in range(3)]
        await report(first, 100)
        async with delivering(database_url), delivering(database_url):
            for webhook in webhooks:
                rows = await ended(first, webhook, 100)
                assert {row["attempts"] for row in rows} == {1}
        counts = Counter(got.headers["x-aitp-delivery"] for got in there.got)
        assert (len(counts), set(counts.values())) == (300, {1})


async def test_what_a_dead_process_had_leased_comes_back(database_url: str) -> None:
    async with receiver() as there, running_app(database_url, **LOCAL) as app:
        webhook = await subscribe(app, there.url)
        await report(app, 2)
        assert len(await claim(app)) == 2
        app.rt.get(Dispatcher).start()
        await asyncio.sleep(0.3)
        assert [row["status"] for row in await log_of(app, webhook)] == ["in_flight", "in_flight"]
        assert there.got == []
        await pass_time(app, seconds=LEASE.total_seconds())
        rows = await ended(app, webhook, 2)
        assert [row["attempts"] for row in rows] == [2, 2]
        assert len(there.got) == 2


async def test_who_dies_in_the_last_attempt_has_spent_it(database_url: str) -> None:
    async with receiver() as there, running_app(database_url, WEBHOOK_RETRY_ATTEMPTS="1", **LOCAL) as app:
        webhook = await subscribe(app, there.url)
        await report(app)
        assert [attempt.number for attempt in await claim(app)] == [1]
        await pass_time(app, seconds=LEASE.total_seconds())
        app.rt.get(Dispatcher).start()
        (row,) = await ended(app, webhook, 1, "failed")
        assert (row["attempts"], row["error"]) == (1, "the last attempt was cut short")
        assert there.got == []


async def test_a_count_beyond_every_limit_stops_nothing_else(database_url: str) -> None:
    """An older control plane, or a hand, may have left any integer; one such row once failed every claim."""
    async with receiver() as there, running_app(database_url, **LOCAL) as app:
        webhook, fine = await subscribe(app, there.url), await subscribe(app, there.url)
        await report(app)
        await sql(app, "UPDATE webhook_deliveries SET attempts = 2147483647 WHERE webhook_id = $1", UUID(webhook["id"]))
        app.rt.get(Dispatcher).start()
        assert [one["attempts"] for one in await ended(app, fine, 1)] == [1]
        assert [one["attempts"] for one in await ended(app, webhook, 1, "failed")] == [2147483647]


async def test_a_lost_lease_records_nothing(database_url: str) -> None:
    async with running_app(database_url, **LOCAL) as app:
        webhook = await subscribe(app, "http://127.0.0.1:9/")
        await report(app)
        (slow,) = await claim(app)
        await pass_time(app, seconds=LEASE.total_seconds())
        (quick,) = await claim(app)
        assert (slow.number, quick.number) == (1, 2)
        rules = Rules(max_attempts=6, breaker_threshold=1, breaker_reset=timedelta(1))
        async with app.rt.db.connection() as conn:
            for verdict in Verdict:
                await results.record(conn, [Done(slow, Outcome(verdict, 500, "late"))], rules)
        (row,) = await log_of(app, webhook)
        assert (row["status"], row["attempts"], row["error"]) == ("in_flight", 2, None)
        assert (await app.get(f"/api/webhooks/{webhook['id']}")).json()["active"] is True
        async with app.rt.db.connection() as conn:
            await results.record(conn, [Done(quick, Outcome(Verdict.DELIVERED, 200))], rules)
        assert (await log_of(app, webhook))[0]["status"] == "delivered"


async def test_stopping_lets_attempts_in_flight_be_answered_and_recorded(database_url: str) -> None:
    async with receiver(Answer(wait_secs=0.5)) as there, running_app(database_url, **LOCAL) as app:
        webhook = await subscribe(app, there.url)
        await report(app, 3)
        async with delivering(database_url):
            await there.wait_for(2)
        statuses = Counter(row["status"] for row in await log_of(app, webhook))
        assert statuses == {"delivered": 2, "pending": 1}
        assert len(there.got) == 2


async def hold_rows(app: App, secs: float) -> None:
    async with app.rt.db.transaction() as conn:
        await conn.fetch("SELECT 1 FROM webhook_deliveries FOR UPDATE")
        await asyncio.sleep(secs)


async def test_stopping_waits_until_the_outcome_is_written(database_url: str) -> None:
    async with receiver(Answer(wait_secs=0.5)) as there, running_app(database_url, **LOCAL) as app:
        webhook = await subscribe(app, there.url)
        await report(app)
        async with delivering(database_url):
            await there.wait_for(1)
            holding = asyncio.create_task(hold_rows(app, 2))
            await asyncio.sleep(0.1)
        await holding
        assert [row["status"] for row in await log_of(app, webhook)] == ["delivered"]


async def test_a_database_that_is_away_loses_no_outcome(database_url: str) -> None:
    async with receiver(Answer(wait_secs=0.3)) as there, delivering(database_url) as app:
        webhook = await subscribe(app, there.url)
        await report(app)
        await there.wait_for(1)
        await app.rt.db.close()
        await asyncio.sleep(0.6)
        await app.rt.db.open()
        (row,) = await ended(app, webhook, 1)
        assert (row["attempts"], len(there.got)) == (1, 1)


@pytest.fixture
def never_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A dispatcher that looks for work only when it has a reason to."""
    monkeypatch.setattr("aitp_cp.deliveries.dispatcher.Dispatcher.poll_secs", 3600.0)
    monkeypatch.setattr("aitp_cp.deliveries.dispatcher.Dispatcher.busy_secs", 3600.0)


@pytest.mark.usefixtures("never_looks")
async def test_new_events_are_sent_at_once(database_url: str) -> None:
    async with receiver() as there, delivering(database_url) as app:
        await subscribe(app, there.url)
        await asyncio.sleep(0.2)
        for count in range(1, 4):
            await report(app)
            await there.wait_for(count)


async def test_an_idle_dispatcher_leaves_the_database_alone(database_url: str) -> None:
    async with running_app(database_url, **LOCAL) as app:
        await subscribe(app, "http://127.0.0.1:9/")
        app.rt.get(Dispatcher).start()
        assert await quiet(app)


async def test_a_webhook_may_be_deleted_while_it_is_delivered_to(database_url: str) -> None:
    deleted = asyncio.Event()
    async with receiver(Answer(after=deleted)) as there, delivering(database_url) as app:
        webhook, other = await subscribe(app, there.url), await subscribe(app, there.url)
        await report(app, 3)
        await there.wait_for(4)
        await app.delete(f"/api/webhooks/{webhook['id']}")
        deleted.set()
        await ended(app, other, 3)
        await asyncio.sleep(0.5)
        per_webhook = Counter(got.headers["x-aitp-delivery"] for got in there.got)
        assert len(per_webhook) <= 3 + 2
        rows = await sql(
            app, "SELECT status, count(*) FROM webhook_deliveries WHERE webhook_id = $1 GROUP BY 1", webhook["id"]
        )
        assert dict(rows) == {"delivered": 2, "pending": 1}


async def test_attempts_and_their_latency_are_measured(database_url: str) -> None:
    def behave(got: Received) -> Answer:
        return Answer(500) if got.path.endswith("bad") else Answer()

    async with receiver(behave) as there, delivering(database_url) as app:
        good, bad = await subscribe(app, there.url), await subscribe(app, f"{there.url}/bad")
        await report(app)
        await ended(app, good, 1)
        await attempted(app, bad, 1)
        metrics = (await app.get("/api/metrics")).text
        name = "aitp_control_plane_webhook_attempt_duration_seconds_count"
        for outcome in ("delivered", "failed"):
            assert f'{name}{{outcome="{outcome}"}} 1.0' in metrics


async def test_the_url_is_not_logged(database_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    async with receiver(Answer(500)) as there, delivering(database_url, LOG_LEVEL="trace") as app:
        webhook = await subscribe(app, f"{there.url}?token=in-the-url")
        await report(app)
        await attempted(app, webhook, 1)
        there.behave = always(Answer(drop=True))
        await pass_time(app, minutes=1)
        await attempted(app, webhook, 2)
    captured = capsys.readouterr()
    assert "webhook_not_delivered" in captured.out
    assert "in-the-url" not in captured.out + captured.err
    assert webhook["secret"] not in captured.out + captured.err


@pytest.mark.usefixtures("never_looks")
async def test_waiting_ends_when_something_is_to_be_waited_for(database_url: str) -> None:
    """A retry that falls due while nothing else happens is sent without any bell."""
    async with receiver(Answer(429, headers={"Retry-After": "1"})) as there, delivering(database_url) as app:
        webhook = await subscribe(app, there.url)
        await report(app)
        await attempted(app, webhook, 1)
        there.behave = always(Answer())
        await ended(app, webhook, 1)
