"""The log and what follows from it: events, projections, readers, deliveries."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from aitp_cp.protocol.vocabulary import DELIVERED_AS
from tests.torture.record import Batch, Fault, Finding, Hook, Reading, Record, half
from tests.torture.truth import Row, Truth

ATTEMPTS = 6
COMPLETE = {"handshake.complete", "handshake.completed"}
HANDSHAKES = COMPLETE | {"handshake.started", "handshake.failed"}
ISSUING = COMPLETE | {"tct.issued"}


def key_of(row: Row) -> str | None:
    """A reported event carries the key it was sent with."""
    payload = row["payload"]
    return payload.get("torture") if isinstance(payload, dict) else None


def check_events(record: Record, truth: Truth) -> Iterator[Finding]:
    """Each acknowledged event is there once and as it was sent; of a batch all or nothing; a reporter's in order."""
    stored: dict[str, list[Row]] = defaultdict(list)
    for row in truth.events:
        if row["seq"] is None:
            yield Finding("events", "lost", f"{row['id']} has no place in the log")
        elif (key := key_of(row)) is not None:
            stored[key].append(row)
    newest: dict[str, tuple[int, Batch]] = {}
    for batch in record.batches:
        rows = [stored.pop(event["id"], []) for event in batch.events]
        yield from _check_batch(batch, rows)
        yield from _check_reporter(batch, [row for found in rows for row in found])
        places = [found[0]["seq"] for found in rows if found]
        if places != sorted(places):
            yield Finding("events", "out of order", f"within batch {batch.name}: {places}")
        if batch.told is not None and places:
            before, earlier = newest.get(batch.worker, (0, batch))
            if min(places) < before:
                yield Finding("events", "out of order", f"batch {batch.name} before {earlier.name}")
            newest[batch.worker] = max(before, *places), batch
    for key in stored:
        yield Finding("events", "wrong", f"{key} was never sent")


def _check_batch(batch: Batch, rows: list[list[Row]]) -> Iterator[Finding]:
    for event, found in zip(batch.events, rows, strict=True):
        if len(found) > 1:
            yield Finding("events", "duplicated", f"{event['id']}, {len(found)} times")
        if not found and batch.told is not None:
            yield Finding("events", "lost", event["id"])
        if found and not _is_same(event, found[0]):
            yield Finding("events", "wrong", f"{event['id']} is not as it was sent: {found[0]}")
    count, there = len(rows), sum(1 for found in rows if found)
    if batch.told is None and 0 < there < count:
        yield Finding("events", "lost", f"batch {batch.name}, unacknowledged, is there by {there} of {count}")
    counted = sum(batch.inserted)
    if not set(batch.inserted) <= {0, count} or counted > count or (not batch.unsure and batch.told and not counted):
        yield Finding("events", "wrong", f"batch {batch.name} of {count} was counted {batch.inserted}")


def _check_reporter(batch: Batch, rows: list[Row]) -> Iterator[Finding]:
    for row in rows:
        if (row["reported_by"], row["proof"]) != (batch.reporter, batch.proof):
            came, shows = f"{batch.proof} of {batch.reporter}", f"{row['proof']} of {row['reported_by']}"
            yield Finding("events", "wrong", f"{key_of(row)} came by {came} and shows {shows}")


def _is_same(event: dict[str, Any], row: Row) -> bool:
    names = ("type", "aid_a", "aid_b", "session_id", "run_id", "grants", "payload")
    return all(event.get(name) == row[name] for name in names)


def check_sessions(record: Record, truth: Truth) -> Iterator[Finding]:
    """Each session is what the stored reports make of it, whoever told them in whatever order."""
    told: dict[str, list[Row]] = defaultdict(list)
    for row in truth.events:
        if row["type"] in HANDSHAKES and key_of(row) is not None:
            told[row["session_id"]].append(row)
    expected = {id: _session(reports) for id, reports in told.items()}
    found = {row["session_id"]: {**row, "grants": sorted(row["grants"])} for row in truth.sessions}
    yield from _compare("sessions", expected, found)


def _session(reports: list[Row]) -> Row:
    types = {row["type"] for row in reports}
    status = "complete" if types & COMPLETE else "failed" if "handshake.failed" in types else "started"
    first = reports[0]
    return {
        **{name: first[name] for name in ("session_id", "aid_a", "aid_b", "run_id")},
        "status": status,
        "grants": sorted({grant for row in reports for grant in row["grants"] or ()}),
        "error": first["payload"]["error"] if status == "failed" else None,
    }


def check_tokens(record: Record, truth: Truth) -> Iterator[Finding]:
    """Tokens and delegations are there by report alone, and revoked by report, by entry or through a parent.

    A token of an agent that was contained is revoked, whatever else is known of it.
    """
    reports = [row for row in truth.events if key_of(row) is not None]
    named = {row["payload"]["jti"] for row in reports if row["type"] in {"tct.revoked", "delegation.revoked"}}
    held = {row["aid"] for row in truth.containments}
    suspected = {jti for suspect in record.suspects.values() if suspect.aid in held for jti in suspect.jtis}
    gone = named | suspected | {row["jti"] for row in truth.entries}
    tcts: dict[str, Row] = {}
    for row in reports:
        if row["type"] in ISSUING and (told := _told(record, row["payload"]["tct"])) is not None:
            jti = told["jti"]
            before = tcts.get(jti, told)
            kept = told if told["verdict"] == "verified" else before
            tcts[jti] = {**kept, "revoked": jti in gone}
    yield from _compare("tokens", tcts, {row["jti"]: row for row in truth.tcts})
    parents = {
        row["payload"]["jti"]: row["payload"]["parent_jti"] for row in reports if row["type"] == "delegation.issued"
    }
    delegations = {
        jti: {"jti": jti, "parent_jti": parent, "revoked": bool(gone & set(_ancestry(jti, parents)))}
        for jti, parent in parents.items()
    }
    yield from _compare("delegations", delegations, {row["jti"]: row for row in truth.delegations})


def _told(record: Record, tct: dict[str, Any]) -> Row | None:
    """The row that one report makes by itself: none if its token is forged, else what the claims say, signed or not."""
    if "token" in tct:
        token = record.tokens[tct["token"]["sha256"]]
        sides = {"jti": token.jti, "issuer_aid": token.issuer, "subject_aid": token.subject}
        return None if token.verdict == "forged" else {**sides, "verdict": token.verdict}
    return {"jti": tct["jti"], "issuer_aid": tct["iss"], "subject_aid": tct["sub"], "verdict": "none"}


def check_forgeries(record: Record, truth: Truth) -> Iterator[Finding]:
    """One alarm for each forged token that is reported, however often; and for no other."""
    shown = [row["payload"].get("tct") for row in truth.events if key_of(row) is not None and row["type"] in ISSUING]
    digests = {tct["token"]["sha256"] for tct in shown if tct and "token" in tct}
    forged = {digest for digest in digests if record.tokens[digest].verdict == "forged"}
    alarms = Counter(row["payload"]["sha256"] for row in truth.events if row["type"] == "token.forged")
    for digest in forged - alarms.keys():
        yield Finding("verdicts", "lost", f"no alarm about {digest}")
    for digest, times in alarms.items():
        if digest not in forged:
            yield Finding("verdicts", "wrong", f"an alarm about {digest}, which is not forged")
        if times > 1:
            yield Finding("verdicts", "duplicated", f"{times} alarms about {digest}")


def _ancestry(jti: str, parents: dict[str, str]) -> Iterator[str]:
    yield jti
    while (parent := parents.get(jti)) is not None:
        yield parent
        jti = parent


def _compare(kind: str, expected: dict[str, Row], found: dict[str, Row]) -> Iterator[Finding]:
    for key in expected.keys() - found.keys():
        yield Finding(kind, "lost", f"{key}, though its report is stored")
    for key in found.keys() - expected.keys():
        yield Finding(kind, "wrong", f"{key} without any stored report: {found[key]}")
    for key in expected.keys() & found.keys():
        differing = {name: found[key][name] for name, value in expected[key].items() if found[key][name] != value}
        if differing:
            yield Finding(kind, "wrong", f"{key} should be {expected[key]} and differs in {differing}")


def check_invocations(record: Record, truth: Truth) -> Iterator[Finding]:
    """Each invocation of the log is counted once, whichever replica was killed at it."""
    [counted] = truth.counts
    placed = [row for row in truth.events if row["seq"] is not None]
    missing = sum(row["type"] == "capability.invoked" for row in placed) - counted["invocations"]
    if missing:
        fault: Fault = "lost" if missing > 0 else "duplicated"
        yield Finding("invocations", fault, f"{abs(missing)} of {len(placed)} events")


def check_readers(record: Record, truth: Truth) -> Iterator[Finding]:
    for reading in record.readings:
        kind = "history" if reading.name == "history" else "streams"
        placed = (row for row in truth.events if row["seq"] is not None and passes(reading.wanted, row))
        log = {row["seq"]: half(row["id"]) for row in placed}
        yield from (Finding(kind, fault, f"{reading.name}: {what}") for fault, what in _missteps(reading, log))


def passes(wanted: dict[str, str], row: Row) -> bool:
    return bool(wanted.get("type", row["type"]) == row["type"] and wanted.get("runId", row["run_id"]) == row["run_id"])


def _missteps(reading: Reading, log: dict[int, int]) -> Iterator[tuple[Any, str]]:
    first = 0 if reading.from_the_start or not reading.seqs else reading.seqs[0]
    given = Counter(reading.seqs)
    for seq in log:
        if seq >= first and seq not in given:
            yield "lost", f"event {seq} never came"
    for seq, times in given.items():
        if times > 1:
            yield "duplicated", f"event {seq} came {times} times"
    for before, seq in zip(reading.seqs, reading.seqs[1:], strict=False):
        if seq < before:
            yield "out of order", f"event {seq} came after {before}"
    for seq, id in zip(reading.seqs, reading.ids, strict=True):
        if log.get(seq) != id:
            yield "wrong", f"event {seq} is another one in the log, or none of this reader's"


def check_deliveries(record: Record, truth: Truth) -> Iterator[Finding]:
    """One row for each event and webhook that wanted it; it ends delivered or with its attempts spent."""
    ids = {row["id"] for row in truth.events}
    hooks = {row["id"]: row for row in truth.webhooks}
    rows: Counter[tuple[str, str]] = Counter((row["webhook_id"], row["event_id"]) for row in truth.deliveries)
    for (webhook, event), times in rows.items():
        if times > 1:
            yield Finding("deliveries", "duplicated", f"event {event} to webhook {webhook}, {times} rows")
        if event not in ids:
            yield Finding("deliveries", "wrong", f"to webhook {webhook} of event {event}, which is not in the log")
    for row in truth.deliveries:
        if hooks[row["webhook_id"]]["active"]:
            yield from _check_end(record, row)
    for webhook, row in _owed(record, truth):
        if (webhook, row["id"]) not in rows:
            yield Finding("deliveries", "lost", f"event {row['id']} ({row['type']}) to webhook {webhook}")


def _check_end(record: Record, row: Row) -> Iterator[Finding]:
    got = record.deliveries.get(row["id"])
    posts = got.posts if got else 0
    if row["status"] == "delivered" and not (got and got.accepted):
        yield Finding("deliveries", "lost", f"{row['id']} counts as delivered and was never accepted")
    if row["status"] != "delivered" and (row["status"] != "failed" or row["attempts"] < ATTEMPTS):
        yield Finding("deliveries", "lost", f"{row['id']} ended {row['status']} after {row['attempts']} attempts")
    if posts > row["attempts"]:
        yield Finding("deliveries", "duplicated", f"{row['id']} was posted {posts} times in {row['attempts']} attempts")
    if got and len(got.bodies) > 1:
        yield Finding("deliveries", "wrong", f"{row['id']} was sent with different bodies")


def _owed(record: Record, truth: Truth) -> Iterator[tuple[str, Row]]:
    """What surely has to be delivered: reported while the webhook was surely there and wanted it."""
    times = {event["id"]: batch for batch in record.batches for event in batch.events}
    kept: list[tuple[Hook, str]] = [
        (hook, next(iter(hook.ids))) for hook in record.hooks.values() if hook.ids and hook.leaving == "no"
    ]
    for row in truth.events:
        kind = DELIVERED_AS.get(row["type"])
        batch = times.get(key_of(row) or "")
        if kind is not None:
            yield from ((id, row) for hook, id in kept if _surely_wants(hook, kind, batch))


def _surely_wants(hook: Hook, kind: str, batch: Batch | None) -> bool:
    if hook.born is None or (hook.events and kind not in hook.events):
        return False
    if batch is None:  # the control plane's own event, at some time of the run
        return hook.url.endswith("/kept")
    return hook.born < batch.began and hook.changing is None


Check = Callable[[Record, Truth], Iterable[Finding]]
CHECKS: tuple[Check, ...] = (
    check_events,
    check_sessions,
    check_tokens,
    check_forgeries,
    check_invocations,
    check_readers,
    check_deliveries,
)
