import copy
import hashlib
import json
from time import process_time
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aitp_cp.protocol.tokens import claims_of, redact, synthetic_delegation_jti, text_of
from tests.protocol.ids import short
from tests.support.agents import b64url, claims_in, compact, delegation, handshake, new_agent, second_hop

ALICE, BOB, CAROL, DAVE = (new_agent() for _ in range(4))
HANDSHAKE = handshake(ALICE, BOB)
TCT = HANDSHAKE.initiator.token
VOUCHER = HANDSHAKE.initiator.voucher
SINGLE = delegation(ALICE, VOUCHER, CAROL)
DOUBLE, FIRST_HOP = second_hop(SINGLE, CAROL, DAVE, ALICE)


def sha(token: str) -> dict[str, str]:
    return {"sha256": hashlib.sha256(token.encode()).hexdigest()}


def words(token: str) -> str:
    return "sha256:" + sha(token)["sha256"]


def jws(claims: bytes) -> str:
    return f"{b64url(b'{}')}.{b64url(claims)}.{b64url(b'signature')}"


def test_the_claims_of_real_tokens() -> None:
    for token in (TCT, VOUCHER, SINGLE, DOUBLE):
        assert claims_of(token) == claims_in(token)
    assert (claims_of(VOUCHER) or {})["src_jti"] == HANDSHAKE.initiator.claims["jti"]
    assert (claims_of(DOUBLE) or {})["chain"] == [FIRST_HOP]


@pytest.mark.parametrize(
    "token",
    [
        None,
        5,
        b"a.b.c",
        {},
        "",
        "..",
        "a.b",
        "a.b.c.d",
        "not a token",
        TCT + "=",
        TCT + "\n",
        jws(b"[]"),
        jws(b"5"),
        jws(b"not json"),
        jws(b"\xff"),
        jws(b'{"a":"\\u0000"}'),
        jws(b'{"a":"\\ud800"}'),
        jws(b'{"a":' * 65 + b"1" + b"}" * 65),
        jws(b"[" * 40_000),
        jws(b'{"exp":1e400}'),
        "a.b" + "A" * 3 + ".c",
        jws(compact({"pad": "x" * 65_536})),
    ],
    ids=short,
)
def test_what_has_no_readable_claims(token: object) -> None:
    assert claims_of(token) is None


@given(st.text() | st.binary().map(jws))
def test_reading_never_raises(token: str) -> None:
    found = claims_of(token)
    assert found is None or isinstance(found, dict)


def test_the_made_up_id_of_a_single_hop_delegation() -> None:
    jti = synthetic_delegation_jti(SINGLE)
    digest = bytearray(hashlib.sha1(b"aitp-delegation:" + SINGLE.encode()).digest()[:16])
    digest[6] = digest[6] & 0x0F | 0x50
    digest[8] = digest[8] & 0x3F | 0x80
    assert jti == UUID(bytes=bytes(digest))
    assert (jti.version, jti.variant) == (5, "specified in RFC 4122")
    assert synthetic_delegation_jti("x") == UUID("4b9e3a02-04c6-5d06-9467-c1639966257d")


def tct(token: str = TCT) -> dict[str, Any]:
    return {"token": token, "claims": claims_in(TCT)}


CASES: list[tuple[Any, Any]] = [
    ({"tct": tct()}, {"tct": {"token": sha(TCT), "claims": claims_in(TCT)}}),
    ({"tct": tct("opaque")}, {"tct": {"token": sha("opaque"), "claims": claims_in(TCT)}}),
    (
        {"tcts": [tct(), {"token": "opaque"}, {"jti": "flat"}, 5]},
        {"tcts": [tct() | {"token": sha(TCT)}, {"token": sha("opaque")}, {"jti": "flat"}, 5]},
    ),
    (
        {"tct": {"token": SINGLE, "claims": {"iss": "a", "voucher": VOUCHER, "chain": [FIRST_HOP, "opaque"]}}},
        {
            "tct": {
                "token": sha(SINGLE),
                "claims": {"iss": "a", "voucher": sha(VOUCHER), "chain": [sha(FIRST_HOP), sha("opaque")]},
            }
        },
    ),
    (
        {"delegation": {"token": "opaque", "claims": {"voucher": "v", "chain": ["c"]}}},
        {"delegation": {"token": sha("opaque"), "claims": {"voucher": sha("v"), "chain": [sha("c")]}}},
    ),
    ({"delegation": {"voucher": "v", "chain": ["c"]}}, {"delegation": {"voucher": sha("v"), "chain": [sha("c")]}}),
    ({"claims": {"voucher": "v", "scope": ["a"]}}, {"claims": {"voucher": sha("v"), "scope": ["a"]}}),
    ({"voucher": VOUCHER, "chain": [FIRST_HOP]}, {"voucher": sha(VOUCHER), "chain": [sha(FIRST_HOP)]}),
    ({"token": SINGLE}, {"token": sha(SINGLE)}),
    ({"tct": TCT, "tcts": [TCT]}, {"tct": sha(TCT), "tcts": [sha(TCT)]}),
    (
        {"grant_voucher": VOUCHER, "deep": [{"er": [TCT]}]},
        {"grant_voucher": sha(VOUCHER), "deep": [{"er": [sha(TCT)]}]},
    ),
    (
        {"chain": [{"token": 1}], "claims": {"chain": [{"token": "t"}]}},
        {"chain": [{"token": 1}], "claims": {"chain": [{"token": sha("t")}]}},
    ),
    (
        {"note": f"Bearer {TCT}, again: {VOUCHER}.", f"https://x.example/?t={TCT}#top": [f"{TCT}~{VOUCHER}"]},
        {
            "note": f"Bearer {words(TCT)}, again: {words(VOUCHER)}.",
            f"https://x.example/?t={words(TCT)}#top": [f"{words(TCT)}~{words(VOUCHER)}"],
        },
    ),
    (TCT, sha(TCT)),
    ([TCT], [sha(TCT)]),
    (
        {"type": "tct.issued", "ts": 1, "tct": {"token": "opaque"}, "playground": {"run_id": "r"}},
        {"type": "tct.issued", "ts": 1, "tct": {"token": sha("opaque")}, "playground": {"run_id": "r"}},
    ),
]


@pytest.mark.parametrize(("payload", "expected"), CASES, ids=short)
def test_raw_tokens_become_fingerprints(payload: Any, expected: Any) -> None:
    before = copy.deepcopy(payload)
    assert redact(payload) == expected
    assert payload == before


@pytest.mark.parametrize(
    "payload",
    [
        None,
        5,
        "text",
        {},
        {"token": "USDC", "chain": ["mainnet"], "voucher": "SUMMER24"},
        {"tct": {"token": None, "claims": {"voucher": 5, "chain": None}}},
        {"host": "eyJ.example.com.", "version": "1.2.3"},
    ],
    ids=short,
)
def test_nothing_else_is_touched(payload: Any) -> None:
    assert redact(payload) is payload


@pytest.mark.parametrize("text", ["eyJ" * 20_000, "eyJhbGciOiJub25lIn0." * 3_000, "." * 60_000, "eyJ.x." * 10_000])
def test_hostile_text_is_read_in_linear_time(text: str) -> None:
    started = process_time()
    redact({text: [text]})
    assert process_time() - started < 0.5


def test_a_redacted_token_is_still_readable_in_memory_alone() -> None:
    redacted = redact({"tct": {"token": TCT}})["tct"]["token"]
    assert (text_of(redacted), redacted.text) == (TCT, words(TCT))
    assert TCT not in repr(redacted) + json.dumps(redacted) + msgspec.json.encode(redacted).decode()


def test_what_does_not_change_is_shared() -> None:
    claims = claims_in(TCT)
    payload = {"tct": {"token": TCT, "claims": claims}, "other": {"a": [1, 2]}}
    redacted = redact(payload)
    assert redacted["tct"]["claims"] is claims
    assert redacted["other"] is payload["other"]


NAMES = st.sampled_from(["tct", "tcts", "token", "claims", "voucher", "chain", "delegation", "note"])
PAYLOADS = st.recursive(
    st.sampled_from([TCT, VOUCHER, "opaque", 5, None]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=15,
)


@given(PAYLOADS)
def test_no_real_token_survives_anywhere_and_twice_is_once(payload: Any) -> None:
    redacted = redact(payload)
    text = json.dumps(redacted)
    assert TCT not in text
    assert VOUCHER not in text
    assert redact(redacted) == redacted
