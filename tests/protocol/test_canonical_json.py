import json

import pytest
import rfc8785
from hypothesis import example, given
from hypothesis import strategies as st

from aitp_cp.protocol import canonical_json

SAFE = 2**53 - 1
leaves = (
    st.none() | st.booleans() | st.integers(-SAFE, SAFE) | st.floats(allow_nan=False, allow_infinity=False) | st.text()
)
values = st.recursive(leaves, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20)


@given(values)
@example({"a": [1.0, -0.0, 1e30, 1e-7, 1e21, 1e16, 5e-324, 0.000001, 123456789012345680.0]})
@example({"\U0001f600": 1, "\uffee": 2, 'a"\U0001f600': 3, "\\": 4})
@example({'\U0001f600"': 1, '\uffee"': 2})
@example("\x7f\x1f\n\b\f</\u2028")
@example([{"n": 1.0}])
def test_it_is_rfc_8785(value: object) -> None:
    assert canonical_json.encode(value) == rfc8785.dumps(value)  # type: ignore[arg-type]


def test_order_and_spelling_of_the_source_do_not_matter() -> None:
    one = json.loads('{"b": [1.0, "\\u0041"], "a": 1e2}')
    other = json.loads('{"a":100,"b":[1,"A"]}')
    assert canonical_json.encode(one) == canonical_json.encode(other) == b'{"a":100,"b":[1,"A"]}'


def test_integers_that_a_float_cannot_hold_stay_apart() -> None:
    assert canonical_json.encode({"at": 2**53 + 1, "x": 1.0}) == b'{"at":9007199254740993,"x":1.0}'
    assert canonical_json.encode([2**60]) != canonical_json.encode([2**60 + 1])
    assert canonical_json.encode([10**300]) == b"[1" + b"0" * 300 + b"]"


def test_a_lone_surrogate_is_refused() -> None:
    with pytest.raises(UnicodeEncodeError):
        canonical_json.encode({"a": "\ud800"})


def test_a_long_run_of_high_characters_takes_linear_time() -> None:
    text = "\U0001f600" * 200_000
    assert canonical_json.encode({"a": text}) == b'{"a":"' + text.encode() + b'"}'
