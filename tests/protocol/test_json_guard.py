import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aitp_cp.errors import BodyInvalid
from aitp_cp.protocol import json_guard
from tests.protocol.ids import short

leaves = st.none() | st.booleans() | st.integers(-(2**62), 2**62) | st.text()
values = st.recursive(leaves, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=30)


def nested(depth: int, leaf: object = None) -> object:
    value = [] if leaf is None else [leaf]
    for _ in range(depth - 1):
        value = [value]
    return value


@given(values)
def test_ordinary_json_is_read(value: object) -> None:
    if "\\u0000" not in json.dumps(value):
        assert json_guard.decode(json.dumps(value).encode()) == value


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (b"", "is not JSON"),
        (b"{", "is not JSON"),
        (b"[1,]", "is not JSON"),
        (b"NaN", "is not JSON"),
        (b'{"a":Infinity}', "is not JSON"),
        (b"[] []", "is not JSON"),
        (b"\xef\xbb\xbf{}", "is not JSON"),
        (b'"a\x00b"', "is not JSON"),
        (b'"\xff"', "is not UTF-8"),
        (b'{"\xed\xa0\x80":1}', "is not UTF-8"),
        (b'"\\ud800"', "lone surrogate"),
        (b'{"a":["\\udfff"]}', "lone surrogate"),
        (b'{"\\ud800":1}', "lone surrogate"),
        (b'"\\u0000"', "NUL"),
        (b'{"a":{"b\\u0000":1}}', "NUL"),
        (b'[["x","\\u0000"]]', "NUL"),
        (b"1e400", "out of range"),
        (b"[" + b"9" * 5000 + b"]", "out of range"),
        (b"[" * 65 + b"]" * 65, "deeper than 64"),
        (b'{"a":' * 65 + b"1" + b"}" * 65, "deeper than 64"),
        (b"[" * 900 + b"]" * 900, "deeper than 64"),
        (b"[" * 100_000 + b"]" * 100_000, "deeper than 64"),
        (b"[" * 100_000, "deeper than 64"),
    ],
    ids=short,
)
def test_what_it_refuses_and_says(body: bytes, complaint: str) -> None:
    with pytest.raises(BodyInvalid, match=complaint):
        json_guard.decode(body)


def test_escapes_that_only_look_like_a_nul_are_fine() -> None:
    assert json_guard.decode(rb'"\\u0000"') == "\\u0000"


def test_the_bound_is_64_levels_and_brackets_in_strings_do_not_count() -> None:
    deepest = json.dumps(nested(64, "leaf")).encode()
    assert json_guard.decode(deepest) == nested(64, "leaf")
    assert json_guard.decode(b'"' + b"[" * 1000 + b'"') == "[" * 1000
    wide = b"[" + b",".join([b"[{}]"] * 500) + b"]"
    assert json_guard.decode(wide) == [[{}]] * 500


def test_duplicate_names_are_left_to_those_who_care() -> None:
    assert json_guard.decode(b'{"a":1,"a":2}') == {"a": 2}


@pytest.mark.parametrize("depth", [1, 63, 64, 65, 66])
def test_depth_is_exact_for_empty_and_filled_containers(depth: int) -> None:
    expected = json_guard.TOO_DEEP if depth > 64 else None
    assert json_guard.fault_in(nested(depth)) == expected
    assert json_guard.fault_in(nested(depth, "leaf")) == expected
    assert json_guard.fault_in(nested(depth, {} if depth < 64 else "leaf")) == expected


def test_the_deepest_leaf_is_looked_at_too() -> None:
    assert json_guard.fault_in(nested(64, "\0")) == json_guard.NUL
    assert json_guard.fault_in(nested(64, "\ud800")) == json_guard.LONE_SURROGATE
