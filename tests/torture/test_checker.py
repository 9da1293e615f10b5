"""The reckoning can fail: whatever is taken away, repeated or mixed up in a sound record is reported."""

import asyncio
import copy
from collections.abc import Callable
from uuid import uuid4

import pytest

from tests.support.postgres import migrated_database
from tests.torture.record import Anchor, Enrolled, Finding, Record, Revoked, Suspect
from tests.torture.report import items, tables
from tests.torture.run import Plan, reckon, run
from tests.torture.truth import Row, Truth

# What is done to a record and to what was found, and the finding that must come of it: kind, fault, part of the item.
Doctor = Callable[[Record, Truth], tuple[str, str, str]]

GONE = "no-such-thing"
PROOFS = {"shared-key", "agent-token", "signature"}


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
    reports = [batch for batch in record.batches if batch.worker.startswith("report")]
    told = [batch.worker for batch in reports if batch.told is not None]
    return (
        min(told.count(worker) for worker in {batch.worker for batch in reports}) > 2
        and len(told) > 15
        and sum(agent.told and agent.leaving == "no" for agent in record.agents.values()) > 2
        and any(entry.responses for entry in record.revocations.values())
        and any(anchor.told for anchor in record.anchors.values())
        and any(bulk.told for bulk in record.bulks)
        and {batch.proof for batch in record.batches if batch.told is not None} == PROOFS
        and any(token.verdict == "forged" for token in record.tokens.values())
        and any(suspect.released == "told" for suspect in record.suspects.values())
        and any(suspect.confirming and suspect.contained == "told" for suspect in record.suspects.values())
        and any(key.revoked == "told" for family in record.families.values() for key in family.keys)
        and any(key.replaced for family in record.families.values() for key in family.keys)
        and any(family.actor is not None and family.told for family in record.families.values())
        and any(session.signed_out == "told" for session in record.sessions)
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
    truth.tcts.append({"jti": GONE, "revoked": False, "verdict": "none"})
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
    truth.audit.append({"action": "agent.register", "target_id": GONE, "details": None})
    return "audit", "wrong", GONE


def agent_that_did_not_leave(record: Record, truth: Truth) -> tuple[str, str, str]:
    row = next(row for row in truth.agents if row["status"] == "active")
    record.agents[row["aid"]].leaving = "told"
    return "deregistrations", "lost", row["aid"]


def revocation_lost(record: Record, truth: Truth) -> tuple[str, str, str]:
    jti = str(uuid4())
    record.revocations[jti] = Revoked(jti, responses={("now", None)})
    return "revocations", "lost", jti


def revocation_said_twice(record: Record, truth: Truth) -> tuple[str, str, str]:
    row = own(truth, "tct.revoked")
    truth.events.append({**row, "seq": truth.last + 1, "id": str(uuid4())})
    return "revocations", "duplicated", row["payload"]["jti"]


def revocation_answered_differently(record: Record, truth: Truth) -> tuple[str, str, str]:
    entry = next(one for one in record.revocations.values() if one.responses)
    entry.responses.add(("another time", "another reason"))
    return "revocations", "wrong", entry.jti


def list_that_lacks_an_entry(record: Record, truth: Truth) -> tuple[str, str, str]:
    return "signed lists", "lost", truth.lists[0]["revocation_list"]["entries"].pop()["jti"]


def list_that_was_tampered_with(record: Record, truth: Truth) -> tuple[str, str, str]:
    truth.lists[0]["revocation_list"]["expires_at"] += 1
    return "signed lists", "wrong", "the SDK refuses the list"


def half_a_bulk(record: Record, truth: Truth) -> tuple[str, str, str]:
    bulk = next(bulk for bulk in record.bulks if bulk.told)
    bulk.told = False
    truth.entries[:] = [row for row in truth.entries if row["jti"] != bulk.fresh[0]]
    return "revocations", "lost", f"{bulk.name} is there by"


def report_by_somebody_else(record: Record, truth: Truth) -> tuple[str, str, str]:
    row = next(row for row in truth.events if row["proof"] == "signature")
    row["reported_by"] = GONE
    return "events", "wrong", row["payload"]["torture"]


def report_without_its_proof(record: Record, truth: Truth) -> tuple[str, str, str]:
    row = next(row for row in truth.events if row["proof"] == "agent-token")
    row["proof"] = "shared-key"
    return "events", "wrong", row["payload"]["torture"]


def verdict_lost(record: Record, truth: Truth) -> tuple[str, str, str]:
    row = next(row for row in truth.tcts if row["verdict"] == "verified")
    row["verdict"] = "none"
    return "tokens", "wrong", row["jti"]


def forged_token_stored(record: Record, truth: Truth) -> tuple[str, str, str]:
    token = next(token for token in record.tokens.values() if token.verdict == "forged")
    truth.tcts.append({"jti": token.jti, "revoked": False, "verdict": "none"})
    return "tokens", "wrong", token.jti


def alarm_lost(record: Record, truth: Truth) -> tuple[str, str, str]:
    row = own(truth, "token.forged")
    truth.events.remove(row)
    return "verdicts", "lost", row["payload"]["sha256"]


def alarm_twice(record: Record, truth: Truth) -> tuple[str, str, str]:
    row = own(truth, "token.forged")
    truth.events.append({**row, "seq": truth.last + 1, "id": str(uuid4())})
    return "verdicts", "duplicated", row["payload"]["sha256"]


def alarm_about_nothing(record: Record, truth: Truth) -> tuple[str, str, str]:
    own(truth, "token.forged")["payload"]["sha256"] = GONE
    return "verdicts", "wrong", GONE


def suspect_of(record: Record, truth: Truth) -> Suspect:
    """One that was contained and released."""
    return next(suspect for suspect in record.suspects.values() if suspect.released == "told")


def containment_lost(record: Record, truth: Truth) -> tuple[str, str, str]:
    suspect = suspect_of(record, truth)
    truth.containments[:] = [row for row in truth.containments if row["aid"] != suspect.aid]
    return "containments", "lost", suspect.aid


def containment_twice(record: Record, truth: Truth) -> tuple[str, str, str]:
    suspect = suspect_of(record, truth)
    row = next(row for row in truth.containments if row["aid"] == suspect.aid)
    truth.containments.append({**row, "id": str(uuid4())})
    return "containments", "duplicated", suspect.aid


def half_a_containment(record: Record, truth: Truth) -> tuple[str, str, str]:
    suspect = suspect_of(record, truth)
    truth.entries[:] = [row for row in truth.entries if row["jti"] != suspect.before[0]]
    return "containments", "lost", f"{suspect.before[0]} of {suspect.aid} is not revoked"


def containment_without_a_row(record: Record, truth: Truth) -> tuple[str, str, str]:
    suspect = suspect_of(record, truth)
    suspect.contained = "asked"
    truth.containments[:] = [row for row in truth.containments if row["aid"] != suspect.aid]
    return "containments", "wrong", f"{suspect.before[0]} of {suspect.aid} is revoked"


def containment_without_audit(record: Record, truth: Truth) -> tuple[str, str, str]:
    suspect = suspect_of(record, truth)
    truth.audit[:] = [row for row in truth.audit if row["target_id"] != suspect.aid]
    return "audit", "lost", f"agent.contain of {suspect.aid}"


def containment_without_event(record: Record, truth: Truth) -> tuple[str, str, str]:
    row = own(truth, "agent.contained")
    truth.events.remove(row)
    return "containments", "lost", f"agent.contained of {row['aid_a']}"


def token_of_a_contained_agent_left(record: Record, truth: Truth) -> tuple[str, str, str]:
    jti = suspect_of(record, truth).claimed_later[0]
    next(row for row in truth.tcts if row["jti"] == jti)["revoked"] = False
    return "tokens", "wrong", jti


def later_claim_listed(record: Record, truth: Truth) -> tuple[str, str, str]:
    suspect = suspect_of(record, truth)
    truth.entries.append({"jti": suspect.claimed_later[0], "reason": "agent contained"})
    return "containments", "wrong", f"{suspect.claimed_later[0]} of {suspect.aid} is revoked"


def containment_not_settled(record: Record, truth: Truth) -> tuple[str, str, str]:
    row = truth.containments[0]
    row["remaining"] += 1
    return "containments", "wrong", f"{row['aid']} counts"


def release_lost(record: Record, truth: Truth) -> tuple[str, str, str]:
    suspect = suspect_of(record, truth)
    next(row for row in truth.containments if row["aid"] == suspect.aid)["released"] = False
    return "containments", "lost", f"{suspect.aid} was released"


def peer_forgotten(record: Record, truth: Truth) -> tuple[str, str, str]:
    suspect = next(suspect for suspect in record.suspects.values() if suspect.confirmed)
    next(row for row in truth.reach if row["id"] in suspect.ids)["clients"] = []
    return "containments", "lost", f"shown to know of {suspect.aid}"


def peer_called_safe(record: Record, truth: Truth) -> tuple[str, str, str]:
    suspect = suspect_of(record, truth)
    next(row for row in truth.reach if row["id"] in suspect.ids)["exposedPeers"]["confirmed"] = 99
    return "containments", "wrong", f"count as knowing of {suspect.aid}"


def a_key(record: Record, truth: Truth, revoked: bool = True) -> Row:
    return next(row for row in truth.api_keys if row["revoked"] == revoked)


def key_lost(record: Record, truth: Truth) -> tuple[str, str, str]:
    row = a_key(record, truth)
    truth.api_keys.remove(row)
    return "api keys", "lost", row["id"]


def key_made_twice(record: Record, truth: Truth) -> tuple[str, str, str]:
    row = next(row for row in truth.api_keys if record.families[row["name"]].actor)
    truth.api_keys.append({**row, "id": str(uuid4())})
    return "api keys", "duplicated", row["name"]


def key_not_revoked(record: Record, truth: Truth) -> tuple[str, str, str]:
    row = a_key(record, truth)
    row["revoked"] = False
    return "api keys", "lost", f"{row['id']} was revoked and is not"


def key_revoked_by_nobody(record: Record, truth: Truth) -> tuple[str, str, str]:
    known = {key.id: key for family in record.families.values() for key in family.keys}
    row = next(row for row in truth.api_keys if row["id"] in known and known[row["id"]].revoked == "no")
    row["revoked"] = True
    return "api keys", "wrong", f"{row['id']} was never revoked"


def key_not_replaced(record: Record, truth: Truth) -> tuple[str, str, str]:
    row = next(row for row in truth.api_keys if row["replaced_by"])
    row["replaced_by"] = None
    return "api keys", "wrong", f"{row['id']} should be replaced"


def key_without_audit(record: Record, truth: Truth) -> tuple[str, str, str]:
    id = a_key(record, truth)["id"]
    truth.audit[:] = [row for row in truth.audit if row["target_id"] != id]
    return "audit", "lost", f"key.revoke of {id}"


def key_without_event(record: Record, truth: Truth) -> tuple[str, str, str]:
    row = own(truth, "apikey.revoked")
    truth.events.remove(row)
    return "api keys", "lost", f"apikey.revoked of {row['payload']['id']}"


def key_accepted_after_its_end(record: Record, truth: Truth) -> tuple[str, str, str]:
    door = next(row for row in truth.doors if row["kind"] == "api keys" and not row["valid"])
    door["accepted"] = True
    return "api keys", "wrong", door["item"]


def key_refused_before_its_end(record: Record, truth: Truth) -> tuple[str, str, str]:
    door = next(row for row in truth.doors if row["kind"] == "api keys" and row["valid"])
    door["accepted"] = False
    return "api keys", "lost", door["item"]


def session_of_a_browser_lost(record: Record, truth: Truth) -> tuple[str, str, str]:
    session = record.sessions[0]
    truth.sign_ins[:] = [row for row in truth.sign_ins if row["subject"] != session.actor]
    return "console sessions", "lost", session.actor


def session_of_nobody(record: Record, truth: Truth) -> tuple[str, str, str]:
    truth.sign_ins.append({"digest": GONE, "subject": GONE, "ended_by": None})
    return "console sessions", "wrong", GONE


def sign_out_lost(record: Record, truth: Truth) -> tuple[str, str, str]:
    row = next(row for row in truth.sign_ins if row["ended_by"] == "logout")
    row["ended_by"] = None
    return "console sessions", "wrong", row["subject"]


def sign_in_without_audit(record: Record, truth: Truth) -> tuple[str, str, str]:
    row = next(row for row in truth.audit if row["action"] == "console.login")
    truth.audit.remove(row)
    return "audit", "lost", f"console.login of {row['target_id']}"


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
    assert len(DOCTORS) > 70
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
