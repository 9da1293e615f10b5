"""Whatever the order of reports, their repetition and their division into batches: the same tables."""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aitp_cp.db import Connection, Database
from aitp_cp.protocol.reports import Report
from aitp_cp.tcts import service as tcts
from tests.ingest.support import Row, everything, normalised, project

Run = Callable[[list[list[Row]]], dict[str, list[Row]]]

# Few of everything, so that reports meet and contradict each other.
JTIS = [str(UUID(int=number)) for number in range(1, 8)]
NAMES = ["agent-a", "agent-b", "Agent-C"]
TIMES = [1_772_600_000 + 10 * step for step in range(6)]
GRANTS = st.lists(st.sampled_from(["read", "write", "admin", "écrire"]), max_size=2)


def members(**strategies: Any) -> st.SearchStrategy[dict[str, Any]]:
    """An object with each of these members present or not."""
    return st.fixed_dictionaries({}, optional=strategies)


jti = st.sampled_from(JTIS)
name = st.sampled_from(NAMES)
time = st.sampled_from(TIMES)
session = st.sampled_from(["s-1", "s-2"])
token = st.fixed_dictionaries(
    {"jti": jti, "iss": name, "sub": name},
    optional={"aud": name, "grants": GRANTS, "iat": time, "exp": time, "cnf": st.sampled_from(["k-1", "k-2"])},
)


def event(types: Iterable[str], payload: st.SearchStrategy[Any], **more: Any) -> st.SearchStrategy[dict[str, Any]]:
    required = {"type": st.sampled_from(sorted(types)), "ts": time, "payload": payload}
    return st.fixed_dictionaries(required | more, optional={"session_id": session, "grants": GRANTS})


handshakes = event(
    {"handshake.started", "handshake.complete", "handshake.completed", "handshake.failed"},
    members(
        tct=token,
        tcts=st.lists(token, max_size=2),
        grants=GRANTS,
        boundary=st.sampled_from(["intra", "inter"]),
        error=st.sampled_from(["refused", "expired"]),
        role=st.sampled_from(["initiator", "responder"]),
    ),
    run_id=st.sampled_from([None, "run-1", "run-2"]),
    aid_a=st.sampled_from([None, *NAMES]),
    aid_b=st.sampled_from([None, *NAMES]),
)
tokens = event({"tct.issued", "tct.renewal.issued"}, st.fixed_dictionaries({"tct": token}))
delegated = event(
    {"delegation.issued"},
    st.fixed_dictionaries(
        {"jti": jti, "parent_jti": jti, "delegator": name, "delegatee": name},
        optional={"scope": GRANTS, "iat": time, "exp": time},
    ),
)
revoked = event(
    {"tct.revoked", "delegation.revoked"}, st.fixed_dictionaries({"jti": jti}, optional={"revoked_at": time})
)
denied = st.fixed_dictionaries({"denied": jti, "at": time})
stories = st.lists(st.one_of(handshakes, tokens, delegated, delegated, revoked, denied), min_size=1, max_size=14)

quick = settings(
    max_examples=90,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)


@pytest.fixture
def outcome(database_url: str) -> Iterator[Run]:
    """The tables after some batches, in a loop of its own: Hypothesis calls the test many times."""
    db = Database(database_url, max_size=1)
    with asyncio.Runner() as runner:
        runner.run(db.open())
        yield lambda batches: runner.run(tables_after(db, batches))
        runner.run(db.close())


@quick
@given(story=stories, data=st.data())
def test_no_order_no_repetition_and_no_division_shows(outcome: Run, story: list[Row], data: st.DataObject) -> None:
    told = outcome([[step] for step in story])
    repeated = data.draw(st.lists(st.sampled_from(story), max_size=4))
    again = data.draw(st.permutations([*story, *repeated]))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(again)), max_size=4)))
    batches = [again[start:end] for start, end in zip([0, *cuts], [*cuts, len(again)], strict=True)]
    assert outcome(batches) == told


@quick
@given(story=st.lists(st.one_of(tokens, delegated, delegated, revoked, denied), min_size=1, max_size=14))
def test_exactly_what_hangs_from_a_revoked_token_is_revoked(outcome: Run, story: list[Row]) -> None:
    tables = outcome([[step] for step in story])
    causes = directly_revoked(story)
    since = dict(causes)
    edges = {(payload["jti"], payload["parent_jti"]) for payload in payloads(story, "delegation.issued")}
    for _ in JTIS:  # no chain is longer than there are ids
        for child, parent in edges:
            if parent in since:
                since[child] = min(since.get(child, since[parent]), since[parent])
    for row in tables["delegations"]:
        own = str(row["jti"])
        reason = None if own not in since else "explicit" if own in causes else "parent_revoked"
        assert (row["revoked"], row["revoked_at"], row["revoked_reason"]) == (own in since, since.get(own), reason)
    of_tokens = directly_revoked([step for step in story if step.get("type") != "delegation.revoked"])
    for row in tables["issued_tcts"]:
        assert row["revoked"] == (str(row["jti"]) in of_tokens)


async def tables_after(db: Database, batches: list[list[Row]]) -> dict[str, list[Row]]:
    """The tables after these batches, each step of which is an event or an entry of the deny list."""
    async with db.connection() as conn:
        undone: Any = conn.transaction()
        await undone.start()
        for batch in batches:
            await project(conn, [told(step) for step in batch if "denied" not in step])
            for step in batch:
                if "denied" in step:
                    await deny(conn, step)
        tables = await everything(conn)
        await undone.rollback()
    return tables


def told(step: Row) -> Report:
    [report] = normalised(step)
    return report


async def deny(conn: Connection, step: Row) -> None:
    """What the revocation room does; the earliest entry stands, or the order of two entries would show by contract."""
    statement = """INSERT INTO revocation_entries AS known (jti, revoked_at) VALUES ($1, $2)
                   ON CONFLICT (jti) DO UPDATE SET revoked_at = LEAST(known.revoked_at, excluded.revoked_at)"""
    jti = UUID(step["denied"])
    await conn.execute(statement, jti, moment(step["at"]))
    await tcts.revoke(conn, {jti: moment(step["at"])})


def directly_revoked(story: list[Row]) -> dict[str, datetime]:
    found: dict[str, datetime] = {}
    for step in story:
        if "denied" in step:
            jti, since = step["denied"], moment(step["at"])
        elif step["type"] in {"tct.revoked", "delegation.revoked"}:
            jti, since = step["payload"]["jti"], moment(step["payload"].get("revoked_at", step["ts"]))
        else:
            continue
        found[jti] = min(found.get(jti, since), since)
    return found


def payloads(story: list[Row], kind: str) -> list[Row]:
    return [step["payload"] for step in story if step.get("type") == kind]


def moment(seconds: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
