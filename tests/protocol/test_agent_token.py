"""Nonces and tokens that only this control plane can mint, and that end when they say."""

import base64
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aitp_cp.errors import AgentTokenInvalid, ProofInvalid
from aitp_cp.protocol.agent_token import AgentTokens, is_agent_token
from aitp_cp.protocol.derived_keys import derive
from aitp_cp_client.wire.aid import Aid
from tests.support.agents import new_agent

SECRET = b"0123456789abcdef0123456789abcdef"
TOKENS = AgentTokens(SECRET)
AID, OTHER = Aid(new_agent().aid), Aid(new_agent("p256").aid)
NOW = datetime(2026, 10, 1, 12, 0, 0, 500_000, UTC)
MINUTE = timedelta(minutes=1)


def nonce_refused(nonce: object, aid: Aid = AID, now: datetime = NOW) -> str:
    with pytest.raises(ProofInvalid) as caught:
        TOKENS.read_nonce(nonce, aid, now)
    assert caught.value.extra == {"reason": "nonce"}
    return caught.value.message


def token_refused(token: str, now: datetime = NOW) -> str:
    with pytest.raises(AgentTokenInvalid) as caught:
        TOKENS.read_token(token, now)
    return caught.value.message


def test_keys_of_two_purposes_differ_and_are_those_of_rfc_5869() -> None:
    assert derive(SECRET, "one") != derive(SECRET, "two")
    assert derive(SECRET, "one") == derive(SECRET, "one") != derive(SECRET[::-1], "one")
    assert len(derive(SECRET, "one")) == 32


def test_a_nonce_is_good_for_its_agent_for_a_minute() -> None:
    nonce = TOKENS.nonce(AID, NOW)
    read = TOKENS.read_nonce(nonce, AID, NOW + timedelta(seconds=59))
    assert read.expires_at == NOW.replace(microsecond=0) + MINUTE
    assert read == TOKENS.read_nonce(nonce, AID, NOW)
    assert "given to this agent" in nonce_refused(nonce, OTHER)
    assert "expired" in nonce_refused(nonce, now=read.expires_at)


def test_no_two_nonces_share_an_id() -> None:
    assert len({TOKENS.read_nonce(TOKENS.nonce(AID, NOW), AID, NOW).id for _ in range(100)}) == 100


@pytest.mark.parametrize("at", range(56))
def test_each_byte_of_a_nonce_is_authenticated(at: int) -> None:
    content = bytearray(base64.urlsafe_b64decode(TOKENS.nonce(AID, NOW) + "="))
    content[at] ^= 1
    assert "given to this agent" in nonce_refused(base64.urlsafe_b64encode(content).rstrip(b"=").decode())


def test_a_nonce_of_another_control_plane_is_refused() -> None:
    assert "given to this agent" in nonce_refused(AgentTokens(SECRET[::-1]).nonce(AID, NOW))


@given(st.none() | st.integers() | st.text() | st.lists(st.text()))
def test_anything_else_is_no_nonce(value: object) -> None:
    assert "one of this" in nonce_refused(value)


@pytest.mark.parametrize("aid", [AID, OTHER], ids=["ed25519", "p256"])
def test_a_token_says_who_and_until_when(aid: Aid) -> None:
    token = TOKENS.token(aid, NOW)
    assert is_agent_token(token)
    claims = TOKENS.read_token(token, NOW + timedelta(seconds=899))
    assert claims.sub == aid
    assert claims.expires_at == NOW.replace(microsecond=0) + 15 * MINUTE
    assert "expired" in token_refused(token, claims.expires_at)


def test_each_character_of_a_token_counts() -> None:
    token = TOKENS.token(AID, NOW)
    for at, char in enumerate(token):
        assert token_refused(token[:at] + ("A" if char != "A" else "B") + token[at + 1 :])
    for other in (token + "A", token[:-1], token.replace(".", ""), "aca_", "", "aca_.", token + "\n", "é" + token):
        assert "malformed" in token_refused(other)


def test_a_nonce_is_no_token_and_a_token_of_another_control_plane_neither() -> None:
    assert "malformed" in token_refused("aca_" + TOKENS.nonce(AID, NOW))
    assert "not issued" in token_refused(AgentTokens(SECRET[::-1]).token(AID, NOW))
