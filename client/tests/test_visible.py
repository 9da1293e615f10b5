"""Which characters can be seen."""

import pytest

from aitp_cp_client.wire.visible import escaped, is_visible, pieces

UNSEEN = "\0\n\x1b\x85\xad\u200b\u200d\u202e\u2066\u2028\ufeff\u3164\u2800\ufe0f\U000e0041\ue000\U000e01ef\u0378\ud800"


@pytest.mark.parametrize("char", UNSEEN, ids=lambda char: f"U+{ord(char):04X}")
def test_what_draws_nothing_is_unseen(char: str) -> None:
    assert not is_visible(char)
    assert list(pieces(f"a{char}b")) == [("a", False), (f"U+{ord(char):04X}", True), ("b", False)]
    assert escaped(char).isascii()


@pytest.mark.parametrize("text", ["", " ", "plain", "Grüße", "日本語", "🚀", "e\u0301"])
def test_what_can_be_seen_stays(text: str) -> None:
    assert escaped(text) == text
    assert [piece.text for piece in pieces(text)] == [text]


def test_only_unseen_ones_and_neighbours() -> None:
    assert list(pieces("\u202e\u202e")) == [("U+202E", True), ("U+202E", True)]
    assert "".join(piece.text for piece in pieces("a\u200b")) == "aU+200B"
