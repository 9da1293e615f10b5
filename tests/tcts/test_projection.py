"""What reports in their many dialects say about tokens and delegations."""

import base64
import json
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aitp_cp.protocol.tokens import synthetic_delegation_jti
from aitp_cp.sessions import projection as sessions
from aitp_cp.tcts.callers import first_row
from aitp_cp.tcts.model import DelegationChange, TctChange
from aitp_cp.tcts.projection import DELEGATING, ISSUING, REVOKING, changes_from
from tests.ingest.support import at, normalised

JTI, PARENT = str(uuid4()), str(uuid4())
AGENT = "aid:pubkey:" + "A" * 43
TAGGED = "aid:pubkey:ed25519:" + "A" * 43
CLAIMS = {"jti": JTI, "iss": "issuer", "sub": "holder"}
DELEGATION = {"jti": JTI, "parent_jti": PARENT, "delegator": "giver", "delegatee": "taker"}
NOON = "2026-03-04T12:00:00Z"
RECEIVED = at("13:00")

ABSURD: list[Any] = [
    None, "", "not a date", "0001-01-01", "9999-12-31T23:59:59-14:00",
    -1, 1e308, -1e308, 10**30, 10**400, 253_402_300_800, True, [], {}, [1], {"iat": 1},
]  # fmt: skip


def compact(claims: Any) -> str:
    """A token that nobody signed: the control plane reads reports, it does not judge them."""
    body = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
    return f"eyJhbGciOiJFZERTQSJ9.{body}.c2ln"


def tcts(payload: Any, type: str = "tct.issued", **more: Any) -> list[TctChange]:
    found = changes_from(normalised({"type": type, "ts": NOON, "payload": payload, **more}), RECEIVED).tcts
    return [first_row(reports).shown for reports in found.values()]


def tct(payload: Any, **more: Any) -> TctChange:
    [change] = tcts(payload, **more)
    return change


def delegations(payload: Any) -> list[DelegationChange]:
    found = changes_from(
        normalised({"type": "delegation.issued", "ts": NOON, "payload": payload}), RECEIVED
    ).delegations
    return [report.state for report in found]


def delegation(payload: Any) -> DelegationChange:
    [change] = delegations(payload)
    return change


@pytest.mark.parametrize(
    "reported",
    [
        CLAIMS,
        {"token": "opaque", "claims": CLAIMS},
        {"token": compact(CLAIMS)},
        compact(CLAIMS),
        {"jti": JTI.upper(), "issuer": "issuer", "subject": "holder"},
        {"jti": JTI.replace("-", ""), "issuer_aid": "issuer", "subject_aid": "holder"},
        {"jti": f"urn:uuid:{JTI}", "issuerAid": "issuer", "subjectAid": "holder"},
        {"jti": 7, "claims": CLAIMS},
    ],
)
def test_a_token_is_read_in_every_dialect(reported: Any) -> None:
    for payload in ({"tct": reported}, {"tcts": [reported]}, {"tct": "junk", "tcts": [None, 5, reported]}):
        change = tct(payload)
        assert (change.jti, change.parties) == (UUID(JTI), ("issuer", "holder", "holder"))


def test_all_members_of_a_token_are_kept() -> None:
    claims = CLAIMS | {"aud": "audience", "grants": ["write", 5, "read"], "iat": 1_772_600_000, "exp": 1_772_603_600}
    change = tct({"tct": {"claims": claims | {"cnf": {"jkt": "thumb"}}}}, session_id="s-1")
    assert change.parties == ("issuer", "holder", "audience")
    assert change.grants == ["read", "write"]
    assert change.expires_at is not None
    assert (change.expires_at - change.issued_at).total_seconds() == 3600
    assert (change.binding_cnf, change.session_id) == ("thumb", "s-1")


@pytest.mark.parametrize("binding", [{"cnf": {"jkt": "k"}}, {"cnf": "k"}, {"binding": {"cnf": "k"}}])
def test_a_binding_is_found_wherever_it_is(binding: dict[str, Any]) -> None:
    assert tct({"tct": CLAIMS | binding}).binding_cnf == "k"


@pytest.mark.parametrize("missing", ["jti", "iss", "sub"])
def test_a_token_without_its_essentials_is_no_row(missing: str) -> None:
    assert tcts({"tct": {name: value for name, value in CLAIMS.items() if name != missing}}) == []


def test_aids_are_stored_in_one_spelling_and_oversize_names_left_out() -> None:
    assert tct({"tct": CLAIMS | {"iss": TAGGED}}).issuer == AGENT
    assert tcts({"tct": CLAIMS | {"iss": "i" * 513}}) == []
    change = tct({"tct": CLAIMS | {"aud": "a" * 513, "cnf": "c" * 129}})
    assert (change.audience, change.binding_cnf) == ("holder", None)


@pytest.mark.parametrize("absurd", ABSURD, ids=repr)
def test_an_absurd_date_costs_the_date_alone(absurd: Any) -> None:
    change = tct({"tct": CLAIMS | {"iat": absurd, "exp": absurd}})
    assert (change.issued_at, change.expires_at) == (at("12:00"), None)
    given = delegation(DELEGATION | {"iat": absurd, "exp": absurd})
    assert (given.issued_at, given.expires_at) == (at("12:00"), None)


def test_the_dates_of_a_token_are_seconds() -> None:
    change = tct({"tct": CLAIMS | {"iat": 1_772_625_600.5, "exp": 253_402_300_799}})
    assert change.issued_at == at("12:00:00.500")
    assert change.expires_at is not None
    assert change.expires_at.year == 9999


def test_reports_of_one_token_in_one_batch_become_one_change() -> None:
    change = tct(
        {"tcts": [CLAIMS | {"grants": ["b"], "exp": 1_772_603_600}, CLAIMS | {"grants": ["a"], "aud": "third"}]}
    )
    assert (change.grants, change.audience) == (["a", "b"], "third")
    assert change.expires_at is not None


@pytest.mark.parametrize(
    "names", [("delegator_aid", "delegatee_aid"), ("delegator", "delegatee"), ("iss", "sub"), ("delegatorAid", "sub")]
)
@pytest.mark.parametrize("place", ["tct", "delegation", None])
def test_a_delegation_is_read_in_every_dialect(names: tuple[str, str], place: str | None) -> None:
    claims = {"jti": JTI, "src_jti": PARENT, names[0]: TAGGED, names[1]: "taker", "scope": ["read"]}
    reported: list[Any] = [claims, {"claims": claims, "token": "opaque"}, {"token": compact(claims)}]
    for body in reported:
        change = delegation({place: body} if place else body)
        assert (change.jti, change.parents) == (UUID(JTI), frozenset({UUID(PARENT)}))
        assert (change.delegator, change.delegatee, change.scope) == (AGENT, "taker", ["read"])


def test_what_the_claims_lack_is_taken_from_the_payload() -> None:
    payload = {"tct": {"claims": {"iss": "giver"}}, "delegatee_aid": "taker", "grants": ["read"], "child_jti": JTI}
    change = delegation(payload | {"parentJti": PARENT})
    assert (change.jti, change.delegatee, change.scope, change.parents) == (
        UUID(JTI),
        "taker",
        ["read"],
        frozenset({UUID(PARENT)}),
    )


def test_a_single_hop_hangs_from_the_token_behind_its_voucher_and_gets_an_id_of_its_own() -> None:
    claims = {"iss": "giver", "sub": "taker", "scope": ["read"], "voucher": compact({"src_jti": PARENT})}
    token = compact(claims)
    for reported in ({"token": token, "claims": claims}, {"token": token}, token):
        change = delegation({"tct": reported})
        assert change.parents == {UUID(PARENT)}
        assert change.jti == synthetic_delegation_jti(token)
    assert change.jti.version == 5


def test_a_later_hop_hangs_from_the_last_entry_of_its_chain() -> None:
    first, last = compact({"jti": str(uuid4())}), compact({"jti": PARENT})
    claims = {"jti": JTI, "iss": "giver", "sub": "taker", "chain": [first, last], "voucher": compact({"src_jti": JTI})}
    assert delegation({"tct": {"claims": claims}}).parents == {UUID(PARENT)}
    unnamed = compact({"iss": "giver", "sub": "taker"})
    hop = claims | {"chain": [first, unnamed], "voucher": None}
    assert delegation({"tct": {"claims": hop}}).parents == {synthetic_delegation_jti(unnamed)}


@pytest.mark.parametrize("missing", ["jti", "parent_jti", "delegator", "delegatee"])
def test_a_delegation_without_its_essentials_is_no_row(missing: str) -> None:
    assert delegations({name: value for name, value in DELEGATION.items() if name != missing}) == []


@pytest.mark.parametrize(
    "payload",
    [
        {"jti": JTI},
        {"tct": {"jti": JTI}},
        {"tct": {"claims": {"jti": JTI}}},
        {"tct": compact({"jti": JTI})},
        {"tctJti": JTI},
    ],
)
@pytest.mark.parametrize("dated", [{}, {"revoked_at": 1_772_600_000}, {"revokedAt": "2026-03-04T10:00:00Z"}])
def test_a_revocation_is_read_in_every_dialect(payload: dict[str, Any], dated: dict[str, Any]) -> None:
    [found] = changes_from(
        normalised({"type": "tct.revoked", "ts": NOON, "payload": payload | dated}), RECEIVED
    ).revocations
    assert (found.jti, found.kind) == (UUID(JTI), "tct")
    assert (found.revoked_at == at("12:00")) == (not dated)


def test_a_flat_event_is_its_own_payload() -> None:
    [found] = changes_from(
        normalised({"type": "tct.revoked", "ts": NOON, "jti": JTI, "run_id": "r"}), RECEIVED
    ).revocations
    assert found.jti == UUID(JTI)


def test_a_revoked_delegation_may_be_named_by_its_token() -> None:
    token = compact({"iss": "giver", "sub": "taker"})
    [found] = changes_from(
        normalised({"type": "delegation.revoked", "payload": {"tct": {"token": token}}}), RECEIVED
    ).revocations
    assert (found.jti, found.kind) == (synthetic_delegation_jti(token), "delegation")


MEMBERS = [
    "tct", "tcts", "delegation", "claims", "token", "jti", "iss", "sub", "aud", "grants", "scope", "iat", "exp", "cnf",
    "jkt", "binding", "chain", "voucher", "parent_jti", "src_jti", "delegator", "delegatee", "revoked_at", "error",
    "boundary", "role",
]  # fmt: skip
leaves = st.one_of(
    st.none(), st.booleans(), st.integers(), st.just(10**400), st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8),
    st.sampled_from([JTI, PARENT, AGENT, compact(CLAIMS), compact([]), "x" * 600]),
)  # fmt: skip
hostile = st.recursive(
    leaves,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(MEMBERS), inner, max_size=6)),
    max_leaves=25,
)


@given(
    payload=hostile, type=st.sampled_from(sorted(ISSUING | REVOKING.keys() | sessions.STATUS_OF.keys() | {DELEGATING}))
)
def test_no_payload_makes_a_projection_raise(payload: Any, type: str) -> None:
    reports = normalised({"type": type, "payload": payload, "session_id": "s-1"})
    changes = changes_from(reports, RECEIVED)
    assert all(len(report.state.issuer) <= 512 for reported in changes.tcts.values() for report in reported)
    for reported in sessions.changes_from(reports).values():
        for session in (report.state for report in reported):
            assert session.boundary is None or len(session.boundary) <= 32
