"""Names that look alike (Unicode Technical Standard 39)."""

import time

import pytest

from aitp_cp.registry.lookalikes import MAX_SKELETON, mixes_scripts, skeleton

ALIKE = [
    ("researcher", "rese\u0430rcher"),
    ("Modern", "rnodern"),
    ("Invoice", "lnvoice"),
    ("pay\u200bpal", "\u202epaypal\u202c"),
    ("ABC", "\uff21\uff22\uff23"),
    ("caf\u00e9", "cafe\u0301"),
    ("bank", "\U0001d41bank"),
    ("O0", "0O"),
    ("a\ufe0fb", "ab"),
]


@pytest.mark.parametrize(("one", "other"), ALIKE)
def test_names_that_look_the_same_have_one_skeleton(one: str, other: str) -> None:
    assert skeleton(one) == skeleton(other)


def test_other_names_have_others() -> None:
    names = ["researcher", "research", "broker", "br0ker2", "", "代理", "代理人"]
    assert len({skeleton(name) for name in names}) == len(names)


def test_a_skeleton_is_bounded_and_storable() -> None:
    for char in ("\ufdfa", "m", "\U0010ffff", "\u0345", "\u1e9e"):
        assert len(skeleton(char * 256)) <= MAX_SKELETON
        assert len(skeleton(char * 256).encode()) < 2000


def test_a_long_filter_takes_no_time() -> None:
    began = time.process_time()
    assert len(skeleton("a" + "\u0301\u0316" * 100_000)) <= MAX_SKELETON
    assert time.process_time() - began < 0.1


@pytest.mark.parametrize("name", ["rese\u0430rcher", "\u0440aypal", "日本и", "α-b"])
def test_mixed_scripts(name: str) -> None:
    assert mixes_scripts(name)


@pytest.mark.parametrize(
    "name", ["researcher 7 ✓", "café", "привет-2", "日本語 agent かな", "한국 agent 韓", "", "🙂 bot"]
)
def test_scripts_that_belong_together(name: str) -> None:
    assert not mixes_scripts(name)
