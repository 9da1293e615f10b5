"""Verified, claimed, mismatching and forged tokens meet in one row."""

import asyncio
import json
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any
from uuid import UUID, uuid4

import aitp
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aitp_cp.clock import now
from aitp_cp.db import Connection, Database
from aitp_cp.ingest import service
from aitp_cp.ingest.verifier import Verifier
from aitp_cp.protocol.reports import Batch, Reporter, normalise
from aitp_cp.protocol.tokens import synthetic_delegation_jti
from aitp_cp.tcts import callers
from aitp_cp.tcts import service as tcts
from aitp_cp.telemetry.metrics import Metrics
from tests.ingest.support import TABLES, Row
from tests.ingest.test_any_order import deny
from tests.support.agents import Agent, b64url, claims_in, new_agent

ALICE, BOB, CAROL, MALLORY = (new_agent() for _ in range(4))
NAMES = {agent.aid: name for agent, name in ((ALICE, "alice"), (BOB, "bob"), (CAROL, "carol"), (MALLORY, "mallory"))}
JTI, OTHER, WRONG = (str(UUID(int=number, version=4)) for number in (1, 2, 3))
IAT = 1_772_600_000
KEPT = {table: f"{columns}, reported_by, conflict, caller_states" for table, columns in TABLES.items()} | {
    "issued_tcts": f"{TABLES['issued_tcts']}, verdict, mismatch, conflict, reported_by, caller_states",
    "delegations": f"{TABLES['delegations']}, verdict, mismatch, conflict, reported_by, caller_states",
    "delegation_parents": "jti, parent_jti",
    "revoked_reports": "jti, kind, revoked_at",
    "hidden_tcts": "jti, issuer_aid, subject_aid, reported_by, audience_aid, grants, expires_at, session_id, mismatch",
}
Step = tuple[str, Row]


def claims_of(issuer: Agent, subject: Agent, **changes: Any) -> Row:
    return {
        "ver": "aitp/0.3", "jti": JTI, "iss": issuer.aid, "sub": subject.aid, "aud": subject.aid, "iat": IAT,
        "exp": IAT + 3600, "grants": ["read"], "cnf": {"jkt": aitp.compute_aid_jkt(subject.aid)},
    } | changes  # fmt: skip


def signed(issuer: Agent, subject: Agent, **changes: Any) -> str:
    return issuer.sign_jws("aitp-tct+jwt", claims_of(issuer, subject, **changes))


def forged(token: str) -> str:
    return token.rpartition(".")[0] + "." + b64url(bytes(64))


def voucher(src_jti: str) -> str:
    claims = {"ver": "aitp/0.3", "iss": ALICE.aid, "sub": BOB.aid, "grants": ["read"], "iat": IAT, "exp": IAT + 3600}
    return ALICE.sign_jws("aitp-grant+jwt", claims | {"src_jti": src_jti})


def delegation_token(src_jti: str, **changes: Any) -> str:
    claims = {
        "ver": "aitp/0.3", "iss": BOB.aid, "sub": CAROL.aid, "aud": ALICE.aid, "scope": ["read"], "exp": IAT + 3600,
        "cnf": {"jkt": aitp.compute_aid_jkt(CAROL.aid)}, "voucher": voucher(src_jti),
    }  # fmt: skip
    return BOB.sign_jws("aitp-delegation+jwt", claims | changes)


TRUE = signed(ALICE, BOB)
DELEGATED = delegation_token(JTI)
DELEGATION = str(synthetic_delegation_jti(DELEGATED))
CHILD = delegation_token(JTI, jti=OTHER)
TOKENS = {
    "true": TRUE,
    "again": signed(ALICE, BOB, grants=["write"], exp=IAT + 60),
    "hijack": signed(MALLORY, BOB),
    "other hijack": signed(MALLORY, CAROL),
    "invalid": signed(ALICE, BOB, nbf=1),
    "unverifiable": signed(ALICE, BOB, iss="did:web:alice"),
    "forged": forged(TRUE),
    "forged by mallory": forged(signed(MALLORY, BOB)),
}
NOT_VERIFIED = {TOKENS[name] for name in ("invalid", "unverifiable", "forged", "forged by mallory")}
CLAIMS: dict[str, Row | None] = {
    "none": None,
    "true": claims_of(ALICE, BOB),
    "false grants": {"jti": JTI, "iss": ALICE.aid, "sub": BOB.aid, "grants": ["admin"], "exp": IAT + 9},
    "false parties": {"jti": JTI, "iss": MALLORY.aid, "sub": BOB.aid},
    "no agents": {"jti": JTI, "iss": "!", "sub": "!", "aud": "!"},
    "false jti": {"jti": WRONG, "iss": ALICE.aid, "sub": BOB.aid},
}
DELEGATION_TOKENS = {"true": DELEGATED, "forged": forged(DELEGATED), "invalid": delegation_token(JTI, scope=[])}
DELEGATION_CLAIMS: dict[str, Row] = {
    "none": {},
    "false parent": {"jti": DELEGATION, "parent_jti": WRONG, "iss": BOB.aid, "sub": CAROL.aid, "scope": ["read"]},
    "other false parent": {"jti": DELEGATION, "parent_jti": OTHER, "iss": BOB.aid, "sub": CAROL.aid, "scope": ["read"]},
    "false sides": {"jti": DELEGATION, "parent_jti": JTI, "iss": MALLORY.aid, "sub": CAROL.aid},
    "below": {"jti": OTHER, "parent_jti": DELEGATION, "iss": CAROL.aid, "sub": MALLORY.aid},
}


def issued(token: str | None = None, claims: Row | None = None, **more: Any) -> Row:
    given = {"token": token, "claims": claims}
    return {"type": "tct.issued", "ts": IAT + 5, "payload": {"tct": {k: v for k, v in given.items() if v}}} | more


def delegated(token: str | None = None, claims: Row | None = None) -> Row:
    given = {"token": token, "claims": claims}
    return {
        "type": "delegation.issued",
        "ts": IAT + 5,
        "payload": {"delegation": {k: v for k, v in given.items() if v}},
    }


def revoked(jti: str, kind: str = "tct", at: int = IAT + 7) -> Row:
    return {"type": f"{kind}.revoked", "ts": at, "payload": {"jti": jti}}


members = {"session_id": st.sampled_from([None, "s-1", "s-2"]), "ts": st.sampled_from([IAT + 5, IAT + 6])}
of_tokens = st.builds(
    issued, st.sampled_from([None, *TOKENS.values()]), st.sampled_from(list(CLAIMS.values())), **members
)
of_delegations = st.builds(
    delegated, st.sampled_from([None, *DELEGATION_TOKENS.values()]), st.sampled_from(list(DELEGATION_CLAIMS.values()))
)
jtis = st.sampled_from([JTI, WRONG, DELEGATION, OTHER])
revocations = st.builds(revoked, jtis, st.sampled_from(["tct", "delegation"]), st.sampled_from([IAT + 7, IAT + 8]))
denials = st.builds(lambda jti: {"denied": jti, "at": IAT + 7}, jtis)
stories = st.lists(
    st.one_of(of_tokens, of_tokens, of_delegations, of_delegations, revocations, denials), min_size=1, max_size=10
)
modes = st.sampled_from(["warn", "strict"])

quick = settings(
    max_examples=50,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)


class Told:
    """A database in a loop of its own, as Hypothesis calls a test many times; reads reports as the API does."""

    def __init__(self, runner: asyncio.Runner, db: Database) -> None:
        self.run = runner.run
        self.db = db
        self.judges = {mode: Verifier(mode, Metrics()) for mode in ("off", "warn", "strict")}

    def tell(self, *steps: Step, mode: str = "warn") -> list[str]:
        """Each report as a batch of its own; what is refused."""
        return self.run(self._tell(steps, mode))

    def rows(self, table: str = "issued_tcts") -> list[Row]:
        return self.run(self._everything())[table]

    def row(self, table: str = "issued_tcts") -> Row:
        [row] = self.rows(table)
        return row

    def tables_after(self, mode: str, batches: Sequence[Sequence[Step]]) -> dict[str, list[Row]]:
        """The tables after these batches, of one caller each, as if nothing else were there."""
        return self.run(self._tables_after(mode, [batch for batch in batches if batch]))

    async def _everything(self) -> dict[str, list[Row]]:
        async with self.db.connection() as conn:
            return await everything(conn)

    async def _judged(self, steps: Sequence[Step], mode: str) -> Batch:
        events = [event for _, event in steps if "denied" not in event]
        batch = normalise(json.dumps(events).encode(), Reporter(steps[0][0]), now(), uuid4)
        assert not batch.problems
        return await self.judges[mode].judge(batch, steps[0][0])

    async def _tell(self, steps: Sequence[Step], mode: str) -> list[str]:
        refused = []
        for step in steps:
            batch = await self._judged([step], mode)
            async with self.db.transaction() as conn:
                stored = await service.store_group(conn, batch.reports, now())
            refused += [f"{refusal.field}: {refusal.reason}" for refusal in stored.refusals.values()]
        return refused

    async def _tables_after(self, mode: str, batches: Sequence[Sequence[Step]]) -> dict[str, list[Row]]:
        judged = [await self._judged(steps, mode) for steps in batches]
        async with self.db.connection() as conn:
            undone: Any = conn.transaction()
            await undone.start()
            for batch, steps in zip(judged, batches, strict=True):
                await tcts.project(conn, batch.reports, now())
                for _, event in steps:
                    if "denied" in event:
                        await deny(conn, event)
            tables = await everything(conn)
            await undone.rollback()
        return tables


async def everything(conn: Connection) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for table, columns in KEPT.items():
        order = ", ".join(columns.split(", ")[:4])
        rows = await conn.fetch(f"SELECT {columns} FROM {table} ORDER BY {order}")
        found[table] = [dict(row) for row in rows]
        for row in found[table]:
            row.update({name: json.loads(row[name]) for name in ("grants", "scope") if name in row})
    return found


@pytest.fixture
def told(database_url: str) -> Iterator[Told]:
    with asyncio.Runner() as runner:
        db = Database(database_url, max_size=2)
        runner.run(db.open())
        yield Told(runner, db)
        runner.run(db.close())


@quick
@given(story=stories, mode=modes, data=st.data())
def test_no_order_no_repetition_and_no_division_shows(
    told: Told, story: list[Row], mode: str, data: st.DataObject
) -> None:
    """Within one caller, whatever the tokens are worth."""
    alone = told.tables_after(mode, [[("key:a", step)] for step in story])
    again = data.draw(st.permutations([*story, *data.draw(st.lists(st.sampled_from(story), max_size=3))]))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(again)), max_size=3)))
    batches = [again[start:end] for start, end in zip([0, *cuts], [*cuts, len(again)], strict=True)]
    assert told.tables_after(mode, [[("key:a", step) for step in batch] for batch in batches]) == alone


moving = st.sampled_from(
    [
        *(delegated(claims=DELEGATION_CLAIMS[name]) for name in ("false parent", "other false parent", "below")),
        *(revoked(jti, at=at) for jti, at in ((WRONG, IAT + 7), (WRONG, IAT + 8), (JTI, IAT + 9), (OTHER, IAT + 6))),
        {"denied": WRONG, "at": IAT + 7},
        revoked(DELEGATION, "delegation"),
    ]
)


@quick
@given(story=st.lists(moving, min_size=2, max_size=7), data=st.data())
def test_no_order_shows_in_what_is_revoked(told: Told, story: list[Row], data: st.DataObject) -> None:
    """A false parent may be revoked before the signed delegation comes, or after."""
    alone = told.tables_after("warn", [[("key:a", step)] for step in [*story, delegated(DELEGATED)]])
    again = data.draw(st.permutations([*story, delegated(DELEGATED)]))
    assert told.tables_after("warn", [[("key:a", step)] for step in again]) == alone


@quick
@given(story=stories, names=st.lists(st.sampled_from("abc"), min_size=10, max_size=10), mode=modes)
def test_a_replay_of_the_log_gives_the_same_rows(told: Told, story: list[Row], names: list[str], mode: str) -> None:
    """Between callers, in any division into batches that keeps the log's order."""
    steps = [(f"key:{caller}", step) for caller, step in zip(names, story, strict=False)]
    together = [list(batch) for _, batch in groupby(steps, key=lambda step: step[0])]
    assert told.tables_after(mode, together) == told.tables_after(mode, [[step] for step in steps])


signed_alike = st.builds(
    lambda issuer, subject, exp, grants, **more: issued(signed(issuer, subject, exp=IAT + exp, grants=grants), **more),
    st.sampled_from([ALICE, MALLORY]),
    st.sampled_from([BOB, CAROL]),
    st.sampled_from([60, 3600]),
    st.sampled_from([["read"], ["read", "write"], ["re"]]),
    **members,
)


@settings(quick, max_examples=40)
@given(
    story=st.lists(st.one_of(signed_alike, of_tokens), min_size=2, max_size=8),
    room=st.integers(1, 2),
    data=st.data(),
)
def test_no_signed_token_is_lost_where_a_row_has_no_room(
    told: Told, story: list[Row], room: int, data: st.DataObject
) -> None:
    """What is signed and not shown stands apart, in any order and division of one caller's reports.

    Of several callers nothing is lost either, but whose report of a hidden token is kept can depend on the division: a
    token that the row shows for a while, and then no more, is kept as its last caller reported it.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(callers, "MAX_CALLERS", room)
        alone = told.tables_after("warn", [[(A, step)] for step in story])
        again = data.draw(st.permutations(story))
        assert told.tables_after("warn", [[(A, step) for step in again]]) == alone
        names = data.draw(st.lists(st.sampled_from([A, B, C]), min_size=len(story), max_size=len(story)))
        steps = list(zip(names, story, strict=True))
        together = [list(batch) for _, batch in groupby(steps, key=lambda step: step[0])]
        several = told.tables_after("warn", together)
        each = told.tables_after("warn", [[step] for step in steps])
    for tables in (alone, several, each):
        assert pairs_of(tables) == {
            (claims["jti"], claims["iss"], claims["sub"])
            for step in story
            for claims in map(claims_in, texts_in(step))
            if step["payload"]["tct"]["token"] not in NOT_VERIFIED
        }


def pairs_of(tables: dict[str, list[Row]]) -> set[tuple[str, str, str]]:
    """Of every verified token id, issuer and subject, shown or hidden; none is both."""
    shown, hidden = (
        [(str(row["jti"]), row["issuer_aid"], row["subject_aid"]) for row in rows]
        for rows in (
            [row for row in tables["issued_tcts"] if row["verdict"] == "verified"],
            tables["hidden_tcts"],
        )
    )
    assert not {*shown} & {*hidden}
    return {*shown, *hidden}


@quick
@given(story=stories, mode=modes)
def test_a_forged_token_changes_no_row(told: Told, story: list[Row], mode: str) -> None:
    bad = {TOKENS["forged"], TOKENS["forged by mallory"], DELEGATION_TOKENS["forged"]}
    kept = [step for step in story if not bad & set(texts_in(step))]
    tables = [told.tables_after(mode, [[("key:a", step)] for step in steps]) for steps in (story, kept)]
    assert tables[0] == tables[1]


@quick
@given(story=st.lists(of_tokens, min_size=1, max_size=6), at=st.integers(0, 6))
def test_a_verified_token_wins_over_its_callers_claims(told: Told, story: list[Row], at: int) -> None:
    others = {token for name, token in TOKENS.items() if name in {"again", "hijack", "other hijack"}}
    story = [step for step in story if not others & set(texts_in(step))]
    story.insert(at, issued(TRUE))
    tables = told.tables_after("warn", [[("key:a", step)] for step in story])
    [row] = [row for row in tables["issued_tcts"] if str(row["jti"]) == JTI]
    assert shown(row) == ("alice", "bob", ["read"], "verified")
    assert (row["issued_at"].timestamp(), row["expires_at"].timestamp()) == (IAT, IAT + 3600)


def texts_in(step: Row) -> Iterator[str]:
    return (
        given["token"] for given in step.get("payload", {}).values() if isinstance(given, dict) and "token" in given
    )


def shown(row: Row) -> tuple[Any, ...]:
    issuer, subject = (NAMES.get(row[name], row[name]) for name in ("issuer_aid", "subject_aid"))
    return issuer, subject, row["grants"], row["verdict"]


A, B, C = "key:a", "key:b", "key:c"


def test_a_false_report_that_came_first_is_corrected(told: Told) -> None:
    told.tell((B, issued(claims=CLAIMS["false grants"], session_id="s")))
    assert shown(told.row()) == ("alice", "bob", ["admin"], None)
    told.tell((A, issued(TRUE)))
    row = told.row()
    assert shown(row) == ("alice", "bob", ["read"], "verified")
    assert (row["conflict"], row["mismatch"], row["session_id"]) == (True, False, "s")
    told.tell((C, issued(claims=CLAIMS["false grants"])), (B, issued(claims=CLAIMS["no agents"])))
    assert shown(told.row()) == shown(row)


def test_a_signed_token_of_other_parties_replaces_nobody_elses_claim(told: Told) -> None:
    """A signature proves what its issuer said, not that the jti is its own (decision 1)."""
    told.tell((A, issued(claims=CLAIMS["true"])), (B, issued(TOKENS["hijack"])))
    row = told.row()
    assert (*shown(row), row["conflict"]) == ("alice", "bob", ["read"], None, True)
    kept = [known["state"]["issuer"] for known in json.loads(row["caller_states"])["callers"]]
    assert kept == [ALICE.aid, MALLORY.aid]
    told.tell((A, issued(TRUE)))
    row = told.row()
    assert (*shown(row), row["conflict"]) == ("alice", "bob", ["read"], "verified", True)


def test_where_nobody_else_has_reported_a_signed_token_replaces_claims(told: Told) -> None:
    told.tell((A, issued(claims=CLAIMS["false parties"])), (A, issued(TRUE)))
    assert shown(told.row()) == ("alice", "bob", ["read"], "verified")


def test_names_that_are_no_agents_keep_no_jti(told: Told) -> None:
    told.tell((B, issued(claims=CLAIMS["no agents"])), (A, issued(TRUE)))
    assert shown(told.row()) == ("alice", "bob", ["read"], "verified")


@pytest.mark.parametrize("second", ["again", "hijack"])
@pytest.mark.parametrize("caller", [A, B])
def test_two_signed_tokens_of_one_jti_are_in_conflict(told: Told, second: str, caller: str) -> None:
    told.tell((A, issued(TRUE)))
    assert not told.row()["conflict"]
    told.tell((caller, issued(TOKENS[second])))
    row = told.row()
    assert (row["verdict"], row["conflict"]) == ("verified", True)
    if caller != A or second == "again":
        assert shown(row) == ("alice", "bob", ["read"], "verified")


def test_claims_beside_a_token_that_say_otherwise_are_a_mismatch(told: Told) -> None:
    told.tell((A, issued(TRUE, CLAIMS["true"])))
    assert not told.row()["mismatch"]
    told.tell((A, issued(TRUE, CLAIMS["false jti"])))
    row = told.row()
    assert (*shown(row), row["mismatch"]) == ("alice", "bob", ["read"], "verified", True)


@pytest.mark.parametrize("changes", [{"grants": []}, {"aud": MALLORY.aid}, {"exp": IAT}, {"iat": 1}, {"cnf": "k"}])
def test_each_claim_can_mismatch(told: Told, changes: Row) -> None:
    told.tell((A, issued(TRUE, CLAIMS["true"] | changes)))  # type: ignore[operator]
    assert told.row()["mismatch"] == (changes != {"grants": []})


@pytest.mark.parametrize("name", ["invalid", "unverifiable"])
def test_what_is_not_verified_rewrites_nothing(told: Told, name: str) -> None:
    told.tell((A, issued(claims=CLAIMS["false grants"])), (B, issued(TOKENS[name])))
    assert shown(told.row()) == ("alice", "bob", ["admin"], None)
    told.tell((A, issued(TOKENS[name], CLAIMS["false grants"])))
    assert shown(told.row()) == ("alice", "bob", ["admin"], name)


def test_a_token_of_another_kind_is_invalid_where_it_stands(told: Told) -> None:
    told.tell((A, issued(voucher(JTI), CLAIMS["true"])))
    assert shown(told.row()) == ("alice", "bob", ["read"], "invalid")


def test_strict_makes_rows_of_verified_tokens_only(told: Told) -> None:
    refused = told.tell(
        (A, issued(claims=CLAIMS["true"])),
        (A, issued(TOKENS["invalid"], id="invalid")),
        (A, delegated(claims=DELEGATION_CLAIMS["false parent"])),
        mode="strict",
    )
    assert refused == ["token: unverified"] * 3
    assert told.rows() == told.rows("delegations") == []
    assert told.tell((A, issued(TRUE)), (A, delegated(DELEGATED)), mode="strict") == []
    assert shown(told.row()) == ("alice", "bob", ["read"], "verified")
    assert told.row("delegations")["verdict"] == "verified"


def test_off_believes_every_claim(told: Told) -> None:
    told.tell((A, issued(TOKENS["forged"])), mode="off")
    assert shown(told.row()) == ("alice", "bob", ["read"], None)


def test_a_signed_delegation_takes_back_what_a_false_parent_did(told: Told) -> None:
    """And what hangs below it, but not what is revoked for other reasons."""
    told.tell(
        (B, delegated(claims=DELEGATION_CLAIMS["false parent"])),
        (B, delegated(claims=DELEGATION_CLAIMS["below"])),
        (B, revoked(WRONG)),
    )
    assert [row["revoked"] for row in told.rows("delegations")] == [True, True]
    told.tell((A, delegated(DELEGATED)))
    assert [(row["revoked"], row["revoked_at"]) for row in told.rows("delegations")] == [(False, None)] * 2
    told.tell((A, revoked(JTI)))
    assert [row["revoked_reason"] for row in told.rows("delegations")] == ["parent_revoked"] * 2


def test_a_signed_delegation_has_one_parent(told: Told) -> None:
    told.tell(*((B, delegated(claims=DELEGATION_CLAIMS[name])) for name in ("false parent", "other false parent")))
    assert [str(row["parent_jti"]) for row in told.rows("delegation_parents")] == [WRONG]
    told.tell((A, delegated(DELEGATED)), (A, delegated(DELEGATED)))
    assert told.rows("delegation_parents") == []
    row = told.row("delegations")
    assert (str(row["parent_jti"]), row["conflict"]) == (JTI, True)
    assert [known["caller"] for known in json.loads(row["caller_states"])["callers"]] == [B, A]
    told.tell((B, revoked(WRONG)), (B, revoked(OTHER)))
    assert not told.row("delegations")["revoked"]


def test_a_chain_is_a_row_of_its_signed_parent(told: Told) -> None:
    told.tell((A, delegated(CHILD, {"parent_jti": WRONG})))
    row = told.row("delegations")
    assert (str(row["jti"]), str(row["parent_jti"]), row["verdict"], row["mismatch"]) == (OTHER, JTI, "verified", True)
