"""A reporter's clock decides neither what is newest for ever nor what is deleted (rows 30, A10)."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from aitp_cp.clock import iso, now
from aitp_cp.deliveries import outbox
from aitp_cp.retention import service as retention
from aitp_cp.retention.jobs import sweep_once
from aitp_cp.settings import load
from tests.support.app import ENVIRONMENT, App, running_app
from tests.support.rows import execute, value

pytestmark = pytest.mark.anyio

HISTORY = "/api/events/history"
FAR = "9999-12-31T23:59:59.999Z"
AGE_EVENTS = "UPDATE audit_events SET created_at = created_at - interval '91 days' WHERE type = $1"


@pytest.fixture
async def app(database_url: str) -> AsyncIterator[App]:
    async with running_app(database_url) as running:
        yield running


def event(type: str, ts: Any = None, **more: Any) -> dict[str, Any]:
    return {
        "type": type,
        "ts": iso(now()) if ts is None else ts,
        "aid_a": "a",
        "run_id": "r",
        "session_id": "s",
        **more,
    }


async def types(app: App, query: str = "") -> list[str]:
    events = (await app.get(f"{HISTORY}?{query}")).json()["events"]
    return [found["type"] for found in events]


async def test_a_time_in_the_future_counts_as_five_minutes_after_the_receipt(app: App) -> None:
    """Row A10: events that claim the year 9999 were the newest page of history for ever."""
    await app.post("/api/events", [event("far", FAR, id=number) for number in range(200)])
    await app.post("/api/events", [event("soon", iso(now() + timedelta(minutes=4)))])
    app.clock.ahead = timedelta(minutes=6)
    await app.post("/api/events", [event("later", iso(now() + timedelta(minutes=6)))])
    for query in ("", "&aid=a", "&runId=r", "&sessionId=s"):
        assert (await types(app, f"limit=2{query}")) == ["later", "far"]
        assert (await types(app, f"limit=300{query}")) == ["later", *["far"] * 200, "soon"]
    exported = (await app.get("/api/sessions/s/replay")).json()["events"]
    assert [found["type"] for found in exported] == ["soon", *["far"] * 200, "later"]
    assert {found["ts"] for found in exported if found["type"] == "far"} == {FAR}


async def test_filters_stay_on_the_time_that_is_shown(app: App) -> None:
    """Row A10: `since` and `until` are inclusive on the `ts` of the answer, on every way to it."""
    await app.post(
        "/api/events", [event("past", "2020-01-01"), event("now"), event("far", FAR), event("3000", "3000-01-01")]
    )
    for query in ("", "&aid=a", "&runId=r", "&type=far", "&order=asc"):
        assert set(await types(app, f"since={FAR}{query}")) == {"far"}
        shown = set(await types(app, f"since=2999-12-31{query}"))
        assert shown == ({"far"} if "type" in query else {"far", "3000"})
        assert set(await types(app, f"until=9999-01-01{query}")) == (
            set() if "type" in query else {"past", "now", "3000"}
        )
    assert await types(app, "since=2019-12-31&until=2999-12-31") == ["now", "past"]
    assert await types(app, "since=2019-12-31&limit=3") == ["3000", "far", "now"]


async def test_reading_on_passes_claimed_times(app: App) -> None:
    """Row A10: keyset pages give each event once, in the clamped order, with and without `since`."""
    await app.post("/api/events", [event(f"e-{n}", FAR if n % 3 else None, id=n) for n in range(30)])
    whole = await types(app, "limit=100")
    for filters in ("", "&since=2020-01-01", "&aid=a", "&aid=a&since=2020-01-01"):
        seen: list[str] = []
        cursor = ""
        while True:
            page = (await app.get(f"{HISTORY}?limit=7{filters}{cursor}")).json()
            seen += [found["type"] for found in page["events"]]
            if "nextBefore" not in page:
                break
            cursor = f"&before={page['nextBefore']}"
        assert seen == whole


async def test_a_live_event_shows_what_it_claims(app: App) -> None:
    """Row A10: streams and the log's order show the reported time."""
    await app.post("/api/events", [event("far", FAR)])
    [found] = (await app.get(f"{HISTORY}?order=asc&after=0")).json()["events"]
    assert found["ts"] == FAR


async def test_retention_goes_by_receipt_and_a_false_time_resets_nobody(app: App) -> None:
    """Row 30: one event with `ts: 0` was swept at once, and pushed the horizon to the head of the log."""
    await app.post("/api/events", [event("old", FAR), event("old")])
    await app.post("/api/events", [event("false", 0), event("young")])
    await execute(app, AGE_EVENTS, "old")
    async with asyncio.timeout(20):
        while await value(app, "SELECT enqueued_through FROM webhook_outbox") < 4:
            await outbox.step(app.rt.db)
    for _ in range(2):
        await sweep_once(app.rt)
        assert await types(app, "order=asc") == ["false", "young"]
        newest = await value(app, "SELECT max(seq) FROM audit_events")
        assert await value(app, "SELECT deleted_through FROM log_horizon") == newest - 2


async def test_what_is_swept_is_the_beginning_of_the_log(app: App) -> None:
    """Row 30: in the order of `seq`, up to the batch limit, whatever the events claim."""
    await app.post("/api/events", [event("old", (n * 7919) % 100_000, id=n) for n in range(40)])
    await execute(app, AGE_EVENTS, "old")
    await execute(app, "UPDATE webhook_outbox SET enqueued_through = (SELECT max(seq) FROM audit_events)")
    settings = load({**ENVIRONMENT, "DATABASE_URL": "postgresql://x", "RETENTION_BATCH_LIMIT": "15"}, command="serve")
    first = await value(app, "SELECT min(seq) FROM audit_events")
    for before, swept in ((0, 15), (15, 30), (30, 40)):
        async with app.rt.db.transaction() as conn:
            due = await retention.due(conn, settings, datetime.now(UTC), 1000)
            assert due["audit_events"] == 40 - before
            await retention.sweep(conn, settings, datetime.now(UTC))
        assert await value(app, "SELECT coalesce(min(seq), 0) FROM audit_events") == (
            first + swept if swept < 40 else 0
        )
        assert await value(app, "SELECT deleted_through FROM log_horizon") == first + swept - 1
