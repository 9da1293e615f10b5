"""Both sides of a handshake, and every retry, report into one row."""

from datetime import timedelta
from typing import Any

import pytest

from aitp_cp.db import Database
from aitp_cp.sessions import service
from tests.ingest.support import at, normalised, only, store, store_each

pytestmark = pytest.mark.anyio


def event(type: str, time: str, **more: Any) -> dict[str, Any]:
    return {"type": f"handshake.{type}", "ts": f"2026-03-04T{time}Z", "session_id": "s-1", **more}


STARTED = event("started", "12:00:00", aid_a="initiator")
COMPLETE = event("complete", "12:00:05", run_id="run-1", grants=["write"], payload={"boundary": "inter"})
OTHER_SIDE = event("completed", "12:00:06", aid_b="responder", grants=["read", "write"])
FAILED = event("failed", "12:00:03", payload={"error": "refused"})


@pytest.mark.parametrize("story", [[STARTED, COMPLETE, OTHER_SIDE], [OTHER_SIDE, COMPLETE, STARTED, STARTED]])
async def test_later_reports_fill_what_is_missing(db: Database, story: list[dict[str, Any]]) -> None:
    await store_each(db, story)
    assert await only(db, "handshake_sessions") == {
        "session_id": "s-1",
        "aid_a": "initiator",
        "aid_b": "responder",
        "status": "complete",
        "grants": ["read", "write"],
        "run_id": "run-1",
        "boundary": "inter",
        "error": None,
        "started_at": at("12:00"),
        "completed_at": at("12:00:05"),
    }


async def test_a_terminal_report_alone_makes_the_row(db: Database) -> None:
    await store(db, FAILED)
    row = await only(db, "handshake_sessions")
    assert (row["status"], row["error"], row["started_at"]) == ("failed", "refused", None)
    await store(db, STARTED)
    row = await only(db, "handshake_sessions")
    assert (row["status"], row["error"], row["started_at"]) == ("failed", "refused", at("12:00"))


@pytest.mark.parametrize("story", [[FAILED, COMPLETE], [COMPLETE, FAILED]])
async def test_complete_wins_over_failed(db: Database, story: list[dict[str, Any]]) -> None:
    await store_each(db, story)
    row = await only(db, "handshake_sessions")
    assert (row["status"], row["error"], row["completed_at"]) == ("complete", None, at("12:00:05"))


async def test_two_sides_that_both_call_themselves_first_are_still_both_named(db: Database) -> None:
    for holder, issuer in (("a", "b"), ("b", "a")):
        tct = {"jti": "00000000-0000-4000-8000-00000000000" + holder, "sub": holder, "iss": issuer}
        await store(db, event("complete", "12:00:05", payload={"tct": tct}))
    row = await only(db, "handshake_sessions")
    assert (row["aid_a"], row["aid_b"]) == ("a", "b")


async def test_a_report_that_says_nothing_new_leaves_the_row_alone(db: Database) -> None:
    written = "SELECT created_at, updated_at, xmin::text FROM handshake_sessions"
    async with db.connection() as conn:
        await service.project(conn, normalised(STARTED, COMPLETE), at("13:00"))
        before = await conn.fetchrow(written)
        await service.project(conn, normalised(COMPLETE), at("13:01"))
        assert await conn.fetchrow(written) == before
        await service.project(conn, normalised(OTHER_SIDE), at("13:02"))
        after = await conn.fetchrow(written)
    assert before is not None
    assert after is not None
    assert (after["created_at"], after["updated_at"]) == (at("13:00"), at("13:00") + timedelta(minutes=2))


async def test_what_an_older_control_plane_left_in_a_row_is_no_obstacle(db: Database) -> None:
    async with db.connection() as conn:
        await conn.execute("INSERT INTO handshake_sessions (session_id, status, grants) VALUES ('s-1', 'odd', 'null')")
    await store(db, COMPLETE)
    row = await only(db, "handshake_sessions")
    assert (row["status"], row["grants"]) == ("complete", ["write"])


async def test_grants_of_one_session_have_an_end(db: Database) -> None:
    for start in (900, 0, 500):
        await store(db, event("complete", "12:00:05", grants=[f"g{number:04}" for number in range(start, start + 500)]))
    row = await only(db, "handshake_sessions")
    assert row["grants"] == [f"g{number:04}" for number in range(1000)]
