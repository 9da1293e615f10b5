"""The reckoning can fail: whatever is taken away, repeated or mixed up in a sound record is reported."""

import asyncio
import copy
from collections.abc import Callable
from uuid import uuid4

import pytest

from tests.support.postgres import migrated_database
from tests.torture.record import Anchor, Enrolled, Finding, Record, Revoked
from tests.torture.report import items, tables
from tests.torture.run import Plan, reckon, run
from tests.torture.truth import Row, Truth

# What is done to a record and to what was found, and the finding that must come of it: kind, fault, part of the item.
Doctor = Callable[[Record, Truth], tuple[str, str, str]]

GONE = "no-such-thing"


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> tuple[Record, Truth]:
    """A quiet run with one replica, in which everything went well."""
    with migrated_database() as dsn:
        plan = Plan(seed=1, secs=1.0, events_per_sec=120, replicas=1, enough=enough, dsn=dsn)
        record, truth, findings = asyncio.run(run(plan, tmp_path_factory.mktemp("torture")))
    assert findings == [], items(findings)
    return record, truth


def enough(record: Record) -> bool:
    """Whether there is something for every doctor, however slow the machine."""
    told = [batch.worker for batch in record.batches if batch.told is not None]
    return (
        min(told.count(worker) for worker in {batch.worker for batch in record.batches}) > 2
        and len(told) > 15
        and sum(agent.told and agent.leaving == "no" for agent in record.agents.values()) > 2
        and any(entry.answers for entry in record.revocations.values())
        and any(anchor.told for anchor in record.anchors.values())
    )


def reported(truth: Truth, kind: str = "") -> Row:
    """A stored event that a client reported."""
    return next(row for row in truth.events if row["source"] != "cp" and row["type"].startswith(kind))


def own(truth: Truth, kind: str) -> Row:
    return next(row for row in truth.events if row["source"] == "cp" and row["type"] == kind)


def event_lost(record: Record, truth: Truth) -> tuple[str, str, str]:
    row = reported(truth)
    truth.events.remove(row)
    return "events", "lost", row["payload"]["torture"]


def event_twice(record: Record, truth: Truth) -> tuple[str, str, str]:
    row = reported(truth)
    truth.events.append({**row, "seq": truth.last + 1, "id": str(uuid4())})
    return "events", "duplicated", row["payload"]["torture"]


def event_without_a_place(record: Record, truth: Truth) -> tuple[str, str, str]:
    row = reported(truth)
    row["seq"] = None
    return "events", "lost", row["id"]


def event_changed(record: Record, truth: Truth) -> tuple[str, str, str]:
    row = reported(truth)
    row["run_id"] = GONE
    return "events", "wrong", row["payload"]["torture"]


def event_that_nobody_sent(record: Record, truth: Truth) -> tuple[str, str, str]:
    batch = next(one for one in record.batches[::-1] if one.told is not None)
    record.batches.remove(batch)
    return "events", "wrong", f"{batch.events[0]['id']} was never sent"


def batch_mixed_up(record: Record, truth: Truth) -> tuple[str, str, str]:
    batch = next(one for one in record.batches if len(one.events) > 1)
    keys = [batch.events[0]["id"], batch.events[1]["id"]]
    first, second = (row for row in truth.events if row["payload"].get("torture") in keys)
    first["seq"], second["seq"] = second["seq"], first["seq"]
    return "events", "out of order", f"within batch {batch.name}"


def batches_mixed_up(record: Record, truth: Truth) -> tuple[str, str, str]:
    first = next(one for one in record.batches if one.told is not None)
    later = next(one for one in record.batches[::-1] if one.worker == first.worker and one.told is not None)
    keys = {event["id"] for event in later.events}
    last = truth.last
    for row in truth.events:
        row["seq"] += 0 if row["payload"].get("torture") in keys else last
    return "events", "out of order", f"batch {later.name} before"


def half_a_batch(record: Record, truth: Truth) -> tuple[str, str, str]:
    batch = next(one for one in record.batches if len(one.events) > 1)
    batch.told = None
    truth.events[:] = [row for row in truth.events if row["payload"].get("torture") != batch.events[0]["id"]]
    return "events", "lost", f"batch {batch.name}, unacknowledged, is there by"


def batch_counted_twice(record: Record, truth: Truth) -> tuple[str, str, str]:
    batch = next(one for one in record.batches if one.told is not None)
    batch.inserted = [len(batch.events), len(batch.events)]
    return "events", "wrong", f"batch {batch.name}"


def session_lost(record: Record, truth: Truth) -> tuple[str, str, str]:
    return "sessions", "lost", truth.sessions.pop()["session_id"]


def session_half_projected(record: Record, truth: Truth) -> tuple[str, str, str]:
    truth.sessions[0]["status"] = "half"
    return "sessions", "wrong", truth.sessions[0]["session_id"]


def token_without_a_report(record: Record, truth: Truth) -> tuple[str, str, str]:
    truth.tcts.append({"jti": GONE, "revoked": False})
    return "tokens", "wrong", GONE


def token_not_revoked(record: Record, truth: Truth) -> tuple[str, str, str]:
    truth.tcts[0]["revoked"] = not truth.tcts[0]["revoked"]
    return "tokens", "wrong", truth.tcts[0]["jti"]


def delegation_lost(record: Record, truth: Truth) -> tuple[str, str, str]:
    return "delegations", "lost", truth.delegations.pop()["jti"]


def invocation_not_counted(record: Record, truth: Truth) -> tuple[str, str, str]:
    truth.counts[0]["invocations"] -= 1
    return "invocations", "lost", "1 of "


def invocation_counted_twice(record: Record, truth: Truth) -> tuple[str, str, str]:
    truth.counts[0]["invocations"] += 1
    return "invocations", "duplicated", "1 of "


def stream_with_a_gap(record: Record, truth: Truth) -> tuple[str, str, str]:
    reading = record.readings[0]
    missing = reading.seqs.pop(5)
    reading.ids.pop(5)
    return "streams", "lost", f"{reading.name}: event {missing} never came"


def stream_with_a_repetition(record: Record, truth: Truth) -> tuple[str, str, str]:
    reading = record.readings[0]
    reading.seqs.insert(5, reading.seqs[5])
    reading.ids.insert(5, reading.ids[5])
    return "streams", "duplicated", f"{reading.name}: event {reading.seqs[5]} came 2 times"


def stream_out_of_order(record: Record, truth: Truth) -> tuple[str, str, str]:
    for list_of in (record.readings[0].seqs, record.readings[0].ids):
        list_of[5], list_of[6] = list_of[6], list_of[5]
    return "streams", "out of order", record.readings[0].name


def stream_of_another_log(record: Record, truth: Truth) -> tuple[str, str, str]:
    record.readings[0].ids[5] += 1
    return "streams", "wrong", f"event {record.readings[0].seqs[5]}"


def history_that_ends_early(record: Record, truth: Truth) -> tuple[str, str, str]:
    record.readings[-1].ids.pop()
    return "history", "lost", f"event {record.readings[-1].seqs.pop()} never came"


def delivery_never_made(record: Record, truth: Truth) -> tuple[str, str, str]:
    kept = next(row["id"] for row in truth.webhooks if row["url"].endswith("/kept") and not row["events"])
    row = next(row for row in truth.deliveries if row["webhook_id"] == kept)
    truth.deliveries.remove(row)
    return "deliveries", "lost", row["event_id"]


def delivery_made_twice(record: Record, truth: Truth) -> tuple[str, str, str]:
    truth.deliveries.append({**truth.deliveries[0], "id": str(uuid4())})
    return "deliveries", "duplicated", truth.deliveries[0]["event_id"]


def delivery_of_nothing(record: Record, truth: Truth) -> tuple[str, str, str]:
    truth.deliveries[0]["event_id"] = GONE
    return "deliveries", "wrong", GONE


def delivered(record: Record, truth: Truth) -> Row:
    kept = {row["id"] for row in truth.webhooks if row["url"].endswith("/kept")}
    return next(row for row in truth.deliveries if row["webhook_id"] in kept)


def delivery_left_lying(record: Record, truth: Truth) -> tuple[str, str, str]:
    row = delivered(record, truth)
    row["status"] = "in_flight"
    return "deliveries", "lost", f"{row['id']} ended in_flight"


def delivery_that_nobody_got(record: Record, truth: Truth) -> tuple[str, str, str]:
    row = delivered(record, truth)
    del record.deliveries[row["id"]]
    return "deliveries", "lost", row["id"]


def delivery_posted_twice(record: Record, truth: Truth) -> tuple[str, str, str]:
    row = delivered(record, truth)
    record.deliveries[row["id"]].posts += 1
    return "deliveries", "duplicated", row["id"]


def delivery_with_two_bodies(record: Record, truth: Truth) -> tuple[str, str, str]:
    row = delivered(record, truth)
    record.deliveries[row["id"]].bodies.add(GONE)
    return "deliveries", "wrong", row["id"]


def registration_lost(record: Record, truth: Truth) -> tuple[str, str, str]:
    record.agents[GONE] = Enrolled(GONE, told=True, spent=1)
    return "registrations", "lost", GONE


def agent_without_event(record: Record, truth: Truth) -> tuple[str, str, str]:
    row = own(truth, "agent.registered")
    truth.events.remove(row)
    return "registrations", "lost", row["aid_a"]


def agent_without_audit(record: Record, truth: Truth) -> tuple[str, str, str]:
    row = next(row for row in truth.audit if row["action"] == "agent.register")
    truth.audit[:] = [other for other in truth.audit if other["target_id"] != row["target_id"]]
    return "audit", "lost", row["target_id"]


def audit_without_agent(record: Record, truth: Truth) -> tuple[str, str, str]:
    truth.audit.append({"action": "agent.register", "target_id": GONE})
    return "audit", "wrong", GONE


def agent_that_did_not_leave(record: Record, truth: Truth) -> tuple[str, str, str]:
    row = next(row for row in truth.agents if row["status"] == "active")
    record.agents[row["aid"]].leaving = "told"
    return "deregistrations", "lost", row["aid"]


def revocation_lost(record: Record, truth: Truth) -> tuple[str, str, str]:
    jti = str(uuid4())
    record.revocations[jti] = Revoked(jti, answers={("now", None)})
    return "revocations", "lost", jti


def revocation_said_twice(record: Record, truth: Truth) -> tuple[str, str, str]:
    row = own(truth, "tct.revoked")
    truth.events.append({**row, "seq": truth.last + 1, "id": str(uuid4())})
    return "revocations", "duplicated", row["payload"]["jti"]


def revocation_answered_differently(record: Record, truth: Truth) -> tuple[str, str, str]:
    entry = next(one for one in record.revocations.values() if one.answers)
    entry.answers.add(("another time", "another reason"))
    return "revocations", "wrong", entry.jti


def list_that_lacks_an_entry(record: Record, truth: Truth) -> tuple[str, str, str]:
    return "signed lists", "lost", truth.lists[0]["revocation_list"]["entries"].pop()["jti"]


def list_that_was_tampered_with(record: Record, truth: Truth) -> tuple[str, str, str]:
    truth.lists[0]["revocation_list"]["expires_at"] += 1
    return "signed lists", "wrong", "the SDK refuses the list"


def webhook_lost(record: Record, truth: Truth) -> tuple[str, str, str]:
    row = next(row for row in truth.webhooks if row["url"].endswith("/kept"))
    row["deleted_at"] = "now"
    return "webhooks", "lost", row["url"]


def webhook_made_twice(record: Record, truth: Truth) -> tuple[str, str, str]:
    row = next(row for row in truth.webhooks if row["url"].endswith("/kept"))
    truth.webhooks.append({**row, "id": str(uuid4())})
    return "webhooks", "duplicated", row["url"]


def anchor_lost(record: Record, truth: Truth) -> tuple[str, str, str]:
    record.anchors[GONE] = Anchor(GONE, {"an id"}, told=True)
    return "keyed posts", "lost", GONE


def anchor_made_twice(record: Record, truth: Truth) -> tuple[str, str, str]:
    anchor = next(iter(record.anchors.values()))
    anchor.ids.add("another id")
    return "keyed posts", "duplicated", anchor.issuer


def complaint(record: Record, truth: Truth) -> tuple[str, str, str]:
    record.complain("events", "lost", GONE)
    return "events", "lost", GONE


DOCTORS: tuple[Doctor, ...] = tuple(
    value
    for value in tuple(globals().values())
    if getattr(value, "__annotations__", {}).get("return") == tuple[str, str, str]
)


def test_whatever_is_wrong_is_reported(sound: tuple[Record, Truth], subtests: pytest.Subtests) -> None:
    assert len(DOCTORS) > 40
    for doctor in DOCTORS:
        with subtests.test(doctor.__name__):
            record, truth = copy.deepcopy(sound)
            kind, fault, item = doctor(record, truth)
            findings = reckon(record, truth)
            assert [one for one in findings if one[:2] == (kind, fault) and item in one.item], items(findings)
            assert item in items(findings)


def test_the_table_counts_what_is_wrong(sound: tuple[Record, Truth]) -> None:
    zeros = tables(*sound, []).splitlines()
    assert zeros[-1].split()[-4:] == ["0", "0", "0", "0"]
    counted = tables(*sound, [Finding("events", "lost", "one"), Finding("streams", "out of order", "two")]).splitlines()
    assert counted[-1].split()[-4:] == ["0", "1", "0", "1"]
    assert next(line for line in counted if line.startswith("events")).split()[-4:] == ["0", "1", "0", "0"]
