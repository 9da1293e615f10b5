import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aitp_cp.protocol import json_numbers
from aitp_cp.protocol.json_guard import TOO_DEEP, fault_in
from aitp_cp.protocol.json_salvage import decode
from tests.protocol.ids import short

leaves = st.none() | st.booleans() | st.integers(-(2**62), 2**62) | st.text() | st.just('",[]{}\\"')
values = st.recursive(leaves, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20)


DEEP = b"[" * 100_000 + b"]" * 100_000


@given(st.lists(values), st.sampled_from([None, 2]), st.booleans())
def test_items_come_out_as_they_went_in(items: list[object], indent: int | None, ascii_only: bool) -> None:
    body = json.dumps(items, indent=indent, ensure_ascii=ascii_only).encode("utf-8", "replace")
    assert decode(body) == json.loads(body)


@settings(max_examples=30)
@given(st.lists(values), st.dictionaries(st.text().filter(lambda name: name != "events"), values))
def test_and_out_of_an_envelope(items: list[object], others: dict[str, object]) -> None:
    body = json.dumps({**others, "events": items, "last": [1, "events", {"events": [2]}]}).encode()
    assert decode(body)["events"] == json.loads(body)["events"]


@settings(max_examples=30)
@given(st.lists(values), st.lists(values))
def test_an_item_that_is_too_deep_takes_no_other_with_it(before: list[object], after: list[object]) -> None:
    text = [json.dumps(item).encode() for item in (*before, None, *after)]
    text[len(before)] = b'{"a":' * 3 + DEEP + b"}" * 3
    found = decode(b"[" + b",".join(text) + b"]")
    assert found[: len(before)] == json.loads(json.dumps(before))
    assert fault_in(found[len(before)]) == TOO_DEEP
    assert found[len(before) + 1 :] == json.loads(json.dumps(after))


def test_depth_is_that_of_each_item() -> None:
    found = decode(b'[1, "[[", [], [{"a": []}], ' + DEEP + b', {"x": 1}, ' + b"[" * 64 + b"]" * 64 + b"]")
    assert [*found[:4], found[5]] == [1, "[[", [], [{"a": []}], {"x": 1}]
    assert [fault_in(item) for item in found] == [None] * 4 + [TOO_DEEP] + [None] * 2


@pytest.mark.parametrize("body", [b"[]", b" [ \n ] ", b'{"events":[]}'])
def test_nothing_in_an_empty_array(body: bytes) -> None:
    found = decode(body)
    assert found in ([], {"events": []})


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[1",
        b"[1]]",
        b"[1] x",
        b'["unterminated]',
        b'{"events":[1]',
        b'{"events":[1] "x":2}',
        b'{"x":nonsense,"events":[1]}',
        b'{"events":[1],"x":' + DEEP + b"}",
        DEEP[1:],
        b"\xff[1]",
    ],
    ids=short,
)
def test_no_document_around_the_items(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        decode(body)


def test_a_hostile_document_is_scanned_in_linear_time() -> None:
    started = time.process_time()
    for body in (
        b'["' + b'\\"' * 130_000,
        b'{"a":"' + b'\\"' * 130_000,
        b'"events"' * 30_000,
        b"[" * 2000 + b'"\\' * 80_000,
        b"[" * 2000 + b'"events"' * 30_000,
    ):
        with pytest.raises(ValueError, match=r"."):
            decode(body)
    assert time.process_time() - started < 2


def test_numbers_stay_as_written_and_surrogates_survive() -> None:
    numbers = b'{"a":1e400,"b":-1e999,"c":' + b"7" * 5000 + b',"d":1.50,"e":-3'
    assert json_numbers.encode_written(decode(numbers + b"}")) == numbers + b"}"
    value = decode(numbers + b',"f":"\\ud800"}')
    assert isinstance(value, dict)
    assert (value["e"], value["f"]) == (-3, "\ud800")


@pytest.mark.parametrize("text", [b"", b" ", b"{a:1}", b"NaN", b"[Infinity]", b"1 2", b'"\xff"'])
def test_an_item_that_is_not_json_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        decode(text)
