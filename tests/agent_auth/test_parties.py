"""An agent that reports for itself says nothing about others (contract, section 20; decision 10)."""

import asyncio
import json
from typing import Any
from uuid import uuid4

import aitp
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aitp_cp.clock import now
from aitp_cp.db import Database
from aitp_cp.ingest import service
from aitp_cp.protocol.reports import Proof, Report, Reporter, normalise
from aitp_cp.protocol.tokens import synthetic_delegation_jti
from aitp_cp_client.wire.aid import Aid
from tests.agent_auth.support import EVENTS, registered_agent, reported
from tests.containment.support import signed
from tests.support.agents import claims_in, handshake, new_agent
from tests.support.app import OTHER_KEY, App, running_app
from tests.support.enrolment import events_of

pytestmark = pytest.mark.anyio

REFUSED = [{"index": 0, "field": "aid_a", "reason": "not a party"}]
OTHER = {"Authorization": f"Bearer {OTHER_KEY}"}
CLAIMS_COUNT = {"OBSERVED_ARTIFACT_VERIFICATION": "off"}
A, B, C = (Aid(new_agent().aid) for _ in range(3))


def started(session: str, **sides: Any) -> dict[str, Any]:
    return {"type": "handshake.started", "session_id": session, "id": str(uuid4()), **sides}


def issued(jti: str, issuer: str, subject: str, **more: Any) -> dict[str, Any]:
    claims = {"jti": jti, "iss": issuer, "sub": subject, "grants": ["read"], **more}
    return {"type": "tct.issued", "id": str(uuid4()), "payload": {"tct": claims}}


async def session(app: App, session_id: str) -> dict[str, Any] | None:
    response = await app.get(f"/api/sessions/{session_id}")
    return response.json()["session"] if response.status_code == 200 else None


async def tokens(app: App) -> dict[str, dict[str, Any]]:
    return {token["jti"]: token for token in (await app.get("/api/tcts")).json()["tcts"]}


async def test_two_agents_report_a_real_handshake_each_with_its_key(database_url: str) -> None:
    async with running_app(database_url) as app:
        one, two = await registered_agent(app), await registered_agent(app)
        done = handshake(one, two)
        for agent, held, role in ((one, done.initiator, "initiator"), (two, done.responder, "responder")):
            token = {"token": held.token, "claims": held.claims}
            event = {
                "type": "handshake.complete",
                "session_id": done.session_id,
                "id": "done",
                "grants": held.claims["grants"],
                "payload": {"role": role, "tct": token},
            }
            begun = started(done.session_id, aid_a=one.aid, aid_b=two.aid)
            assert (await reported(app, agent, begun, event))["errors"] == []
        shown = await session(app, done.session_id)
        assert shown is not None
        assert (shown["aidA"], shown["aidB"], shown["status"]) == (one.aid, two.aid, "complete")
        assert (shown["grants"], shown["conflict"]) == (done.initiator.claims["grants"], False)
        assert {token["subject"] for token in (await tokens(app)).values()} == {one.aid, two.aid}
        claimed = {**event, "grants": ["admin"], "payload": {}}
        await app.post(EVENTS, [claimed])
        shown = await session(app, done.session_id)
        assert shown is not None
        assert (shown["grants"], shown["conflict"]) == (done.initiator.claims["grants"], True)


async def test_who_is_no_party_of_a_session_changes_nothing_in_it(database_url: str) -> None:
    async with running_app(database_url) as app:
        one, two, liar = [await registered_agent(app) for _ in range(3)]
        await reported(app, one, started("s1", aid_a=one.aid, aid_b=two.aid))
        before = await session(app, "s1")
        for sides in ({}, {"aid_a": one.aid, "aid_b": two.aid}, {"aid_a": one.aid, "aid_b": liar.aid}):
            failed = {"type": "handshake.failed", "session_id": "s1", "id": str(uuid4()), **sides}
            said = await reported(app, liar, failed)
            assert (said["inserted"], said["errors"]) == (1, REFUSED)
        assert await session(app, "s1") == before
        log = await events_of(app, sessionId="s1")
        assert [event["reportedBy"] for event in log] == [one.aid, *[liar.aid] * 3]
        await reported(app, two, {"type": "handshake.complete", "session_id": "s1", "id": "1"})
        after = await session(app, "s1")
        assert after is not None
        assert (after["status"], after["aidA"], after["aidB"]) == ("complete", one.aid, two.aid)


async def test_a_session_of_others_cannot_be_made_up(database_url: str) -> None:
    async with running_app(database_url) as app:
        liar = await registered_agent(app)
        assert (await reported(app, liar, started("s1", aid_a=A, aid_b=B)))["errors"] == REFUSED
        assert await session(app, "s1") is None


async def test_an_open_side_is_not_taken(database_url: str) -> None:
    async with running_app(database_url) as app:
        one, liar = await registered_agent(app), await registered_agent(app)
        await reported(app, one, started("s1"))
        before = await session(app, "s1")
        assert (await reported(app, liar, started("s1", aid_a=one.aid, aid_b=liar.aid)))["errors"] == REFUSED
        assert await session(app, "s1") == before


async def test_one_part_that_is_not_allowed_refuses_the_event(database_url: str) -> None:
    async with running_app(database_url, **CLAIMS_COUNT) as app:
        liar, jti = await registered_agent(app), str(uuid4())
        event = {**issued(jti, A, B), "type": "handshake.complete", "session_id": "s1", "aid_a": liar.aid, "aid_b": A}
        assert (await reported(app, liar, event))["errors"] == REFUSED
        assert await session(app, "s1") is None
        assert await tokens(app) == {}


async def test_a_token_is_its_issuers_and_its_subjects(database_url: str) -> None:
    async with running_app(database_url, **CLAIMS_COUNT) as app:
        one, liar, jti = await registered_agent(app), await registered_agent(app), str(uuid4())
        assert (await reported(app, liar, issued(jti, A, B)))["errors"] == REFUSED
        assert await tokens(app) == {}
        await reported(app, one, issued(jti, A, one.aid))
        before = await tokens(app)
        assert (await reported(app, liar, issued(jti, liar.aid, B, exp=4_000_000_000)))["errors"] == REFUSED
        assert await tokens(app) == before


async def test_only_verified_tokens_count_and_only_from_their_parties(database_url: str) -> None:
    async with running_app(database_url) as app:
        one, two, liar = [await registered_agent(app) for _ in range(3)]
        held = handshake(one, two).initiator
        made_up = {**issued(str(uuid4()), liar.aid, one.aid), "session_id": "s1", "type": "handshake.complete"}
        said = await reported(app, liar, made_up)
        assert said["errors"] == [{"index": 0, "field": "token", "reason": "unverified"}]
        assert await session(app, "s1") is not None  # its own word about a session counts
        told = {"type": "tct.issued", "payload": {"tct": {"token": held.token}}, "id": "1"}
        assert (await reported(app, liar, told))["errors"] == REFUSED
        assert await tokens(app) == {}
        await app.post(EVENTS, [issued(held.claims["jti"], two.aid, one.aid, grants=held.claims["grants"])])
        assert (await reported(app, one, told))["errors"] == []
        assert (await reported(app, liar, told | {"id": "2"}))["errors"] == REFUSED
        [token] = (await tokens(app)).values()
        assert (token["jti"], token["verdict"], token["conflict"]) == (held.claims["jti"], "verified", False)
        revoked = {"type": "tct.revoked", "payload": {"jti": token["jti"]}, "id": "3"}
        assert (await reported(app, one, revoked))["errors"] == REFUSED
        assert (await reported(app, two, revoked))["errors"] == []
        assert (await tokens(app))[token["jti"]]["revoked"]


@pytest.mark.parametrize("first", ["revoked", "issued"])
async def test_only_its_issuer_revokes_a_token_before_or_after_it_is_reported(database_url: str, first: str) -> None:
    async with running_app(database_url, **CLAIMS_COUNT) as app:
        issuer, holder, liar = [await registered_agent(app) for _ in range(3)]
        jti = str(uuid4())
        revoked = {"type": "tct.revoked", "payload": {"jti": jti}}
        reports = {
            "revoked": [(liar, {**revoked, "id": "r"}), (holder, {**revoked, "id": "r"})],
            "issued": [(holder, issued(jti, issuer.aid, holder.aid))],
        }
        for part in (first, *(reports.keys() - {first})):
            for agent, event in reports[part]:
                said = await reported(app, agent, event)
                assert said["errors"] == (REFUSED if (part, first) == ("revoked", "issued") else [])
        assert not (await tokens(app))[jti]["revoked"]
        if first == "revoked":  # what the issuer says first counts as well
            other = str(uuid4())
            await reported(app, issuer, {**revoked, "payload": {"jti": other}, "id": "o"})
            await reported(app, holder, issued(other, issuer.aid, holder.aid))
            assert (await tokens(app))[other]["revoked"]
        assert (await reported(app, issuer, {**revoked, "id": "r"}))["errors"] == []
        assert (await tokens(app))[jti]["revoked"]


@pytest.mark.parametrize("other", ["claims", "token"])
@pytest.mark.parametrize("first", ["revoked", "issued"])
async def test_an_issuer_revokes_its_token_under_an_id_that_others_have_reported(
    database_url: str, other: str, first: str
) -> None:
    """Both tokens are kept, and neither decides anything about the other (decision 1)."""
    async with running_app(database_url) as app:
        issuer, holder, liar = [await registered_agent(app) for _ in range(3)]
        false = signed(liar, new_agent())
        jti = claims_in(false)["jti"]
        told = {"type": "tct.issued", "payload": {"tct": {"token": signed(issuer, holder, jti=jti)}}, "id": "1"}
        revoked = {"type": "tct.revoked", "payload": {"jti": jti}, "id": "2"}
        if other == "claims":
            await app.post(EVENTS, [issued(jti, liar.aid, liar.aid)])
        else:
            await reported(app, liar, {"type": "tct.issued", "payload": {"tct": {"token": false}}, "id": "1"})
        for event in (told, revoked) if first == "issued" else (revoked, told):
            said = await reported(app, issuer, event)
            assert said["errors"] == (REFUSED if (event, first) == (revoked, "revoked") else [])
        row = (await tokens(app))[jti]
        assert (row["issuer"], row["conflict"], row["revoked"]) == (liar.aid, True, False)
        kept = [(said["reportedBy"], said["issuer"], said["verdict"], said["revoked"]) for said in row["statements"]]
        first_word = (None, liar.aid, "none", False) if other == "claims" else (liar.aid, liar.aid, "verified", False)
        assert kept == [first_word, (issuer.aid, issuer.aid, "verified", True)]
        assert (await reported(app, holder, revoked))["errors"] == REFUSED
        if other == "token":
            assert (await reported(app, liar, revoked))["errors"] == []
            row = (await tokens(app))[jti]
            assert (row["revoked"], [said["revoked"] for said in row["statements"]]) == (True, [True, True])


@pytest.mark.parametrize("first", ["revoked", "delegated"])
async def test_what_rests_on_a_token_that_the_row_does_not_show_ends_with_it(database_url: str, first: str) -> None:
    """And nothing else does, although every delegation names the same id."""
    async with running_app(database_url) as app:
        issuer, holder, third = [await registered_agent(app) for _ in range(3)]
        jti = str(uuid4())
        liars = [new_agent() for _ in range(10)]
        false = [{"type": "tct.issued", "payload": {"tct": {"token": signed(one, holder, jti=jti)}}} for one in liars]
        # Another caller comes first, so that its tokens are those that the row shows.
        await app.post(EVENTS, [{**event, "id": str(place)} for place, event in enumerate(false)], headers=OTHER)
        given = [delegation(one, holder, third, jti) for one in (issuer, liars[0])]
        told = [
            {"type": "tct.issued", "payload": {"tct": {"token": signed(issuer, holder, jti=jti)}}, "id": "own"},
            *({"type": "delegation.issued", "payload": {"delegation": {"token": one}}, "id": one} for one in given),
        ]
        below = {"jti": str(uuid4()), "parent_jti": str(synthetic_delegation_jti(given[0])), "iss": third.aid, "sub": A}
        await app.post(EVENTS, [{"type": "delegation.issued", "payload": below, "id": "below"}])
        revoked = {"type": "tct.revoked", "payload": {"jti": jti}, "id": "revoked"}
        if first == "revoked":
            await reported(app, issuer, revoked)
        await app.post(EVENTS, told)
        if first == "delegated":
            assert (await reported(app, issuer, revoked))["errors"] == []
        assert not (await tokens(app))[jti]["revoked"]
        [own] = (await app.get("/api/tcts", params={"issuer": issuer.aid})).json()["tcts"]
        assert own["revoked"]
        found = (await app.get("/api/delegations")).json()["delegations"]
        ended = {row["jti"]: row["revokedReason"] for row in found if row["revoked"]}
        assert (len(found), ended) == (3, dict.fromkeys([below["parent_jti"], below["jti"]], "parent_revoked"))


def delegation(issuer: Any, holder: Any, third: Any, jti: str) -> str:
    """What the holder of a token delegates of it."""
    last = {"ver": "aitp/0.3", "exp": int(now().timestamp()) + 3600}
    vouched = {**last, "iss": issuer.aid, "sub": holder.aid, "grants": ["read"], "iat": 1, "src_jti": jti}
    claims = {
        **last, "iss": holder.aid, "sub": third.aid, "aud": issuer.aid, "scope": ["read"],
        "cnf": {"jkt": aitp.compute_aid_jkt(third.aid)}, "voucher": issuer.sign_jws("aitp-grant+jwt", vouched),
    }  # fmt: skip
    return str(holder.sign_jws("aitp-delegation+jwt", claims))


@pytest.mark.parametrize("early", [True, False])
async def test_only_its_delegator_revokes_a_delegation(database_url: str, early: bool) -> None:
    async with running_app(database_url, **CLAIMS_COUNT) as app:
        delegator, delegatee, liar = [await registered_agent(app) for _ in range(3)]
        jti, below = str(uuid4()), str(uuid4())

        def delegated(own: str, parent: str, giver: str, taker: str) -> dict[str, Any]:
            claims = {"jti": own, "parent_jti": parent, "delegator": giver, "delegatee": taker, "scope": ["read"]}
            return {"type": "delegation.issued", "id": str(uuid4()), "payload": {"delegation": claims}}

        async def revoke(agent: Any, kind: str = "delegation") -> None:
            await reported(app, agent, {"type": f"{kind}.revoked", "payload": {"jti": jti}, "id": kind})

        async def state() -> dict[str, tuple[bool, str | None]]:
            found = (await app.get("/api/delegations")).json()["delegations"]
            return {row["jti"]: (row["revoked"], row["revokedReason"]) for row in found}

        for other in (liar, delegatee):
            for kind in ("delegation", "tct"):
                await revoke(other, kind)
        if early:
            await revoke(delegator)
        await reported(app, delegatee, delegated(jti, str(uuid4()), delegator.aid, delegatee.aid))
        await reported(app, delegatee, delegated(below, jti, delegatee.aid, liar.aid))
        if not early:
            assert not any(revoked for revoked, _ in (await state()).values())
            await revoke(delegator)
        assert await state() == {jti: (True, "explicit"), below: (True, "parent_revoked")}


async def test_an_event_without_effect_names_its_reporter_too(database_url: str) -> None:
    async with running_app(database_url) as app:
        agent = await registered_agent(app)
        assert (await reported(app, agent, {"type": "x", "id": "1", "aid_a": A}))["errors"] == REFUSED
        assert (await reported(app, agent, {"type": "x", "id": "2", "aid_b": agent.aid}))["errors"] == []
        assert (await reported(app, agent, {"type": "x", "id": "3"}))["errors"] == []


def by(aid: Aid, *events: Any) -> list[Report]:
    reporter = Reporter(f"agent:{aid}", Proof.SIGNATURE, aid)
    return normalise(json.dumps(events).encode(), reporter, now(), uuid4).reports


SESSIONS, JTIS = ["s-1", "s-2", "s-3"], [str(uuid4()) for _ in range(3)]
aid = st.sampled_from([A, B, C])
claims = st.fixed_dictionaries({"jti": st.sampled_from(JTIS), "iss": aid, "sub": aid}, optional={"exp": st.just(2e9)})
lies = st.fixed_dictionaries(
    {
        "type": st.sampled_from(
            ["handshake.started", "handshake.complete", "handshake.failed", "tct.issued", "tct.revoked"]
        ),
        "payload": st.one_of(claims, claims.map(lambda token: {"tct": token})),
    },
    optional={"session_id": st.sampled_from(SESSIONS), "aid_a": aid, "aid_b": aid, "run_id": st.just("r")},
)
TRUTH = [
    {"type": "handshake.started", "session_id": "s-1", "aid_a": B, "aid_b": C, "id": "1"},
    {"type": "handshake.started", "session_id": "s-2", "id": "2"},
    {**issued(JTIS[0], B, C), "id": "3"},
    {**issued(JTIS[1], C, B), "id": "4"},
    {"type": "tct.revoked", "payload": {"jti": JTIS[0]}, "id": "5"},
]
SHOWN = (
    "SELECT session_id, status, aid_a, aid_b, grants, run_id, error, conflict, started_at, completed_at, updated_at "
    "FROM handshake_sessions WHERE session_id <> 's-3' ORDER BY 1",
    "SELECT jti, issuer_aid, subject_aid, grants, expires_at, session_id, conflict, revoked, revoked_at "
    f"FROM issued_tcts WHERE jti <> '{JTIS[2]}' ORDER BY 1",
)


async def test_no_sequence_of_reports_changes_what_others_have_reported(database_url: str) -> None:
    """B tells of its own; then A says anything at all about the same sessions and tokens."""
    db = Database(database_url, max_size=2)
    await db.open()
    try:
        async with db.transaction() as conn:
            await service.store_group(conn, by(B, *TRUTH), now())
        async with db.connection() as conn:
            before = [await conn.fetch(statement) for statement in SHOWN]
        assert [len(rows) for rows in before] == [2, 2]
        await _tell_lies(db, before)
    finally:
        await db.close()


async def _tell_lies(db: Database, before: list[Any]) -> None:
    loop = asyncio.get_running_loop()

    async def tell(events: list[dict[str, Any]]) -> None:
        numbered = [{**event, "id": str(uuid4())} for event in events]
        async with db.transaction() as conn:
            await service.store_group(conn, by(A, *numbered), now())
            assert [await conn.fetch(statement) for statement in SHOWN] == before

    @settings(max_examples=60, suppress_health_check=list(HealthCheck))
    @given(st.lists(lies, max_size=6))
    def run(events: list[dict[str, Any]]) -> None:
        asyncio.run_coroutine_threadsafe(tell(events), loop).result(30)

    await asyncio.to_thread(run)
