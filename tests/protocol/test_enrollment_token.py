import base64
import hashlib
import hmac
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aitp_cp.errors import TokenInvalid
from aitp_cp.protocol.enrollment_token import mint, verify
from aitp_cp_client.wire.aid import Aid
from tests.protocol.ids import short
from tests.support.agents import b64url, compact, new_agent

SECRET = b"0123456789abcdef0123456789abcdef"
AID = Aid(new_agent().aid)
NOW = datetime(2026, 10, 1, 12, 0, 0, 500_000, UTC)
MSH = "ab" * 32
JTI = "9b1c9a3e-0c0f-4b7e-9d6e-0d1e2f3a4b5c"
CLAIMS: dict[str, Any] = {"sub": AID, "scope": "register", "iat": 1, "exp": 2**37, "jti": JTI, "msh": MSH}


def forge(claims: object, secret: bytes = SECRET) -> str:
    body = b64url(claims if isinstance(claims, bytes) else compact(claims))
    return f"{body}.{b64url(hmac.new(secret, body.encode(), hashlib.sha256).digest())}"


def refusal(token: str, now: datetime = NOW) -> str:
    with pytest.raises(TokenInvalid) as caught:
        verify(SECRET, token, now)
    return caught.value.message


def test_a_token_says_what_the_contract_says() -> None:
    minted = mint(SECRET, AID, MSH, NOW, JTI)
    body, signature = minted.token.split(".")
    issued_at = int(NOW.timestamp())
    assert json.loads(base64.urlsafe_b64decode(body + "==")) == {
        "sub": AID,
        "scope": "register",
        "iat": issued_at,
        "exp": issued_at + 300,
        "jti": JTI,
        "msh": MSH,
    }
    assert signature == b64url(hmac.digest(SECRET, body.encode(), "sha256"))
    assert (minted.jti, minted.exp) == (JTI, issued_at + 300)


def test_it_lives_for_five_minutes() -> None:
    minted = mint(SECRET, AID, MSH, NOW, JTI)
    end = datetime.fromtimestamp(minted.exp, UTC)
    claims = verify(SECRET, minted.token, end - timedelta(milliseconds=1))
    assert (claims.sub, claims.msh, claims.jti, claims.exp) == (AID, MSH, JTI, minted.exp)
    assert "expired" in refusal(minted.token, end)


def test_a_token_made_elsewhere_by_the_same_rules_is_accepted() -> None:
    assert verify(SECRET, forge(CLAIMS), NOW).sub == AID


def test_another_secret_or_scope_is_refused() -> None:
    assert "signature" in refusal(forge(CLAIMS, secret=SECRET[::-1]))
    assert "registration" in refusal(forge({**CLAIMS, "scope": "admin"}))


@pytest.mark.parametrize(
    "claims",
    [
        b"",
        b"not json",
        b"\xff\xfe",
        b"[]",
        {},
        {**CLAIMS, "exp": "soon"},
        {**CLAIMS, "exp": True},
        {**CLAIMS, "exp": None},
        {**CLAIMS, "exp": 2**40},  # beyond the year 9999
        {**CLAIMS, "exp": 10**18},
        {**CLAIMS, "jti": ""},
        {**CLAIMS, "jti": "j" * 65},
        {**CLAIMS, "sub": 5},
        {key: CLAIMS[key] for key in CLAIMS if key != "msh"},
    ],
    ids=short,
)
def test_signed_nonsense_is_malformed(claims: object) -> None:
    assert "malformed" in refusal(forge(claims))


TOKEN = mint(SECRET, AID, MSH, NOW, JTI).token


@pytest.mark.parametrize(
    "token",
    [
        "",
        ".",
        "a.b",
        TOKEN + "=",
        TOKEN + "\n",
        " " + TOKEN,
        TOKEN + ".",
        TOKEN[:-1],
        TOKEN.replace(".", "=."),
        "é" * 99,
    ],
    ids=short,
)
def test_other_spellings_are_malformed(token: str) -> None:
    assert "malformed" in refusal(token)


def test_a_huge_token_is_not_even_hashed() -> None:
    assert "malformed" in refusal(forge({**CLAIMS, "pad": "x" * 4096}))


@given(st.integers(0, len(TOKEN) - 1), st.sampled_from("ABCXYZabcxyz0189-_.=~\0é"))
def test_no_single_character_can_be_changed(position: int, character: str) -> None:
    altered = TOKEN[:position] + character + TOKEN[position + 1 :]
    if altered != TOKEN:
        assert "enrollment token" in refusal(altered)


@given(st.text())
def test_any_text_at_all_is_refused_politely(token: str) -> None:
    assert "enrollment token" in refusal(token)
