"""Two callers report the same thing: the log's order decides, nobody replaces what is there (row A9)."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aitp_cp.clock import now
from aitp_cp.db import Connection, Database
from aitp_cp.ingest import service
from aitp_cp.protocol.reports import Report, Reporter, normalise
from aitp_cp.sessions import service as sessions
from aitp_cp.tcts import callers, delegating
from aitp_cp.tcts import service as tcts
from tests.ingest.support import TABLES, Row, app
from tests.ingest.test_any_order import handshakes, stories, tokens
from tests.support.agents import new_agent
from tests.support.app import App

__all__ = ["app"]

pytestmark = pytest.mark.anyio

A, B, C = "key:a", "key:b", "key:c"
ALICE, BOB, MALLORY = (new_agent().aid for _ in range(3))
NAMES = [ALICE, BOB, MALLORY, "!", "name"]
JTI, PARENT, OTHER = (str(UUID(int=number, version=4)) for number in (1, 2, 3))
KEPT = {table: f"{columns}, reported_by, conflict, caller_states" for table, columns in TABLES.items()} | {
    "delegation_parents": "jti, parent_jti",
    "revoked_reports": "jti, kind, revoked_at, reported_by",
}
Step = tuple[str, Row]

quick = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)


@pytest.fixture
async def db(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url, max_size=4)
    await database.open()
    yield database
    await database.close()


def told_by(caller: str, event: Row) -> Report:
    [report] = normalise(json.dumps([event]).encode(), Reporter(caller), now(), uuid4).reports
    return report


async def tell(db: Database, *steps: Step) -> None:
    """Each report as a batch of its own, the way the API stores it."""
    for caller, event in steps:
        async with db.transaction() as conn:
            await service.store_group(conn, [told_by(caller, event)], now())


async def everything(conn: Connection) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for table, columns in KEPT.items():
        rows = await conn.fetch(f"SELECT {columns} FROM {table} ORDER BY 1, 2")
        found[table] = [dict(row) for row in rows]
    return found


async def only(db: Database, table: str) -> Row:
    async with db.connection() as conn:
        [row] = (await everything(conn))[table]
    row.update({name: json.loads(row[name]) for name in ("grants", "scope") if name in row})
    return row


def tct(**claims: Any) -> Row:
    said = {"jti": JTI, "iss": ALICE, "sub": BOB, "grants": ["read"], "iat": 1_772_600_000} | claims
    return {"type": "tct.issued", "id": str(uuid4()), "payload": {"tct": said}}


def delegation(**claims: Any) -> Row:
    said = {"jti": JTI, "parent_jti": PARENT, "iss": ALICE, "sub": BOB, "scope": ["read"]} | claims
    return {"type": "delegation.issued", "id": str(uuid4()), "payload": said}


def handshake(kind: str, **members: Any) -> Row:
    common = {"type": f"handshake.{kind}", "id": str(uuid4()), "session_id": "s-1", "ts": "2026-03-04T12:00:00Z"}
    return common | members


TRUE = {
    "issued_tcts": tct(exp=1_772_603_600, cnf="k"),
    "delegations": delegation(exp=1_772_603_600),
    "handshake_sessions": handshake("complete", aid_a=ALICE, aid_b=BOB, grants=["read"], run_id="run"),
}
GRANTS = [f"!{number:04}" for number in range(1000)]
FALSE = {
    "issued_tcts": tct(iss="!", sub="!", grants=GRANTS, iat=0, exp=1, cnf="!", session_id="!"),
    "delegations": delegation(iss="!", sub="!", scope=GRANTS, iat=0, exp=1, parent_jti=str(UUID(int=0))),
    "handshake_sessions": handshake("failed", aid_a="!", aid_b="!", grants=GRANTS, run_id="!", ts=0),
}


@pytest.mark.parametrize("table", TRUE)
async def test_a_false_report_of_another_caller_rewrites_nothing(db: Database, table: str) -> None:
    """Row A9: the true row stays, and shows that somebody says otherwise."""
    await tell(db, (A, TRUE[table]))
    before = await only(db, table)
    assert (before["reported_by"], bool(before["conflict"])) == (A, False)
    await tell(db, (B, FALSE[table]), (B, FALSE[table] | {"id": "again"}))
    after = await only(db, table)
    assert after["conflict"]
    ignored = dict.fromkeys(("conflict", "caller_states"))
    assert after | ignored == before | ignored


@pytest.mark.parametrize("table", TRUE)
async def test_a_name_that_is_no_agent_wins_against_nothing(db: Database, table: str) -> None:
    """Row A9: whoever comes first with `!` keeps neither side, and one caller's `!` sorts behind its agents."""
    parties = ("iss", "sub") if table != "handshake_sessions" else ("aid_a", "aid_b")
    false = json.loads(json.dumps(TRUE[table]).replace(ALICE, "!").replace(BOB, "!")) | {"id": "false"}
    for first, other in ((B, A), (A, A)):
        async with db.connection() as conn:
            await conn.execute(f"DELETE FROM {table}; DELETE FROM audit_events")
        await tell(db, (first, false), (other, TRUE[table]))
        row = await only(db, table)
        columns = {"issued_tcts": ("issuer_aid", "subject_aid"), "delegations": ("delegator_aid", "delegatee_aid")}
        assert tuple(row[name] for name in columns.get(table, parties)) == (ALICE, BOB)
        assert bool(row["conflict"]) == (first != other)


async def test_what_is_missing_is_filled_by_whoever_comes_next(db: Database) -> None:
    """Row A9: the first caller's report comes first, then the second's; nobody pushes out what is there."""
    await tell(db, (A, tct(grants=[])), (B, tct(exp=1_772_603_600)), (C, tct(exp=1_772_600_001, cnf="k", aud=MALLORY)))
    row = await only(db, "issued_tcts")
    assert (row["grants"], row["binding_cnf"], row["audience_aid"], row["conflict"]) == (["read"], "k", MALLORY, True)
    assert int(row["expires_at"].timestamp()) == 1_772_603_600
    await tell(
        db, (A, tct(grants=["write"], exp=1_772_603_700))
    )  # the first caller's own word counts before the others'
    row = await only(db, "issued_tcts")
    assert (row["grants"], int(row["expires_at"].timestamp())) == (["write"], 1_772_603_700)


async def test_both_sides_of_a_handshake_with_keys_of_their_own_agree(db: Database) -> None:
    """Row A9: sides the other way round, other clocks, boundaries and lifetimes in part seconds are no disagreement."""
    claims = {"jti": JTI, "sub": ALICE, "iss": BOB, "grants": ["read"], "exp": 1_772_603_600}
    other = claims | {"exp": "2026-03-04T05:53:20.400Z", "aud": ALICE}
    await tell(
        db,
        (A, handshake("started", aid_a=ALICE, ts="2026-03-04T12:00:00.100Z")),
        (B, handshake("started", aid_a=BOB, aid_b=ALICE, ts="2026-03-04T12:00:00.050Z")),
        (A, handshake("complete", aid_a=ALICE, grants=["read"], payload={"tct": claims, "boundary": "inter"})),
        (B, handshake("complete", aid_a=BOB, aid_b=ALICE, payload={"tct": other, "boundary": "intra"})),
    )
    session, token = await only(db, "handshake_sessions"), await only(db, "issued_tcts")
    assert not session["conflict"]
    assert not token["conflict"]
    assert (session["aid_a"], session["aid_b"], session["boundary"]) == (ALICE, BOB, "inter")


@pytest.mark.parametrize(
    ("story", "status", "conflict"),
    [
        ([(A, "started"), (B, "complete")], "complete", False),
        ([(A, "started"), (B, "failed")], "failed", False),
        ([(A, "failed"), (B, "complete")], "failed", True),
        ([(A, "complete"), (B, "failed")], "complete", True),
        ([(A, "started"), (B, "failed"), (A, "complete")], "failed", True),
        ([(A, "started"), (B, "failed"), (B, "complete")], "complete", False),
        ([(A, "failed"), (B, "complete"), (A, "complete")], "complete", False),
        ([(A, "complete"), (B, "started")], "complete", False),
    ],
)
async def test_the_first_end_of_a_handshake_stands(
    db: Database, story: list[tuple[str, str]], status: str, conflict: bool
) -> None:
    """Row A9, decision 15: any caller may end a handshake; the first end stands, within one caller `complete` wins."""
    await tell(db, *((caller, handshake(kind)) for caller, kind in story))
    row = await only(db, "handshake_sessions")
    assert (row["status"], bool(row["conflict"])) == (status, conflict)


async def test_a_parent_that_only_another_caller_names_revokes_nothing(db: Database) -> None:
    """Row A9: a false parent, revoked, does not take the delegation with it."""
    await tell(db, (A, delegation()), (B, delegation(parent_jti=OTHER)))
    await tell(db, (B, {"type": "tct.revoked", "payload": {"jti": OTHER}}))
    row = await only(db, "delegations")
    assert (str(row["parent_jti"]), row["revoked"], row["conflict"]) == (PARENT, False, True)


async def test_another_caller_does_not_date_a_revocation_back(db: Database) -> None:
    """Row A9: the first reporter's time stands, its own earlier report counts; a token goes before a delegation."""
    for caller, kind, minute in ((A, "delegation", 30), (B, "tct", 10), (A, "tct", 20), (B, "tct", 5)):
        at = f"2026-03-04T12:{minute:02}:00Z"
        await tell(db, (caller, {"type": f"{kind}.revoked", "payload": {"jti": JTI}, "ts": at}))
    row = await only(db, "revoked_reports")
    assert (row["kind"], row["revoked_at"].minute, row["reported_by"]) == ("tct", 20, A)


async def test_rows_of_an_older_control_plane_belong_to_nobody_known(db: Database) -> None:
    """Row A9: what is in them stays; also what an older replica wrote into a row of several callers."""
    async with db.connection() as conn:
        await conn.execute(
            "INSERT INTO issued_tcts (jti, issuer_aid, subject_aid, audience_aid, grants, issued_at)"
            " VALUES ($1, $2, $3, $3, '[\"read\"]', now())",
            UUID(JTI),
            ALICE,
            BOB,
        )
    await tell(db, (A, tct(iss=MALLORY, exp=1_772_603_600)))
    row = await only(db, "issued_tcts")
    assert (row["issuer_aid"], row["reported_by"], row["conflict"]) == (ALICE, None, True)
    assert row["expires_at"] is not None
    async with db.connection() as conn:
        await conn.execute("UPDATE issued_tcts SET grants = '[\"admin\"]'")
    await tell(db, (B, tct(cnf="k")))
    row = await only(db, "issued_tcts")
    assert (row["grants"], row["binding_cnf"], row["issuer_aid"]) == (["admin"], "k", ALICE)


async def test_callers_beyond_the_eighth_are_compared_and_not_kept(db: Database) -> None:
    """Row A9: what is kept of a row has an end."""
    for number in range(callers.MAX_CALLERS + 3):
        await tell(db, (f"key:{number}", tct()))
    row = await only(db, "issued_tcts")
    assert (len(json.loads(row["caller_states"])["callers"]), row["conflict"]) == (callers.MAX_CALLERS, False)
    await tell(db, ("key:99", tct(sub=MALLORY)), ("key:98", tct(cnf="k")))
    row = await only(db, "issued_tcts")
    assert (row["conflict"], row["binding_cnf"]) == (True, None)


async def test_one_caller_hangs_no_more_than_so_many_delegations_below_a_parent(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row A3: beyond the bound a report is stored and projects nothing; each caller has its own."""
    monkeypatch.setattr(delegating, "MAX_CHILDREN", 3)

    async def project(caller: str, *events: Row) -> list[Any]:
        async with db.transaction() as conn:
            effect = await tcts.project(conn, [told_by(caller, event) for event in events], now())
        return effect.refusals

    one = [delegation(jti=str(uuid4())) for _ in range(5)]
    assert len(await project(A, *one)) == 2
    assert await project(A, one[0], *(delegation(jti=str(uuid4()), parent_jti=OTHER) for _ in range(2))) == []
    assert len(await project(A, delegation(jti=str(uuid4())))) == 1
    assert await project(B, *(delegation(jti=str(uuid4())) for _ in range(3))) == []
    [refusal] = await project(A, {**delegation(jti=one[0]["payload"]["jti"], parent_jti=OTHER)}, delegation(jti=JTI))
    assert (refusal.field, "delegations of this caller" in refusal.reason) == ("parent_jti", True)
    async with db.connection() as conn:
        assert await conn.fetchval("SELECT count(*) FROM delegations") == 8


async def test_the_answer_names_what_has_no_room_below_its_parent(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """Row A3: such a report is stored, and `errors` says that it projects nothing."""
    monkeypatch.setattr(delegating, "MAX_CHILDREN", 2)
    events = [delegation(jti=str(uuid4())) for _ in range(3)]
    said = (await app.post("/api/events", ["junk", *events])).json()
    assert (said["inserted"], said["dropped"]) == (3, 1)
    assert [(error["index"], error["field"]) for error in said["errors"]] == [(0, "event"), (3, "parent_jti")]
    assert len((await app.get("/api/delegations")).json()["delegations"]) == 2
    assert len((await app.get("/api/events/history")).json()["events"]) == 3


@pytest.mark.parametrize("first_to_wait", [A, B])
async def test_the_order_of_rows_is_the_order_of_the_log(db: Database, first_to_wait: str) -> None:
    """Row A9: of two transactions at once, the one that owns the row has the smaller `seq`."""
    second = B if first_to_wait == A else A
    async with AsyncExitStack() as stack:
        mine = await stack.enter_async_context(db.connection())
        theirs = await stack.enter_async_context(db.connection())
        async with mine.transaction():
            await service.store_group(mine, [told_by(first_to_wait, tct(cnf="first"))], now())

            async def later() -> None:
                async with theirs.transaction():
                    await service.store_group(theirs, [told_by(second, tct(cnf="second"))], now())

            waiting = asyncio.create_task(later())
            await asyncio.sleep(0.1)
        await waiting
    row = await only(db, "issued_tcts")
    assert (row["reported_by"], row["binding_cnf"], row["conflict"]) == (first_to_wait, "first", True)
    async with db.connection() as conn:
        oldest = await conn.fetchval("SELECT payload FROM audit_events ORDER BY seq LIMIT 1")
    assert json.loads(oldest)["tct"]["cnf"] == "first"


Run = Callable[[Sequence[Sequence[Step]]], dict[str, list[Row]]]


@pytest.fixture
def outcome(database_url: str) -> Iterator[Run]:
    """The tables after some groups, in a loop of its own: Hypothesis calls the test many times."""
    db = Database(database_url, max_size=1)
    with asyncio.Runner() as runner:
        runner.run(db.open())
        yield lambda groups: runner.run(tables_after(db, groups))
        runner.run(db.close())


RECEIVED = now()


async def tables_after(db: Database, groups: Sequence[Sequence[Step]]) -> dict[str, list[Row]]:
    async with db.connection() as conn:
        undone: Any = conn.transaction()
        await undone.start()
        for group in groups:
            reports = [told_by(caller, event) for caller, event in group]
            await tcts.project(conn, reports, RECEIVED)
            await sessions.project(conn, reports, RECEIVED)
        tables = await everything(conn)
        await undone.rollback()
    return tables


@quick
@given(story=stories, data=st.data())
def test_a_replay_in_the_order_of_the_log_gives_the_same_rows(
    outcome: Run, story: list[Row], data: st.DataObject
) -> None:
    """Row A9: two or three callers in any interleaving; one by one, in groups, and repeated in part: the same rows."""
    log = [(data.draw(st.sampled_from([A, B, C])), event) for event in story if "denied" not in event]
    one_by_one = outcome([[step] for step in log])
    cuts = sorted(data.draw(st.lists(st.integers(0, len(log)), max_size=4)))
    groups = [log[start:end] for start, end in zip([0, *cuts], [*cuts, len(log)], strict=True)]
    assert outcome(groups) == one_by_one
    repeated = [step for place, step in enumerate(log) for _ in range(1 + (place % 2))]
    assert outcome([repeated]) == one_by_one
    assert outcome([[step] for step in [*log, *log]]) == one_by_one


one_token = tokens.filter(lambda event: event["payload"]["tct"]["jti"] == str(UUID(int=1)))
one_session = handshakes.map(
    lambda event: (
        event
        | {"session_id": "s-1", "type": "handshake.complete"}
        | {"payload": {name: value for name, value in event["payload"].items() if name not in {"tct", "tcts"}}}
    )
)


@quick
@given(
    data=st.data(), events=st.lists(one_token, min_size=2, max_size=6) | st.lists(one_session, min_size=2, max_size=6)
)
def test_the_order_among_one_callers_reports_never_shows(outcome: Run, data: st.DataObject, events: list[Row]) -> None:
    """Row A9: each caller's reports of a thing may change places among themselves, also around another caller's."""
    callers_ = [data.draw(st.sampled_from([A, B])) for _ in events]
    own = {
        caller: data.draw(st.permutations([event for by, event in zip(callers_, events, strict=True) if by == caller]))
        for caller in (A, B)
    }
    told = outcome([[step] for step in zip(callers_, events, strict=True)])
    assert outcome([[(caller, own[caller].pop())] for caller in callers_]) == told
