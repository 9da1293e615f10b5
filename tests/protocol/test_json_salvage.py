import json
import time

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aitp_cp.protocol.json_salvage import decode_item, split_items
from tests.protocol.ids import short

leaves = st.none() | st.booleans() | st.integers(-(2**62), 2**62) | st.text() | st.just('",[]{}\\"')
values = st.recursive(leaves, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20)


@given(st.lists(values), st.sampled_from([None, 2]), st.booleans())
def test_items_come_out_as_they_went_in(items: list[object], indent: int | None, ascii_only: bool) -> None:
    body = json.dumps(items, indent=indent, ensure_ascii=ascii_only).encode("utf-8", "replace")
    found = split_items(body)
    assert found is not None
    assert [json.loads(item.text) for item in found] == json.loads(body)


@given(st.lists(values), st.dictionaries(st.text().filter(lambda name: name != "events"), values))
def test_and_out_of_an_envelope(items: list[object], others: dict[str, object]) -> None:
    body = json.dumps({**others, "events": items, "last": [1, "events", {"events": [2]}]}).encode()
    found = split_items(body)
    assert found is not None
    assert [json.loads(item.text) for item in found] == json.loads(body)["events"]


def test_depth_is_counted_per_item() -> None:
    found = split_items(b'[1, "[[", [], [{"a": []}], ' + b"[" * 100_000 + b"]" * 100_000 + b', {"x": 1}]')
    assert found is not None
    assert [item.depth for item in found] == [0, 0, 1, 3, 100_000, 1]


@pytest.mark.parametrize("body", [b"[]", b" [ \n ] ", b'{"events":[]}'])
def test_nothing_in_an_empty_array(body: bytes) -> None:
    assert split_items(body) == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"5",
        b'"[]"',
        b"{}",
        b'{"events":{}}',
        b'{"events":5,"x":{"events":[1]}}',
        b'{"events":null}',
        b"[1",
        b"[1]]",
        b"[1] x",
        b'["unterminated]',
        b'{"events":[1]',
        b'{"events":[1] "x":2}',
        b'{"x":nonsense,"events":[1]}',
        b'{"events":[1],"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b"\xff[1]",
    ],
    ids=short,
)
def test_no_document_around_the_items(body: bytes) -> None:
    assert split_items(body) is None


def test_a_hostile_document_is_scanned_in_linear_time() -> None:
    started = time.process_time()
    assert split_items(b'["' + b'\\"' * 130_000) is None
    assert split_items(b'{"a":"' + b'\\"' * 130_000) is None
    assert split_items(b'"events"' * 30_000) is None
    assert time.process_time() - started < 2


def test_numbers_stay_as_written_and_surrogates_survive() -> None:
    numbers = b'{"a":1e400,"b":-1e999,"c":' + b"7" * 5000 + b',"d":1.50,"e":-3'
    assert msgspec.json.encode(decode_item(numbers + b"}")) == numbers + b"}"
    value = decode_item(numbers + b',"f":"\\ud800"}')
    assert isinstance(value, dict)
    assert (value["e"], value["f"]) == (-3, "\ud800")


@pytest.mark.parametrize("text", [b"", b" ", b"{a:1}", b"NaN", b"[Infinity]", b"1 2", b'"\xff"'])
def test_an_item_that_is_not_json_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        decode_item(text)
