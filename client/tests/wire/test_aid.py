import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aitp_cp_client.wire import aid
from tests.support.agents import b64url, new_agent


def ed25519(key: bytes, tag: str = "") -> str:
    return f"aid:pubkey:{tag}{b64url(key)}"


def test_the_sdks_own_aids_are_canonical() -> None:
    for agent in (new_agent(), new_agent("p256")):
        assert aid.canonical(agent.aid) == agent.aid
        assert aid.public_key(aid.canonical(agent.aid)) == agent.key
        assert aid.suite(aid.canonical(agent.aid)) == agent.suite


@given(st.binary(min_size=32, max_size=32))
def test_both_spellings_of_an_ed25519_key_are_one(key: bytes) -> None:
    assert aid.canonical(ed25519(key, "ed25519:")) == aid.canonical(ed25519(key)) == ed25519(key)


@given(st.binary(min_size=32, max_size=32), st.sampled_from([2, 3]))
def test_every_compressed_point_is_accepted(x: bytes, parity: int) -> None:
    text = f"aid:pubkey:p256:{b64url(bytes([parity]) + x)}"
    assert aid.canonical(text) == text
    assert aid.suite(aid.canonical(text)) == "p256"


@given(st.binary(min_size=33, max_size=33).filter(lambda key: key[0] not in (2, 3)))
def test_other_points_are_not(key: bytes) -> None:
    assert aid.recognise(f"aid:pubkey:p256:{b64url(key)}") is None


@given(st.text(alphabet="ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_", min_size=43, max_size=43))
def test_exactly_one_encoding_of_a_key_is_an_aid(text: str) -> None:
    assert (aid.recognise(f"aid:pubkey:{text}") is not None) == (b64url(base64.urlsafe_b64decode(text + "=")) == text)


KEY = b64url(bytes(32))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "aid:pubkey:",
        f"aid:pubkey:{KEY}=",
        f"aid:pubkey:{KEY}\n",
        f" aid:pubkey:{KEY}",
        f"aid:pubkey:{KEY[:-1]}",
        f"aid:pubkey:{KEY}A",
        f"AID:PUBKEY:{KEY}",
        f"aid:pubkey:rsa:{KEY}",
        f"aid:pubkey:p256:{KEY}",
        f"aid:pubkey:{KEY[:-1]}+",
        f"aid:pubkey:{KEY[:-1]}B",
        f"aid:pubkey:{KEY[:-1]}\u0661",
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    assert aid.recognise(text) is None
    assert aid.spelled(text) == text
    with pytest.raises(ValueError, match="not an AID"):
        aid.canonical(text)


@pytest.mark.parametrize("value", [None, 5, b"aid:pubkey:", ["aid"], {}])
def test_other_types_are_no_aids(value: object) -> None:
    assert aid.recognise(value) is None


def test_a_filter_finds_an_agent_under_either_spelling() -> None:
    assert aid.spelled(ed25519(bytes(32), "ed25519:")) == ed25519(bytes(32))
