"""Leases and due times are the database's: a process whose clock is wrong changes nothing."""

import asyncio
from collections import Counter
from datetime import timedelta

import pytest

from aitp_cp.deliveries.queue import LEASE
from aitp_cp.truststore.refresher import JwksRefresher
from tests.deliveries.support import LOCAL, breaker_of, delivering, ended, log_of, quiet, report, sql, subscribe, wake
from tests.support.app import running_app
from tests.support.provider import Provider
from tests.support.receiver import Answer, Received, receiver
from tests.support.waiting import until
from tests.truststore.support import create

pytestmark = pytest.mark.anyio

OFF = (timedelta(seconds=40), timedelta(seconds=-40), LEASE * 10)


@pytest.mark.parametrize("off", OFF)
async def test_a_slow_receiver_gets_each_delivery_once_whatever_the_clocks_say(
    database_url: str, off: timedelta
) -> None:
    """Row 8: two replicas, one clock 40 s ahead: what one was sending the other took for abandoned, and sent again."""
    answered = asyncio.Event()
    async with receiver(Answer(after=answered)) as there, delivering(database_url) as right:
        async with delivering(database_url) as wrong:
            wrong.clock.ahead = off
            hooks = [await subscribe(right, there.url) for _ in range(3)]
            await report(right, 2)
            await there.wait_for(6)
            for _ in range(5):
                wake(right)
                wake(wrong)
                await asyncio.sleep(0.1)
            assert len(there.got) == 6
            answered.set()
            for hook in hooks:
                assert {row["attempts"] for row in await ended(right, hook, 2)} == {1}
        counts = Counter(got.headers["x-aitp-delivery"] for got in there.got)
        assert set(counts.values()) == {1}


@pytest.mark.parametrize("off", OFF)
async def test_a_retry_is_due_by_the_database(database_url: str, off: timedelta) -> None:
    """Row 8: the pause of half a minute is neither spent at once nor doubled by a clock."""
    async with receiver(Answer(500)) as there, delivering(database_url, WEBHOOK_BREAKER_FAILURE_THRESHOLD="1") as app:
        app.clock.ahead = off
        hook = await subscribe(app, there.url)
        await report(app)

        async def opened() -> bool:
            return bool((await breaker_of(app, hook))["state"] == "open")

        await until(opened)
        ((retry, probe),) = await sql(
            app,
            "SELECT next_retry_at - now(), breaker_next_probe_at - now()"
            " FROM webhook_deliveries JOIN webhooks ON webhooks.id = webhook_id",
        )
        assert 20 < retry.total_seconds() < 37
        assert 50 < probe.total_seconds() <= 60


async def test_replicas_with_different_clocks_fetch_a_key_set_once(database_url: str) -> None:
    """Row 8: anchors are claimed and due by the database, too."""
    async with Provider() as provider:
        provider.say("/keys", {"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "AAAA"}]})
        provider.silent.add("/keys")
        async with running_app(database_url, **LOCAL) as right, running_app(database_url, **LOCAL) as wrong:
            wrong.clock.ahead = timedelta(minutes=5)
            await create(right, provider.url, jwksUrl=f"{provider.url}/keys")
            fetches = [asyncio.create_task(app.rt.get(JwksRefresher).run_due()) for app in (right, wrong)]
            await provider.asked_for("/keys")
            await asyncio.gather(*(app.rt.get(JwksRefresher).run_due() for app in (wrong,)))
            assert provider.asked["/keys"] == 1
            for fetch in fetches:
                fetch.cancel()
            await asyncio.gather(*fetches, return_exceptions=True)


PROBE_DUE = """
UPDATE webhooks SET breaker_state = 'open', breaker_failures = 9, breaker_opened_at = now() - interval '1 hour',
    breaker_next_probe_at = now() - interval '1 minute'
"""


async def test_webhooks_without_anything_to_send_take_no_probe(database_url: str) -> None:
    """Row 28: eight open breakers with nothing due were claimed for ever; a ninth that recovered was never probed."""
    async with receiver() as there, running_app(database_url, **LOCAL) as app:
        for _ in range(9):
            await subscribe(app, "http://127.0.0.1:9/")
        await report(app)
        await sql(app, "UPDATE webhook_deliveries SET status = 'failed', attempts = 6, next_retry_at = NULL")
        ninth = await subscribe(app, there.url)
        await report(app)
        await sql(app, "DELETE FROM webhook_deliveries WHERE status = 'pending' AND webhook_id <> $1", ninth["id"])
        await sql(app, PROBE_DUE)
        async with delivering(database_url):
            await ended(app, ninth, 1)
            assert (await breaker_of(app, ninth))["state"] == "closed"


async def test_the_breaker_that_waited_longest_is_probed_first(database_url: str) -> None:
    """Row 28: eight receivers that fail must not take every probe from the others."""
    tried: list[int] = []  # how often the bad one had been tried when a good one was

    def response(_: Received) -> Answer:
        tried.append(len(bad.got))
        return Answer()

    async with receiver(Answer(500)) as bad, receiver(response) as good, running_app(database_url, **LOCAL) as app:
        for _ in range(12):
            await subscribe(app, bad.url)
        waiting = [await subscribe(app, good.url) for _ in range(3)]
        await report(app)
        await sql(app, PROBE_DUE)
        await sql(
            app,
            "UPDATE webhooks SET breaker_next_probe_at = now() - interval '2 minutes' WHERE id = ANY($1::uuid[])",
            [hook["id"] for hook in waiting],
        )
        async with delivering(database_url):
            for hook in waiting:
                await ended(app, hook, 1)
        assert max(tried) <= 8


async def test_deliveries_that_are_used_up_end_behind_an_open_breaker(database_url: str) -> None:
    """Row 28: a process died in the last attempt: the delivery has failed, and nobody looks ten times a second."""
    async with running_app(database_url, **LOCAL) as app:
        hook = await subscribe(app, "http://127.0.0.1:9/")
        await report(app)
        await sql(app, PROBE_DUE)
        await sql(
            app,
            "UPDATE webhook_deliveries SET status = 'in_flight', attempts = 6, next_retry_at = NULL,"
            " lease_until = now() - interval '1 second', lease_token = gen_random_uuid()",
        )
        async with delivering(database_url):
            await ended(app, hook, 1, "failed")
            assert await quiet(app)
        assert (await log_of(app, hook))[0]["error"] == "the last attempt was cut short"
