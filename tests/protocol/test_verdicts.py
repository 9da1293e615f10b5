"""Verdicts on real tokens, and on what a stranger can make of them."""

import hashlib
import hmac
import json
from collections.abc import Callable
from itertools import pairwise
from string import ascii_letters, digits
from time import time
from typing import Any
from uuid import UUID, uuid4

import aitp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aitp_cp.protocol import jws
from aitp_cp.protocol.verdicts import MAX_CHAIN, Checked, Kind, Verdict, check
from tests.support.agents import (
    P256_ORDER,
    Agent,
    b64url,
    claims_in,
    compact,
    delegation,
    handshake,
    new_agent,
    sdk_manifest,
    second_hop,
)

ALPHABET = ascii_letters + digits + "-_"
# The issuer, the holder it issues to, and two to whom the holder delegates; one of each suite issues and holds.
ROOT, HOLDER, SECOND, THIRD = new_agent(), new_agent("p256"), new_agent(), new_agent()
OTHER_ROOT, OTHER_HOLDER = new_agent("p256"), new_agent()
ISSUED, OTHER = handshake(HOLDER, ROOT).initiator, handshake(OTHER_HOLDER, OTHER_ROOT).initiator
FIRST_HOP = delegation(OTHER_HOLDER, OTHER.voucher, SECOND)
SECOND_HOP, _ = second_hop(FIRST_HOP, SECOND, THIRD, OTHER_HOLDER)
CORPUS = {
    "tct": (ISSUED.token, Kind.TCT),
    "tct of p256": (OTHER.token, Kind.TCT),
    "voucher": (ISSUED.voucher, Kind.VOUCHER),
    "voucher of p256": (OTHER.voucher, Kind.VOUCHER),
    "delegation": (FIRST_HOP, Kind.DELEGATION),
    "delegation of p256": (delegation(HOLDER, ISSUED.voucher, SECOND), Kind.DELEGATION),
    "two hops": (SECOND_HOP, Kind.DELEGATION),
}
TCT, VOUCHER = ISSUED.claims, claims_in(ISSUED.voucher)
SINGLE, DOUBLE = claims_in(FIRST_HOP), claims_in(SECOND_HOP)
V1 = "6ba7b810-9dad-11d1-80b4-00c04fd430c8"
LONG_AGO = {"iat": 1_000_000_000, "exp": 1_000_003_600}
GOOD_HEADER = compact({"alg": "EdDSA", "typ": Kind.TCT})

Claims = dict[str, Any]


def without(claims: Claims, *names: str) -> Claims:
    return {name: value for name, value in claims.items() if name not in names}


def jkt(agent: Agent) -> Claims:
    return {"jkt": aitp.compute_aid_jkt(agent.aid)}


def tct(**changes: Any) -> str:
    return ROOT.sign_jws(Kind.TCT, TCT | changes)


def single(**changes: Any) -> str:
    return OTHER_HOLDER.sign_jws(Kind.DELEGATION, SINGLE | changes)


def voucher(**changes: Any) -> str:
    return OTHER_ROOT.sign_jws(Kind.VOUCHER, claims_in(OTHER.voucher) | changes)


def double(**changes: Any) -> str:
    return SECOND.sign_jws(Kind.DELEGATION, DOUBLE | changes)


def chained(*chain: str, **changes: Any) -> str:
    """A last hop after these, to which it commits."""
    named = [b64url(hashlib.sha256(hop.encode()).digest()) for hop in chain]
    return double(chain=chain, chain_hash=b64url(hashlib.sha256(compact(named)).digest()), **changes)


def hop(**changes: Any) -> str:
    """The first hop of a chain, which carries a jti."""
    return OTHER_HOLDER.sign_jws(Kind.DELEGATION, SINGLE | {"jti": str(uuid4())} | changes)


def forged(token: str) -> str:
    """The same text under a signature of nobody."""
    return token.rpartition(".")[0] + "." + b64url(bytes(64))


@pytest.mark.parametrize("name", CORPUS)
def test_a_real_token_is_verified_and_says_what_it_says(name: str) -> None:
    token, kind = CORPUS[name]
    assert check(token) == Checked(Verdict.VERIFIED, kind, claims_in(token))


@pytest.mark.parametrize("name", CORPUS)
def test_no_byte_of_a_token_can_be_changed(name: str) -> None:
    """Forged wherever the issuer can still be read; else it is no token, or one of nobody known."""
    token, _ = CORPUS[name]
    found = set()
    for place, old in enumerate(token):
        for new in (ALPHABET[ALPHABET.index(old) - 1] if old != "." else "A", "!"):
            changed = token[:place] + new + token[place + 1 :]
            verdict = check(changed).verdict
            found.add(verdict)
            parsed = jws.parse(changed)
            if parsed is None:
                assert verdict is Verdict.NONE
            else:
                expected = Verdict.UNVERIFIABLE if jws.key_of(parsed.issuer) is None else Verdict.FORGED
                assert verdict is expected, (place, new)
    assert Verdict.FORGED in found
    assert Verdict.NONE in found


@pytest.mark.parametrize("name", CORPUS)
def test_a_signature_has_one_spelling(name: str) -> None:
    """The last character of 86 carries four bits that nobody needs."""
    token, _ = CORPUS[name]
    assert {check(token[:-1] + last).verdict for last in ALPHABET if last != token[-1]} == {Verdict.FORGED}
    assert check(token + "=").verdict is Verdict.NONE


def test_the_mirror_image_of_a_p256_signature_is_none() -> None:
    text, _, signature = OTHER.token.rpartition(".")
    data = jws.decoded(signature)
    assert data is not None
    mirrored = P256_ORDER - int.from_bytes(data[32:], "big")
    assert check(f"{text}.{b64url(data[:32] + mirrored.to_bytes(32, 'big'))}").verdict is Verdict.FORGED
    for r, s in ((0, 1), (1, 0), (P256_ORDER, 1), (1, P256_ORDER)):
        odd = r.to_bytes(32, "big") + s.to_bytes(32, "big")
        assert check(f"{text}.{b64url(odd)}").verdict is Verdict.FORGED


NO_TOKENS = [
    "", ".", "..", "a.b.c", "opaque", "eyJ", ISSUED.token + ".", ISSUED.token + ".extra", ISSUED.token + "\n",
    " " + ISSUED.token, ISSUED.token.replace(".", ". ", 1), "é" + ISSUED.token, ISSUED.token + "x" * 70_000,
    ROOT.sign_parts(GOOD_HEADER, compact(TCT) + b"{}"),
    ROOT.sign_parts(GOOD_HEADER, b"[]"),
    ROOT.sign_parts(GOOD_HEADER, b"\xff" + compact(TCT)),
    ROOT.sign_parts(GOOD_HEADER, compact(without(TCT, "iss"))),
    ROOT.sign_parts(GOOD_HEADER, compact(TCT | {"iss": [ROOT.aid]})),
    ROOT.sign_parts(GOOD_HEADER, b'{"iss":' * 100 + b"1" + b"}" * 100),
    ROOT.sign_parts(GOOD_HEADER, compact(TCT | {"grants": ["\0"]})),
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(NO_TOKENS)))
def test_what_is_no_token_has_no_verdict(number: int) -> None:
    assert check(NO_TOKENS[number]).verdict is Verdict.NONE


@pytest.mark.parametrize(
    "issuer", ["did:web:example", "https://idp.example", "aid:pubkey:short", f"aid:pubkey:p256:Ag{'b' * 42}", ""]
)
def test_an_issuer_without_a_key_cannot_be_verified(issuer: str) -> None:
    assert check(tct(iss=issuer)).verdict is Verdict.UNVERIFIABLE


@pytest.mark.parametrize("text", [GOOD_HEADER, b'{"alg":"none"}', b"{}", b"nonsense"])
def test_a_foreign_issuer_is_forged(text: bytes) -> None:
    """Whatever the header says, the key is the one in `iss`."""
    for payload in (TCT, TCT | {"iss": OTHER_ROOT.aid}, TCT | {"iss": SECOND.aid}):
        assert check(THIRD.sign_parts(text, compact(payload))).verdict is Verdict.FORGED
    unsigned = ".".join((b64url(text), b64url(compact(TCT)), ""))
    assert check(unsigned).verdict is Verdict.FORGED


def test_a_key_in_the_header_is_not_obeyed() -> None:
    jwk = {"kty": "OKP", "crv": "Ed25519", "x": THIRD.key}
    for more in ({"jwk": jwk}, {"kid": THIRD.aid}, {"jku": "https://evil.example"}, {"x5c": [THIRD.key]}):
        header = compact({"alg": "EdDSA", "typ": Kind.TCT} | more)
        assert check(THIRD.sign_parts(header, compact(TCT))).verdict is Verdict.FORGED
        assert check(ROOT.sign_parts(header, compact(TCT))).verdict is Verdict.INVALID


@pytest.mark.parametrize("secret", [ROOT.key, ROOT.aid, ""], ids=["key", "aid", "nothing"])
def test_a_public_key_is_no_secret(secret: str) -> None:
    """The classic confusion: HMAC under the bytes of the public key."""
    text = f"{b64url(compact({'alg': 'HS256', 'typ': Kind.TCT}))}.{b64url(compact(TCT))}"
    tag = hmac.new(secret.encode(), text.encode(), hashlib.sha256).digest()
    assert check(f"{text}.{b64url(tag)}").verdict is Verdict.FORGED
    assert check(f"{text}.{b64url(tag + tag)}").verdict is Verdict.FORGED


HEADERS = [
    {"alg": "ES256", "typ": Kind.TCT}, {"alg": "none", "typ": Kind.TCT}, {"alg": "eddsa", "typ": Kind.TCT},
    {"alg": "EdDSA", "typ": "AITP-TCT+JWT"}, {"alg": "EdDSA", "typ": "JWT"}, {"alg": "EdDSA"}, {"typ": Kind.TCT}, {},
    {"alg": "EdDSA", "typ": Kind.TCT, "crit": ["exp"]}, {"alg": "EdDSA", "typ": Kind.TCT, "b64": False},
    {"alg": "EdDSA", "typ": [Kind.TCT]}, {"alg": "EdDSA", "typ": Kind.VOUCHER},
]  # fmt: skip


@pytest.mark.parametrize(
    "header",
    [
        *map(compact, HEADERS),
        b'{"alg":"EdDSA","typ":"aitp-tct+jwt","alg":"EdDSA"}',
        GOOD_HEADER + b" x",
        b'["EdDSA"]',
        b"\xff",
    ],
)
def test_a_signed_token_under_another_header_is_invalid(header: bytes) -> None:
    assert check(ROOT.sign_parts(header, compact(TCT))).verdict is Verdict.INVALID
    assert not sdk_takes_tct(ROOT.sign_parts(header, compact(TCT)))


def test_a_token_of_another_kind_is_invalid() -> None:
    bodies = {Kind.TCT: TCT, Kind.VOUCHER: VOUCHER, Kind.DELEGATION: SINGLE | {"iss": ROOT.aid}}
    for kind in Kind:
        for other, claims in bodies.items():
            if other is not kind:
                checked = check(ROOT.sign_jws(kind, claims))
                assert (checked.verdict, checked.kind) == (Verdict.INVALID, kind)


TCT_CLAIMS: dict[str, Claims] = {
    "as issued": {},
    "extensions": {"ext": {"a": {"b": [1]}}},
    "extensions null": {"ext": None},
    "extensions no object": {"ext": 5},
    "other version": {"ver": "aitp/0.2"},
    "unknown claim": {"nbf": 1},
    "jti of version 1": {"jti": V1},
    "jti in capitals": {"jti": TCT["jti"].upper()},
    "jti with newline": {"jti": TCT["jti"] + "\n"},
    "jti no text": {"jti": 1},
    "audience is not subject": {"aud": ROOT.aid},
    "audience spelled otherwise": {"sub": f"aid:pubkey:ed25519:{THIRD.key}", "aud": THIRD.aid, "cnf": jkt(THIRD)},
    "key of another": {"cnf": jkt(THIRD)},
    "binding with more": {"cnf": jkt(HOLDER) | {"x": 1}},
    "no binding": {"cnf": None},
    "no grants": {"grants": []},
    "grants no texts": {"grants": [1]},
    "grants twice": {"grants": ["cap.read", "cap.read"]},
    "iat a fraction": {"iat": 1.0},
    "iat true": {"iat": True},
    "iat negative": {"iat": -1},
    "exp of 63 bits": {"exp": 2**63 - 1},
    "exp of 64 bits": {"exp": 2**63},
    "subject no agent": {"sub": "somebody", "aud": "somebody"},
    "self-issued": {"sub": ROOT.aid, "aud": ROOT.aid, "cnf": jkt(ROOT)},
    "attestation for another": {"grants": ["aitp.attestation"]},
    "attestation among grants": {"grants": ["aitp.attestation", "cap.read"]},
    "issuer with its tag": {"iss": f"aid:pubkey:ed25519:{ROOT.key}"},
}


@pytest.mark.parametrize("name", TCT_CLAIMS)
def test_a_live_tct_is_verified_exactly_when_the_sdk_takes_it(name: str) -> None:
    token = tct(**TCT_CLAIMS[name])
    verdict = check(token).verdict
    assert verdict is (Verdict.VERIFIED if sdk_takes_tct(token) else Verdict.INVALID)
    late = check(tct(**(LONG_AGO | TCT_CLAIMS[name]))).verdict
    assert late is verdict


@pytest.mark.parametrize("missing", TCT)
def test_every_claim_of_a_tct_is_needed(missing: str) -> None:
    expected = Verdict.NONE if missing == "iss" else Verdict.INVALID
    assert check(ROOT.sign_jws(Kind.TCT, without(TCT, missing))).verdict is expected


def test_an_attestation_is_verified() -> None:
    token = tct(sub=ROOT.aid, aud=ROOT.aid, cnf=jkt(ROOT), grants=["aitp.attestation"], ext={"statement": 1})
    assert check(token).verdict is Verdict.VERIFIED


@pytest.mark.parametrize("name", TCT)
def test_a_claim_twice_is_invalid(name: str) -> None:
    """Also where both say the same, and where the issuer that counts is the last one."""
    again = json.dumps({name: TCT[name]})[1:-1]
    payload = compact(TCT)[:-1] + f",{again}}}".encode()
    assert check(ROOT.sign_parts(GOOD_HEADER, payload)).verdict is Verdict.INVALID
    twice = b'{"iss":"' + THIRD.aid.encode() + b'",' + compact(TCT)[1:]
    assert check(ROOT.sign_parts(GOOD_HEADER, twice)).verdict is Verdict.INVALID


@pytest.mark.parametrize(
    "payload", [compact(TCT)[:-1] + b',"ext":{"a":1,"a":1}}', compact(TCT)[:-1] + b',"ext":{"a":NaN}}']
)
def test_json_that_two_readers_read_differently_is_not_verified(payload: bytes) -> None:
    token = ROOT.sign_parts(GOOD_HEADER, payload)
    assert check(token).verdict in {Verdict.INVALID, Verdict.NONE}
    assert not sdk_takes_tct(token)


def test_json_may_be_written_in_any_way() -> None:
    payload = json.dumps({name: TCT[name] for name in sorted(TCT, reverse=True)}, indent=2).encode()
    token = ROOT.sign_parts(b' {"typ": "aitp-tct\\u002bjwt", "alg": "EdDSA"} ', payload)
    assert check(token).verdict is Verdict.VERIFIED
    assert sdk_takes_tct(token)


VOUCHER_CLAIMS: dict[str, Claims] = {
    "as issued": {}, "more grants": {"grants": ["cap.read", "z"]}, "ended long ago": LONG_AGO,
    "extensions": {"ext": {}}, "unknown claim": {"aud": OTHER_ROOT.aid}, "source of version 1": {"src_jti": V1},
    "other version": {"ver": "aitp/1"}, "no grants": {"grants": []},
}  # fmt: skip


@pytest.mark.parametrize("name", VOUCHER_CLAIMS)
def test_a_voucher_is_judged_alone_and_in_a_delegation(name: str) -> None:
    changes = VOUCHER_CLAIMS[name]
    token = voucher(**changes)
    good = name in {"as issued", "more grants", "ended long ago", "extensions"}
    assert check(token).verdict is (Verdict.VERIFIED if good else Verdict.INVALID)
    ends = {"exp": changes["exp"]} if "exp" in changes else {}
    carrying = single(voucher=token, **ends)
    assert check(carrying).verdict is check(token).verdict
    if not ends:
        assert sdk_takes_delegation(carrying) == good


DELEGATIONS: dict[str, Callable[[], str]] = {
    "as issued": lambda: single(),
    "with a jti": lambda: single(jti=str(uuid4())),
    "jti of version 1": lambda: single(jti=V1),
    "unknown claim": lambda: single(iat=5),
    "no scope": lambda: single(scope=[]),
    "more than the voucher": lambda: single(scope=["cap.read", "cap.write"]),
    "outlives the voucher": lambda: single(exp=SINGLE["exp"] + 1),
    "to oneself": lambda: single(sub=OTHER_HOLDER.aid, cnf=jkt(OTHER_HOLDER)),
    "key of another": lambda: single(cnf=jkt(THIRD)),
    "other audience": lambda: single(aud=THIRD.aid),
    "voucher of another": lambda: single(voucher=ISSUED.voucher),
    "voucher for another": lambda: single(voucher=voucher(sub=THIRD.aid)),
    "voucher no token": lambda: single(voucher="opaque"),
    "voucher a tct": lambda: single(voucher=OTHER.token),
    "no voucher": lambda: OTHER_HOLDER.sign_jws(Kind.DELEGATION, without(SINGLE, "voucher")),
    "empty chain": lambda: single(chain=[]),
    "null chain": lambda: single(chain=None),
    "two hops": lambda: double(),
    "two hops again": lambda: chained(hop()),
    "hop without a jti": lambda: chained(FIRST_HOP),
    "one jti for two": lambda: chained(hop(jti=DOUBLE["jti"])),
    "last without a jti": lambda: SECOND.sign_jws(Kind.DELEGATION, without(DOUBLE, "jti")),
    "other chain": lambda: double(chain=[hop()]),
    "no commitment": lambda: double(chain_hash=None),
    "two vouchers": lambda: double(voucher=OTHER.voucher),
    "more than the hop before": lambda: double(scope=["cap.read", "z"]),
    "outlives the hop before": lambda: double(exp=DOUBLE["exp"] + 1),
    "broken chain": lambda: chained(hop(sub=THIRD.aid, cnf=jkt(THIRD))),
    "hop to another audience": lambda: chained(hop(aud=ROOT.aid)),
    "hop with the key of another": lambda: chained(hop(cnf=jkt(THIRD))),
    "hop without a voucher": lambda: chained(
        OTHER_HOLDER.sign_jws(Kind.DELEGATION, without(SINGLE, "voucher") | {"jti": str(uuid4())})
    ),
    "hop no token": lambda: chained("opaque"),
    "hop a voucher": lambda: chained(OTHER.voucher),
}
GOOD = {"as issued", "with a jti", "empty chain", "null chain", "two hops", "two hops again"}


@pytest.mark.parametrize("name", DELEGATIONS)
def test_a_live_delegation_is_verified_exactly_when_the_sdk_takes_it(name: str) -> None:
    token = DELEGATIONS[name]()
    assert check(token).verdict is (Verdict.VERIFIED if name in GOOD else Verdict.INVALID)
    assert sdk_takes_delegation(token) == (name in GOOD)


def test_the_worst_signature_in_a_delegation_decides() -> None:
    stranger = voucher(iss="did:web:example")
    cases = {
        single(voucher=forged(OTHER.voucher)): Verdict.FORGED,
        single(voucher=stranger): Verdict.UNVERIFIABLE,
        chained(forged(hop())): Verdict.FORGED,
        chained(hop(voucher=forged(OTHER.voucher))): Verdict.FORGED,
        chained(hop(voucher=stranger)): Verdict.UNVERIFIABLE,
        chained(hop(iss="did:web:example")): Verdict.UNVERIFIABLE,
        chained(forged(hop(voucher=stranger))): Verdict.FORGED,
        chained(hop(voucher="opaque")): Verdict.INVALID,
        forged(double()): Verdict.FORGED,
    }
    for token, verdict in cases.items():
        assert check(token).verdict is verdict


def test_a_long_chain_is_verified_up_to_a_bound() -> None:
    agents = [SECOND, *(new_agent() for _ in range(MAX_CHAIN + 1))]
    chain = [hop()]
    for delegator, delegatee in pairwise(agents):
        named = [b64url(hashlib.sha256(text.encode()).digest()) for text in chain]
        changes = {"iss": delegator.aid, "sub": delegatee.aid, "cnf": jkt(delegatee), "jti": str(uuid4())}
        committed = {"chain": chain, "chain_hash": b64url(hashlib.sha256(compact(named)).digest())}
        good = len(chain) <= MAX_CHAIN
        token = delegator.sign_jws(Kind.DELEGATION, DOUBLE | changes | committed)
        assert check(token).verdict is (Verdict.VERIFIED if good else Verdict.INVALID)
        assert sdk_takes_delegation(token, *agents) == good
        chain.append(delegator.sign_jws(Kind.DELEGATION, without(DOUBLE, "chain", "chain_hash") | changes))


ODD = [b"1" + b"0" * 40, b"1e400", b"-1e400", b"9" * 5000, b"[" * 60 + b"]" * 60, rb'"\ud800"', b"NaN", b"-0"]


@pytest.mark.parametrize("number", range(len(ODD)))
def test_odd_json_raises_nothing(number: int) -> None:
    odd = ODD[number]
    for name in ("exp", "sub", "grants", "cnf", "ext", "other"):
        payload = compact(TCT)[:-1] + f',"{name}":'.encode() + odd + b"}"
        token = ROOT.sign_parts(GOOD_HEADER, payload)
        assert check(token).verdict in {Verdict.NONE, Verdict.INVALID}
        assert check(forged(token)).verdict in {Verdict.NONE, Verdict.FORGED}
    assert check(ROOT.sign_parts(b'{"alg":' + odd + b"}", compact(TCT))).verdict is Verdict.INVALID


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60), st.dictionaries(st.text(max_size=8), st.integers() | st.text(max_size=60), max_size=4))
def test_no_token_raises(header: bytes, claims: dict[str, Any]) -> None:
    for payload in (claims, {**claims, "iss": ROOT.aid}):
        text = json.dumps(payload).encode()
        assert check(ROOT.sign_parts(header or b"{", text)).verdict in {
            Verdict.NONE,
            Verdict.UNVERIFIABLE,
            Verdict.INVALID,
        }


def sdk_takes_tct(token: str) -> bool:
    try:
        claims = claims_in(token)
        grant = next((grant for grant in claims["grants"] if isinstance(grant, str)), "none")
        aid = claims["sub"]
        THIRD.sdk.verify_tct(token, grant, expected_audience=aid, revocation="fail_open")
    except (RuntimeError, ValueError, KeyError, TypeError):
        return False
    return True


def sdk_takes_delegation(token: str, *more: Agent) -> bool:
    agents = (OTHER_ROOT, OTHER_HOLDER, SECOND, THIRD, *more)
    try:
        aitp.verify_delegation_multihop(
            token,
            OTHER_ROOT.aid,
            [sdk_manifest(agent).decode() for agent in agents],
            MAX_CHAIN + 2,
            revocation="fail_open",
        )
    except (RuntimeError, ValueError):
        return False
    return True


def test_the_corpus_is_live() -> None:
    """The comparisons with the SDK say something only while nothing has expired."""
    assert TCT["exp"] > time() + 60
    assert UUID(TCT["jti"]).version == 4
