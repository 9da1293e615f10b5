"""One breaker per webhook, shared by all processes (contract, section 12)."""

import asyncio
from collections import Counter
from typing import Any

import pytest

from aitp_cp.deliveries.dispatcher import Dispatcher
from aitp_cp.deliveries.queue import LEASE
from tests.deliveries.support import (
    LOCAL,
    breaker_of,
    delivering,
    ended,
    log_of,
    pass_time,
    patch,
    report,
    sql,
    subscribe,
    wake,
)
from tests.support.app import App, running_app
from tests.support.receiver import HANG_SECS, Answer, always, receiver
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

CLOSED = {"state": "closed", "failures": 0, "consecutiveSuccesses": 0, "openedAt": None, "nextProbeAt": None}
THREE = {"WEBHOOK_BREAKER_FAILURE_THRESHOLD": "3"}


async def opened(app: App, webhook: dict[str, Any], failures: int = 3) -> dict[str, Any]:
    """The breaker as soon as it is open and nothing is in flight any more."""

    async def settled() -> dict[str, Any] | None:
        if not await state(app, webhook, "open") or await log_of(app, webhook, status="in_flight"):
            return None
        breaker = await breaker_of(app, webhook)
        return breaker if breaker["failures"] >= failures else None

    found: dict[str, Any] = await until(settled)
    return found


async def failed(app: App, webhook: dict[str, Any], failures: int) -> dict[str, Any]:
    """The breaker once it has counted so many failures."""

    async def counted() -> dict[str, Any] | None:
        breaker = await breaker_of(app, webhook)
        return breaker if breaker["failures"] >= failures else None

    found: dict[str, Any] = await until(counted)
    return found


async def state(app: App, webhook: dict[str, Any], wanted: str) -> bool:
    return bool((await breaker_of(app, webhook))["state"] == wanted)


async def test_it_opens_after_so_many_failures_in_a_row(database_url: str) -> None:
    async with receiver(Answer(500)) as there, delivering(database_url, **THREE) as app:
        webhook, began = await subscribe(app, there.url), app.clock()
        await report(app, 2)
        assert await failed(app, webhook, 2) == CLOSED | {"failures": 2}
        await report(app, 1)
        breaker = await opened(app, webhook)
        assert breaker["failures"] == 3
        assert breaker["nextProbeAt"] - breaker["openedAt"] == 60_000
        assert began.timestamp() - 0.001 <= breaker["openedAt"] / 1000 <= app.clock().timestamp()


async def test_claims_do_not_outrun_it(database_url: str) -> None:
    """While failures wait to be recorded their places are taken, or fast failures would spend the whole queue."""
    async with receiver(Answer(500)) as there, running_app(database_url, **{**LOCAL, **THREE}) as app:
        webhook, dispatcher = await subscribe(app, there.url), app.rt.get(Dispatcher)
        await report(app, 20)
        async with app.rt.db.connection() as conn, conn.transaction():
            await conn.execute("SELECT FROM webhooks FOR UPDATE")  # records wait for this row
            for _ in range(4):
                await dispatcher.turn()
                await until(lambda: not dispatcher.in_flight)
        assert len(there.got) == 2
        dispatcher.start()
        await opened(app, webhook)
        assert len(there.got) in (3, 4)


async def test_a_success_in_between_starts_the_count_anew(database_url: str) -> None:
    async with receiver(Answer(500)) as there, delivering(database_url, **THREE) as app:
        webhook = await subscribe(app, there.url)
        await report(app, 2)
        await failed(app, webhook, 2)
        there.behave = always(Answer())
        await report(app, 1)
        await ended(app, webhook, 1)
        assert (await breaker_of(app, webhook)) == CLOSED | {"consecutiveSuccesses": 1}
        there.behave = always(Answer(500))
        await report(app, 2)
        assert await failed(app, webhook, 2) == CLOSED | {"failures": 2}


async def test_while_it_is_open_nothing_is_sent_and_no_attempt_is_spent(database_url: str) -> None:
    async with receiver(Answer(500)) as there, delivering(database_url, **THREE) as app:
        webhook = await subscribe(app, there.url)
        await report(app, 3)
        await opened(app, webhook)
        sent = len(there.got)
        await report(app, 40)
        await pass_time(app, seconds=50)
        await asyncio.sleep(0.5)
        waiting = [row for row in await log_of(app, webhook) if row["attempts"] == 0]
        assert len(waiting) == 40
        assert len(there.got) == sent

        async def spread() -> bool:
            due = {row["nextRetryAt"] for row in await log_of(app, webhook) if row["attempts"] == 0}
            return len(due) >= 35

        await until(spread)
        ((first, last),) = await sql(
            app,
            "SELECT min(next_retry_at - breaker_next_probe_at), max(next_retry_at - breaker_next_probe_at) "
            "FROM webhook_deliveries JOIN webhooks ON webhooks.id = webhook_id WHERE next_retry_at > $1",
            app.clock(),
        )
        assert 0 <= first.total_seconds() < last.total_seconds() <= 30


async def test_the_probe_closes_it_and_everything_is_delivered(database_url: str) -> None:
    async with receiver(Answer(500)) as there, delivering(database_url, **THREE) as app:
        webhook = await subscribe(app, there.url)
        await report(app, 6)
        await opened(app, webhook)
        there.behave = always(Answer())
        await pass_time(app, seconds=61)
        await until(lambda: state(app, webhook, "closed"))
        assert (await breaker_of(app, webhook)) == CLOSED | {"consecutiveSuccesses": 1}
        await pass_time(app, minutes=10)
        await ended(app, webhook, 6)


async def test_a_failed_probe_opens_it_again(database_url: str) -> None:
    async with receiver(Answer(500)) as there, delivering(database_url, **THREE) as app:
        webhook = await subscribe(app, there.url)
        await report(app, 4)
        before = await opened(app, webhook)
        sent = len(there.got)
        await pass_time(app, seconds=61)
        after = await opened(app, webhook, before["failures"] + 1)
        assert len(there.got) == sent + 1
        assert after["openedAt"] > before["openedAt"]
        assert after["nextProbeAt"] == after["openedAt"] + 60_000


async def test_one_probe_among_all_processes(database_url: str) -> None:
    async with (
        receiver(Answer(500)) as there,
        delivering(database_url, **THREE) as one,
        delivering(database_url, **THREE) as two,
        delivering(database_url, **THREE) as three,
    ):
        webhook = await subscribe(one, there.url)
        await report(one, 30)
        await opened(one, webhook)
        sent = len(there.got)
        answered = asyncio.Event()
        there.behave = always(Answer(after=answered))
        await pass_time(one, two, three, seconds=90)
        await there.wait_for(sent + 1)
        for _ in range(10):
            assert (await breaker_of(one, webhook))["state"] == "half_open"
            assert len(there.got) == sent + 1
            await asyncio.sleep(0.05)
        answered.set()
        await until(lambda: state(one, webhook, "closed"))
        await pass_time(one, two, three, minutes=15)
        await ended(one, webhook, 30)
        counts = Counter(got.headers["x-aitp-delivery"] for got in there.got)
        assert all(counts[row["id"]] == row["attempts"] for row in await log_of(one, webhook))


async def test_a_probe_whose_process_dies_is_followed_by_another(database_url: str) -> None:
    async with receiver(Answer(500)) as there, running_app(database_url, **THREE, **LOCAL) as app:
        webhook = await subscribe(app, there.url)
        async with delivering(database_url, **THREE) as other:
            await report(app, 4)
            await opened(app, webhook)
            there.behave = always(Answer(wait_secs=HANG_SECS))
            sent = len(there.got)
            await pass_time(other, seconds=61)
            await there.wait_for(sent + 1)
            for task in asyncio.all_tasks():
                if task.get_name() == "item:deliveries.send":
                    task.cancel()
        assert (await breaker_of(app, webhook))["state"] == "half_open"
        there.behave = always(Answer())
        async with delivering(database_url, **THREE) as heir:
            wake(heir)
            await asyncio.sleep(0.5)
            assert len(there.got) == sent + 1
            await pass_time(heir, seconds=LEASE.total_seconds())
            await until(lambda: state(app, webhook, "closed"))


async def test_what_was_on_its_way_does_not_open_it_further(database_url: str) -> None:
    opened_by_others = asyncio.Event()
    async with receiver() as there, delivering(database_url, **THREE) as app:
        there.behave = lambda _: Answer(500, after=opened_by_others if len(there.got) == 1 else None)
        webhook = await subscribe(app, there.url)
        await report(app, 1 + 3)
        before = await failed(app, webhook, 3)
        assert before["state"] == "open"
        opened_by_others.set()
        assert await failed(app, webhook, 4) == before | {"failures": 4}


async def test_resetting_by_hand_sends_again_at_once(database_url: str) -> None:
    async with receiver(Answer(500)) as there, delivering(database_url, **THREE) as app:
        webhook = await subscribe(app, there.url)
        await report(app, 3)
        await opened(app, webhook)
        there.behave = always(Answer())
        reset = await app.post(f"/api/webhooks/{webhook['id']}/circuit-breaker/reset", {})
        assert reset.json() == CLOSED
        await report(app, 1)
        await ended(app, webhook, 1)


@pytest.mark.parametrize("how", ["url", "active"])
async def test_a_new_address_or_a_reactivation_starts_afresh(database_url: str, how: str) -> None:
    async with receiver(Answer(500)) as bad, receiver() as good, delivering(database_url, **THREE) as app:
        webhook = await subscribe(app, bad.url)
        await report(app, 3)
        await opened(app, webhook)
        await patch(app, webhook, events=[], secret="new")
        assert (await breaker_of(app, webhook))["state"] == "open"
        if how == "url":
            await patch(app, webhook, url=good.url)
        else:
            await patch(app, webhook, active=False)
            await patch(app, webhook, active=True)
        assert await breaker_of(app, webhook) == CLOSED


async def test_one_webhook_s_breaker_is_nobody_else_s(database_url: str) -> None:
    async with receiver(Answer(500)) as bad, receiver() as good, delivering(database_url, **THREE) as app:
        broken, fine = await subscribe(app, bad.url), await subscribe(app, good.url)
        await report(app, 10)
        await opened(app, broken)
        await ended(app, fine, 10)
        assert await breaker_of(app, fine) == CLOSED
