"""An event's id is made of what was sent, and costs the same whatever that is (rows 31, A19, decision 14)."""

import hashlib
import json
import random
from datetime import UTC, datetime
from time import process_time
from typing import Any
from uuid import UUID, uuid4

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from aitp_cp.protocol import reports
from aitp_cp.protocol.reports import Reporter, normalise
from tests.support.app import API_KEY, AUTH, running_app
from tests.support.rows import execute

pytestmark = pytest.mark.anyio

NOW = datetime(2026, 10, 1, tzinfo=UTC)
CALLER = "apikey:0123456789abcdef"
ACTOR = f"apikey:{hashlib.sha256(API_KEY.encode()).hexdigest()[:16]}"


def ids(*items: str | bytes) -> list[UUID]:
    texts = [item.encode() if isinstance(item, str) else item for item in items]
    batch = normalise(b"[%s]" % b",".join(texts), Reporter(CALLER), NOW, uuid4)
    assert batch.dropped == 0
    return [report.id for report in batch.reports]


NUMBERS = [
    "1",
    "1.0",
    "1.00",
    "1e0",
    "1E0",
    "10e-1",
    "1e999",
    "2e999",
    "-1e999",
    "1e-999",
    "9" * 5000,
    "9" * 5001,
    "null",
]


def test_numbers_are_told_apart_by_their_text() -> None:
    """Row A19: `1e999` and integers of 5,000 digits were all null, and all one id."""
    items = [f'{{"ts":1,"payload":{{"n":{number}}}}}' for number in [*NUMBERS, '"1.0"']]
    assert len(set(ids(*items))) == len(items)
    assert ids(*items) == [ids(item)[0] for item in items]  # in whatever company


def test_no_spelling_of_the_same_members_changes_an_id() -> None:
    """Row 31: order, white space, escapes and members that a later one replaces say nothing new."""
    spellings = [
        '{"ts":1,"a":{"b":[1.0,2],"é":"\\u0041"},"\U0001f600":12.50}',
        ' { "\\ud83d\\ude00" : 12.50 , "ts" : 1 , "a" : { "\\u00e9" : "A" , "b" : [ 1.0 , 2 ] } } ',
        '{"a":5,"ts":0,"a":{"b":7,"é":"A","b":[1.0,2]},"\U0001f600":12.50,"ts":1}',
    ]
    assert len(set(ids(*spellings))) == 1
    spoilt = '{"ts":1,"n":1e999},{"n":%s}' % ("9" * 5000)  # makes the whole batch unreadable for the quick decoder
    assert ids(spoilt, *spellings)[2:] == ids(*spellings)


@pytest.mark.parametrize("ts", ['"never"', "-1", "1e400", "9" * 5000, "true", "{}", '"2026-13-01T00:00:00Z"', "0"])
def test_a_time_that_cannot_be_used_costs_no_event_its_id(ts: str) -> None:
    """Row 31: an unusable `ts` made the id random, so that a batch sent again was stored again."""
    item = f'{{"type":"a","ts":{ts}}}'
    assert ids(item) == ids(item)
    assert ids(item) != ids(item.replace('"a"', '"b"'))


def test_without_a_time_every_event_is_new() -> None:
    """Row 31: null and the empty text count as absent, as everywhere."""
    for item in ('{"type":"ping"}', '{"type":"ping","ts":null}', '{"type":"ping","ts":""}'):
        assert ids(item) != ids(item)


leaves = st.none() | st.booleans() | st.integers(-(2**80), 2**80) | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    leaves | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=12
)


@given(st.dictionaries(st.text(), values), st.randoms(use_true_random=False))
def test_the_order_of_members_never_shows(item: dict[str, Any], dice: random.Random) -> None:
    """Row 31."""
    item = {name: value for name, value in item.items() if name != "id"} | {"ts": 1}
    if "\0" in (text := json.dumps(item)) or "\\u0000" in text:
        return
    shuffled = list(item.items())
    dice.shuffle(shuffled)
    assert ids(json.dumps(item)) == ids(json.dumps(dict(shuffled), indent=1, ensure_ascii=False))


def test_a_float_that_is_whole_costs_no_more_than_another() -> None:
    """Row 31: 240 KiB of `1.0` took 57 ms where 12.5 took 5, all of it on the event loop."""

    def cost(number: str) -> float:
        item = f'{{"ts":1,"payload":[{number}{f",{number}" * 14_999}]}}'
        body = f"[{','.join([item] * 4)}]".encode()
        return min(timed(body) for _ in range(7))

    assert cost("1.0") < 2.5 * cost("1.5")


def timed(body: bytes) -> float:
    started = process_time()
    assert len(normalise(body, Reporter(CALLER), NOW, uuid4).reports) == 4
    return process_time() - started


async def test_a_number_out_of_range_is_stored_as_null_and_spoils_no_batch(database_url: str) -> None:
    """Row A19: what jsonb cannot hold never becomes a failed batch."""
    async with running_app(database_url) as app:
        body = b"[%s]" % b",".join(b'{"ts":1,"payload":{"n":%s}}' % number.encode() for number in NUMBERS)
        response = await app.http.post("/api/events", content=body, headers=AUTH)
        assert response.json()["inserted"] == len(NUMBERS), response.text
        events = (await app.get("/api/events/history?order=asc")).json()["events"]
        shown = [event["payload"]["n"] for event in events]
        assert shown == [1, 1, 1, 1, 1, 1, None, None, None, 0, None, None, None]


async def test_a_batch_sent_again_across_the_upgrade_may_store_twice_once(database_url: str) -> None:
    """Row 31: ids of plain events are the old ones; where RFC 8785 spells a number anew, one more is stored, once."""
    plain: dict[str, Any] = {"type": "a", "ts": "2026-09-30T08:00:00Z", "payload": {"ms": 12.5, "n": 3}}
    whole: dict[str, Any] = {"type": "b", "ts": "2026-09-30T08:00:00Z", "payload": {"ms": 12.0}}
    async with running_app(database_url) as app:
        for event in (plain, whole):
            old = reports.event_id(ACTOR, "event", rfc8785.dumps(event))
            insert = (
                "INSERT INTO audit_events (id, type, ts, seq) VALUES ($1, 'old', now(), nextval('audit_events_seq'))"
            )
            await execute(app, insert, old)
        first = (await app.post("/api/events", [plain, whole])).json()
        assert (first["inserted"], first["duplicates"]) == (1, 1)
        again = (await app.post("/api/events", [plain, whole])).json()
        assert (again["inserted"], again["duplicates"]) == (0, 2)
