"""What waits to be stored is bounded, and what is not stored leaves nothing behind (rows 34, 36, 38, 40)."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest
from httpx import Response
from structlog.testing import capture_logs

from aitp_cp.db.locks import LOG, lock
from aitp_cp.ingest.writer import Writer
from client.tests.support import answered
from tests.support.app import AUTH, App, running_app
from tests.support.receiver import Answer
from tests.support.rows import break_inserts, counts, execute, value
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

WAITING = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'advisory'"
REFUSAL = """
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'no such character' USING ERRCODE = '{}'; END $$
"""
REFUSE = """
CREATE TRIGGER refuse BEFORE INSERT ON audit_events FOR EACH ROW WHEN (NEW.run_id = 'bad') EXECUTE FUNCTION refuse()
"""
DONE = b'{"ingested":1,"inserted":1,"duplicates":0,"dropped":0,"errors":[]}'


@pytest.fixture
async def app(database_url: str) -> AsyncIterator[App]:
    async with running_app(database_url) as running:
        yield running


def event(**more: Any) -> dict[str, Any]:
    return {"type": "demo.event", "id": str(uuid4()), **more}


def large() -> bytes:
    return json.dumps([event(payload={"x": "x" * 59_900})]).encode()


async def post(app: App, body: Any, key: str | None = None) -> Response:
    headers = AUTH if key is None else {**AUTH, "Idempotency-Key": key}
    return await app.http.post("/api/events", content=body, headers=headers)


async def waiting_groups(app: App, count: int) -> None:
    async with asyncio.timeout(20):
        while await value(app, WAITING) != count:
            await asyncio.sleep(0.01)


def gauge(app: App) -> float | None:
    return app.rt.metrics.registry.get_sample_value("aitp_control_plane_ingest_waiting_bytes")


def busy(response: Response) -> bool:
    told = (response.status_code, response.json().get("code"), response.headers.get("retry-after"))
    return told == (503, "INGEST_BUSY", "1")


async def test_batches_that_wait_are_bounded_in_bytes(app: App) -> None:
    """Row 36: while the log was held, batches gathered without a limit."""
    backlog = app.rt.get(Writer).backlog
    assert backlog.limit == 32 * 1024 * 1024
    backlog.limit = 100_000
    async with app.rt.db.transaction() as holding:
        await lock(holding, LOG)
        first = asyncio.create_task(post(app, large()))
        await waiting_groups(app, 1)
        for key in (None, "key"):
            assert busy(await post(app, large(), key))
        small = asyncio.create_task(post(app, json.dumps([event()]).encode()))
        await until(lambda: backlog.bytes > 60_050)
        assert gauge(app) == backlog.bytes < 61_000
    assert [(await task).json()["inserted"] for task in (first, small)] == [1, 1]
    assert (backlog.bytes, gauge(app)) == (0, 0)
    assert (await post(app, large(), "key")).json()["inserted"] == 1  # a refusal that passes is not remembered


async def test_a_body_counts_from_its_first_chunk_to_its_end(app: App) -> None:
    """Row 36: many slow uploads hold as much memory as batches that wait."""
    backlog = app.rt.get(Writer).backlog
    backlog.limit = 100_000
    body, arrived = large(), asyncio.Event()

    async def slowly() -> AsyncIterator[bytes]:
        yield body[:50_000]
        await arrived.wait()
        yield body[50_000:]

    slow = asyncio.create_task(post(app, slowly()))
    await until(lambda: backlog.bytes == 50_000)
    assert busy(await post(app, large()))
    arrived.set()
    assert (await slow).json()["inserted"] == 1
    for refused in (b"[", b"x" * 99_000, b'[{"payload":"%s"}]' % (b"x" * 70_000)):
        assert (await post(app, refused)).status_code in {400, 413}
    assert backlog.bytes == 0


async def test_batches_under_keys_share_a_transaction_and_keep_their_answers(app: App) -> None:
    """Row 34: each batch with an Idempotency-Key was a commit of its own under the log lock."""
    bodies = {str(uuid4()): json.dumps([event(), event(), "no object"]).encode() for _ in range(60)}
    before = app.rt.db.commits
    first = await asyncio.gather(*(post(app, body, key) for key, body in bodies.items()))
    assert app.rt.db.commits - before < 20
    assert {response.json()["inserted"] for response in first} == {2}
    again = await asyncio.gather(*(post(app, body, key) for key, body in bodies.items()))
    assert [response.content for response in again] == [response.content for response in first]
    assert {response.headers.get("idempotency-replayed") for response in again} == {"true"}
    assert await counts(app) == {"audit_events": 120, "idempotency_keys": 60}


async def test_one_key_at_once_is_one_effect_whatever_the_group(app: App) -> None:
    """Row 34: lock, effect and stored answer are still one transaction."""
    body, other = (json.dumps([{"type": "a"}, {"type": kind}]).encode() for kind in "bc")
    responses = await asyncio.gather(*(post(app, body if n % 3 else other, "key") for n in range(30)))
    statuses = {response.status_code for response in responses}
    assert statuses <= {200, 409, 422}
    assert 200 in statuses
    assert {response.json().get("code") for response in responses if response.status_code != 200} <= {
        "IDEMPOTENCY_IN_FLIGHT",
        "IDEMPOTENCY_KEY_REUSED",
    }
    assert await counts(app) == {"audit_events": 2, "idempotency_keys": 1}


async def test_an_answer_that_cannot_be_kept_stores_no_event(app: App) -> None:
    """Row 34: one transaction, also for the other batches of a group, which are stored without the bad one."""
    await break_inserts(app, "idempotency_keys")
    responses = await asyncio.gather(
        post(app, json.dumps([event(), event()]), "key"), *(post(app, json.dumps([event()])) for _ in range(5))
    )
    assert [response.status_code for response in responses] == [500, *[200] * 5]
    assert await counts(app) == {"audit_events": 5}


@pytest.mark.parametrize(
    ("batch", "keyed"),
    [
        ([{"type": "a", "id": "1"}, {"type": "a", "ts": 1}, {"type": "a", "ts": "never"}], False),
        ([], False),
        ([{"type": "a", "ts": 1}, {"type": "a"}], True),
        ([{"type": "a", "ts": None, "id": ""}], True),
    ],
)
async def test_the_client_sends_a_key_only_where_the_content_is_none(batch: list[Any], keyed: bool) -> None:
    """Row 34: the client sent an Idempotency-Key with every batch whose events had no id."""
    async with answered(Answer(body=DONE)) as (client, there):
        await client.events.report(batch)
        assert ("idempotency-key" in there.got[0].headers) == keyed


async def test_what_another_group_stored_first_is_not_projected(database_url: str) -> None:
    """Row 38: of two concurrent groups with one id and two bodies, both were projected and one was stored."""
    async with running_app(database_url) as one, running_app(database_url) as other:
        async with one.rt.db.transaction() as holding:
            await lock(holding, LOG)
            posted = []
            for number, app in enumerate((one, other)):
                started = {"type": "handshake.started", "id": "same", "session_id": f"s-{number}"}
                batch = [started, event(type="handshake.started", session_id=f"own-{number}")]
                posted.append(asyncio.create_task(post(app, json.dumps(batch))))
                await waiting_groups(one, number + 1)
        told = [(await task).json() for task in posted]
        assert sorted((response["inserted"], response["duplicates"]) for response in told) == [(1, 1), (2, 0)]
        stored = {event["sessionId"] for event in (await one.get("/api/events/history")).json()["events"]}
        projected = {row["sessionId"] for row in (await one.get("/api/sessions")).json()["sessions"]}
        assert projected == stored
        assert len(stored & {"s-0", "s-1"}) == 1


async def test_a_group_that_fails_says_why_once(app: App) -> None:
    """Row 40: a group that failed for another reason than the database was retried without a word."""
    await execute(app, REFUSAL.format("P0001"))
    await execute(app, REFUSE)
    with capture_logs() as lines:
        responses = await asyncio.gather(
            *(post(app, json.dumps([event(run_id="bad" if number == 3 else "good")])) for number in range(8))
        )
    assert [response.status_code for response in responses] == [500 if number == 3 else 200 for number in range(8)]
    [line] = [line for line in lines if line["event"] == "ingest_group_failed"]
    assert (line["log_level"], line["requests"]) == ("error", 8)
    assert "no such character" in str(line["exc_info"])


async def test_what_the_database_cannot_hold_is_the_fault_of_its_item(app: App) -> None:
    """Row 18: text that the database's encoding has no character for made the whole batch a 500, for ever."""
    await execute(app, REFUSAL.format("22P05"))
    await execute(app, REFUSE)
    batch = [event(run_id="bad" if number in {3, 17} else "good") for number in range(20)]
    batch.insert(1, "no object")  # type: ignore[arg-type]  # as a reporter may
    response = await post(app, json.dumps(batch), "key")
    assert response.status_code == 200, response.text
    told = response.json()
    assert (told["inserted"], told["dropped"]) == (18, 3)
    reasons = [(problem["index"], problem["field"], problem["reason"]) for problem in told["errors"]]
    unfit = "cannot be stored in this database"
    assert reasons == [(1, "event", "is not an object"), (4, "event", unfit), (18, "event", unfit)]
    assert await counts(app) == {"audit_events": 18, "idempotency_keys": 1}
