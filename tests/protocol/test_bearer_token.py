"""The form of API keys (contract, part II, section 18)."""

import re
import zlib

from hypothesis import given
from hypothesis import strategies as st

from aitp_cp.protocol.bearer_token import ALPHABET, digest_of, is_token, new_token


def test_a_token_has_the_form_of_the_contract() -> None:
    token = new_token()
    assert re.fullmatch(r"acp_[0-9A-Za-z]{39}", token)
    check = 0
    for character in token[-6:]:
        check = check * 62 + ALPHABET.index(character)
    assert check == zlib.crc32(token[:-6].encode())
    assert int.from_bytes(digest_of(token), "big") != 0


def test_tokens_differ_in_every_place() -> None:
    tokens = [new_token() for _ in range(2000)]
    assert len(set(tokens)) == len(tokens)
    assert all(len({token[place] for token in tokens}) > 20 for place in range(6, 37))


@given(place=st.integers(0, 42), other=st.sampled_from(ALPHABET + "_-é"))
def test_one_wrong_character_is_noticed(place: int, other: str) -> None:
    token = new_token()
    wrong = token[:place] + other + token[place + 1 :]
    assert is_token(wrong) == (wrong == token)


@given(text=st.text(max_size=50))
def test_anything_else_is_none(text: str) -> None:
    assert not is_token(text)
    assert not is_token("acp_" + text)
