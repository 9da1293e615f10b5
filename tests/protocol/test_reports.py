import hashlib
import json
from datetime import UTC, datetime
from itertools import count
from time import process_time
from typing import Any
from uuid import UUID

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from aitp_cp.errors import BodyInvalid, PayloadTooLarge
from aitp_cp.protocol import json_numbers
from aitp_cp.protocol.reports import Batch, Problem, Report, Reporter, normalise
from tests.protocol.ids import short
from tests.support.agents import new_agent

NOW = datetime(2026, 10, 1, 12, 0, 0, 123_000, UTC)
CALLER = "0123456789abcdef"
ALICE, BOB = new_agent().aid, new_agent("p256").aid
TAGGED = ALICE.replace("aid:pubkey:", "aid:pubkey:ed25519:")
TS = "2026-09-30T08:00:00.500Z"


def dice() -> Any:
    numbers = count(1)
    return lambda: UUID(int=next(numbers), version=4)


def read(body: object, caller: str = CALLER) -> Batch:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return normalise(raw, Reporter(caller), NOW, dice())


def one(event: dict[str, Any], caller: str = CALLER) -> Report:
    batch = read([event], caller)
    assert batch.problems == []
    return batch.reports[0]


def problems(body: object) -> list[tuple[int, str, str]]:
    batch = read(body)
    assert batch.dropped == len(batch.problems)
    return [(problem.index, problem.field, problem.reason) for problem in batch.problems]


FULL: dict[str, Any] = {
    "type": "handshake.complete",
    "ts": TS,
    "aid_a": ALICE,
    "aid_b": BOB,
    "session_id": "s-1",
    "run_id": "r-1",
    "grants": ["cap.read"],
    "payload": {"boundary": "org", "n": 1.5},
    "source": "scenario",
}


def test_a_full_event() -> None:
    report = one(FULL)
    assert (report.type, report.source) == ("handshake.complete", "scenario")
    assert report.ts == datetime(2026, 9, 30, 8, 0, 0, 500_000, UTC)
    assert (report.aid_a, report.aid_b, report.session_id, report.run_id) == (ALICE, BOB, "s-1", "r-1")
    assert (report.grants, report.payload) == (["cap.read"], {"boundary": "org", "n": 1.5})


def test_an_empty_event() -> None:
    report = one({})
    assert (report.type, report.source, report.ts) == ("unknown", "playground", NOW)
    assert (report.aid_a, report.aid_b, report.session_id, report.run_id, report.grants) == (None,) * 5
    assert report.payload == {}
    assert report.id.version == 4


CAMEL = {"aid_a": "aidA", "aid_b": "aidB", "session_id": "sessionId", "run_id": "runId"}


def test_both_casings_say_the_same() -> None:
    snake = one(FULL)
    camel = one({CAMEL.get(name, name): value for name, value in FULL.items()})
    for name in ("type", "ts", "aid_a", "aid_b", "session_id", "run_id", "grants", "payload", "source"):
        assert getattr(camel, name) == getattr(snake, name)


def test_snake_case_wins_and_an_empty_or_null_member_counts_as_absent() -> None:
    assert one({"session_id": "a", "sessionId": "b"}).session_id == "a"
    assert one({"session_id": None, "sessionId": "b"}).session_id == "b"
    assert one({"session_id": "", "sessionId": "b"}).session_id == "b"
    assert one({"aid_a": "", "initiator": ALICE}).aid_a == ALICE


def test_an_array_and_an_envelope_are_the_same_batch() -> None:
    assert read([FULL]) == read({"events": [FULL]}) == read({"events": [FULL], "extra": 1})
    assert read([]) == read({"events": []}) == Batch([], [], 0)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"5",
        b"null",
        b'"[]"',
        b'{"events":{}}',
        b'{"events":null}',
        b'{"events":5,"x":{"events":[1]}}',
        b'{"events":5,"x":1e400}',
        b'{"events":[1],"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b"[{]",
        b"[{},]",
        b"[{}] x",
        b"[NaN]",
        b'[{"a":"\xff"}]',
        b'[{"a":1e400},{]',
        b'[{"a":"\\ud800"},nonsense]',
        b"[" * 100_000,
    ],
    ids=short,
)
def test_a_body_that_is_no_batch(body: bytes) -> None:
    with pytest.raises(BodyInvalid):
        read(body)


def test_aids_are_canonical_and_others_stay_as_they_are() -> None:
    report = one({"aid_a": TAGGED, "aidB": "legacy-agent"})
    assert (report.aid_a, report.aid_b) == (ALICE, "legacy-agent")


def test_initiator_and_target_stand_in_only_when_they_are_aids() -> None:
    report = one({"initiator": TAGGED, "target": BOB})
    assert (report.aid_a, report.aid_b) == (ALICE, BOB)
    report = one({"initiator": "Alice", "target": {"aid": BOB}})
    assert (report.aid_a, report.aid_b) == (None, None)
    assert one({"aid_a": "legacy", "initiator": ALICE}).aid_a == "legacy"
    assert one({"initiator": "x" * 10_000}).aid_a is None


def test_the_playgrounds_run_id_stands_in() -> None:
    assert one({"playground": {"run_id": "r"}}).run_id == "r"
    assert one({"playground": {"runId": "r"}}).run_id == "r"
    assert one({"run_id": "own", "playground": {"run_id": "r"}}).run_id == "own"
    assert one({"playground": "r"}).run_id is None


def test_without_a_payload_the_raw_event_is_the_payload() -> None:
    raw = {"type": "x", "tct": {"jti": "j"}, "ts": TS}
    assert one(raw).payload == raw
    assert one({**raw, "payload": None}).payload == {**raw, "payload": None}
    assert one({**raw, "payload": {}}).payload == {}
    assert one({**raw, "payload": False}).payload is False
    assert one({**raw, "payload": [1, "a"]}).payload == [1, "a"]


def test_garbage_among_the_grants_is_left_out() -> None:
    assert one({"grants": ["a", 5, None, {"b": 1}, "c"]}).grants == ["a", "c"]
    assert one({"grants": []}).grants == []
    assert one({"grants": "a"}).grants is None
    assert one({"grants": None}).grants is None


def test_numbers_as_ids_are_taken_as_text_and_other_kinds_as_absent() -> None:
    report = one({"session_id": 42, "runId": -7, "type": 5, "source": {"a": 1}, "aid_a": True})
    assert (report.session_id, report.run_id, report.type) == ("42", "-7", "5")
    assert (report.source, report.aid_a) == ("playground", None)


@pytest.mark.parametrize("ts", [None, "", "yesterday", -1, 1e308, True, [], {}, "1969-01-01"])
def test_an_unusable_time_is_the_time_of_receipt(ts: object) -> None:
    report = one({"ts": ts})
    assert report.ts == NOW


def test_limits_are_inclusive_and_name_the_field() -> None:
    fits = {
        "type": "t" * 128,
        "source": "s" * 128,
        "aid_a": "a" * 512,
        "aid_b": "\U0001f600" * 512,
        "session_id": "s" * 255,
        "run_id": "r" * 255,
    }
    assert one(fits).aid_b == "\U0001f600" * 512
    batch = [{name: value + "x"} for name, value in fits.items()] + [{"playground": {"run_id": "r" * 256}}]
    assert problems([{}, *batch, {}]) == [
        (1, "type", "is longer than 128 characters"),
        (2, "source", "is longer than 128 characters"),
        (3, "aid_a", "is longer than 512 characters"),
        (4, "aid_b", "is longer than 512 characters"),
        (5, "session_id", "is longer than 255 characters"),
        (6, "run_id", "is longer than 255 characters"),
        (7, "run_id", "is longer than 255 characters"),
    ]
    assert len(read([{}, *batch, {}]).reports) == 2


@pytest.mark.parametrize("item", [None, 5, "x", [], [{}], True])
def test_what_is_no_object_is_dropped_alone(item: object) -> None:
    assert problems([{"type": "a"}, item, {"type": "b"}]) == [(1, "event", "is not an object")]
    assert [report.type for report in read([{"type": "a"}, item, {"type": "b"}]).reports] == ["a", "b"]


def deep(levels: int) -> bytes:
    return b"[" * levels + b"]" * levels


NUL, SURROGATE, DEEP = "holds a NUL character", "holds a lone surrogate", "is nested deeper than 64 levels"


@pytest.mark.parametrize(
    ("item", "problem"),
    [
        (b'{"type":"a\\u0000"}', ("type", NUL)),
        (b'{"payload":{"x":["\\u0000"]}}', ("payload", NUL)),
        (b'{"payload":{"\\u0000":1}}', ("payload", NUL)),
        (b'{"x\\u0000":1}', ("event", f"has a member name that {NUL}")),
        (b'{"type":"\\ud800"}', ("type", SURROGATE)),
        (b'{"payload":["\\udfff tail"]}', ("payload", SURROGATE)),
        (b'{"\\ud800":1}', ("event", f"has a member name that {SURROGATE}")),
        (b'{"payload":' + deep(64) + b"}", ("payload", DEEP)),
        (b'{"payload":' + deep(500) + b"}", ("event", DEEP)),
        (b'{"payload":' + deep(990) + b"}", ("event", DEEP)),
        (b'{"n":1.0,"payload":' + deep(900) + b"}", ("event", DEEP)),
        (b'{"payload":' + deep(100_000) + b"}", ("event", DEEP)),
        (deep(100_000), ("event", DEEP)),
        (b'{"' + b"n" * 300 + b'":"\\u0000"}', ("n" * 128, NUL)),
    ],
    ids=short,
)
def test_what_cannot_be_stored_is_dropped_alone(item: bytes, problem: tuple[str, str]) -> None:
    for template in (b'[{"type":"a"},%s,{"type":"b"}]', b'{"events":[{"type":"a"}, %s ,{"type":"b"}],"v":1}'):
        batch = read(template % item)
        assert [report.type for report in batch.reports] == ["a", "b"]
        found = batch.problems[0]
        assert (found.index, found.reason, batch.dropped) == (1, problem[1], 1)
        # How far msgspec reads before it gives up depends on the stack; then the member is not known.
        assert found.field in {problem[0], "payload"} if problem[1] == DEEP else found.field == problem[0]


def test_the_deepest_event_that_is_stored() -> None:
    batch = read(b'[{"payload":' + deep(63) + b"}]")
    assert len(batch.reports) == 1


def test_an_absurd_number_becomes_null_and_never_loses_the_event() -> None:
    batch = read(b'[{"type":"a","ts":1e400,"payload":{"exp":1e999,"iat":' + b"9" * 5000 + b',"n":1}}]')
    assert batch.dropped == 0
    assert json_numbers.encode(batch.reports[0].payload) == b'{"exp":null,"iat":null,"n":1}'
    assert batch.reports[0].ts == NOW


def test_twenty_problems_are_told_and_all_are_counted() -> None:
    batch = read([5] * 30 + [{}])
    assert (len(batch.problems), batch.dropped, len(batch.reports)) == (20, 30, 1)
    assert batch.problems[-1] == Problem(19, "event", "is not an object")


def test_more_than_500_events_refuse_the_batch() -> None:
    assert len(read([{}] * 500).reports) == 500
    bodies: list[object] = [[{}] * 501, {"events": [5] * 501}, b"[" + b"{}," * 500 + b'"\\ud800"]']
    for body in bodies:
        with pytest.raises(PayloadTooLarge, match="500"):
            read(body)


def test_a_payload_over_64_kib_refuses_the_batch_and_names_the_type() -> None:
    def event(size: int, **more: Any) -> dict[str, Any]:
        return {"type": "big", "payload": {"x": "x" * (size - 8)}, **more}

    assert read([event(65_536, note="y" * 9999)]).dropped == 0
    with pytest.raises(PayloadTooLarge) as refused:
        read([{}, event(65_537)])
    assert refused.value.extra == {"eventType": "big"}
    with pytest.raises(PayloadTooLarge) as refused:
        read([{"x": "x" * 65_536}])
    assert refused.value.extra == {"eventType": "unknown"}


def test_the_payloads_size_is_that_of_its_compact_utf8() -> None:
    spaced = json.dumps({"payload": ["é" * 30_000, *range(1000)]}, indent=8).encode()
    assert len(spaced) > 65_536
    assert len(read(b"[" + spaced + b"]").reports) == 1


def v8(*parts: bytes) -> UUID:
    digest = bytearray(hashlib.sha256(b"\0".join(parts)).digest()[:16])
    digest[6] = digest[6] & 0x0F | 0x80
    digest[8] = digest[8] & 0x3F | 0x80
    return UUID(bytes=bytes(digest))


def test_ids_are_made_as_documented() -> None:
    caller = CALLER.encode()
    assert one(FULL).id == v8(caller, b"event", rfc8785.dumps(FULL))
    assert one({**FULL, "id": "evt-1"}).id == v8(caller, b"id", b"evt-1")
    assert one({"id": 17}).id == v8(caller, b"id", b"17")
    assert one(FULL).id.version == 8


def test_a_resent_event_has_its_id_again_however_it_is_spelled() -> None:
    event = {**FULL, "payload": {"ms": 2.0, "emoji": "\U0001f600"}}
    respelled = json.dumps(dict(reversed(event.items())), indent=1, ensure_ascii=False)
    assert read(b"[%s]" % respelled.encode()).reports[0].id == one(event).id
    assert one(event).id != one({**event, "payload": {"ms": 2.5, "emoji": "\U0001f600"}}).id


def test_events_that_differ_only_in_a_huge_integer_are_two() -> None:
    assert one({**FULL, "nanos": 2**60}).id != one({**FULL, "nanos": 2**60 + 1}).id


def test_the_clients_own_id_outlives_a_changed_event_but_not_a_changed_caller() -> None:
    assert one({"id": "e", "ts": TS}).id == one({"id": "e", "type": "other"}).id
    assert one({"id": "e"}).id != one({"id": "e"}, caller="fedcba9876543210").id
    assert one(FULL).id != one(FULL, caller="fedcba9876543210").id


def test_without_a_time_every_report_is_new() -> None:
    batch = read([{"type": "ping"}, {"type": "ping"}, {"type": "ping", "ts": None}])
    assert len({report.id for report in batch.reports}) == 3
    assert {report.id.version for report in batch.reports} == {4}


leaves = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=20)
values = st.recursive(leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3))
names = st.sampled_from([*FULL, *CAMEL.values(), "initiator", "target", "playground", "id", "other"])
items = st.dictionaries(names, values | st.sampled_from([ALICE, TAGGED, TS, 1790856000, 1790856000123])) | values


@given(st.lists(items, max_size=6))
def test_any_json_is_sorted_into_reports_and_problems(batch_items: list[Any]) -> None:
    body = json.dumps(batch_items, allow_nan=True).replace("Infinity", "1e999").encode()
    batch = read(body)
    assert len(batch.reports) + batch.dropped == len(batch_items)
    for report in batch.reports:
        assert 1970 <= report.ts.year <= 9999
        assert report.ts.microsecond % 1000 == 0
        assert 0 < len(report.type) <= 128
        assert report.id.version == 8 or report.ts == NOW
        assert TAGGED not in (report.aid_a, report.aid_b)
        assert "\\u0000" not in json.dumps(report.payload)
    again = read(body)
    assert [r.id for r in again.reports if r.id.version == 8] == [r.id for r in batch.reports if r.id.version == 8]


@given(st.binary(max_size=200) | st.lists(st.sampled_from([*'[]{},:"\\1e', '"events"', "null"])).map("".join))
def test_any_text_is_a_batch_or_a_bad_body(body: bytes | str) -> None:
    try:
        batch = read(body.encode() if isinstance(body, str) else body)
    except BodyInvalid:
        return
    assert len(batch.reports) + batch.dropped == len(_items(body))


def test_a_full_batch_of_ordinary_events_is_cheap() -> None:
    events = [
        {**FULL, "session_id": f"s-{n}", "payload": {"tct": {"claims": {"exp": n}}, "ms": 1.5}} for n in range(500)
    ]
    body = json.dumps(events).encode()
    best = min(_cost(body) for _ in range(10))
    # About 8 ms where it was measured; the margin is for slower and busier machines.
    assert best < 0.04


def _cost(body: bytes) -> float:
    started = process_time()
    assert len(read(body).reports) == 500
    return process_time() - started


def _items(body: bytes | str) -> list[Any]:
    document = json.loads(body)
    items: list[Any] = document["events"] if isinstance(document, dict) else document
    return items
