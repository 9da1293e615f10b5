"""Contract, section 9: reporting events."""

from typing import Any

from aitp_cp_conformance import expect
from aitp_cp_conformance.agents import new_agent
from aitp_cp_conformance.bodies import KIB, nested
from aitp_cp_conformance.check import check
from aitp_cp_conformance.deployment import Deployment, event

PATH = "/api/events"
TS = "2026-01-02T03:04:05.678Z"
ANSWER = ("ingested", "inserted", "duplicates", "dropped", "errors")
KIND = "conformance.report"


def counts(body: dict[str, Any]) -> tuple[int, int, int]:
    """Inserted, duplicates, dropped."""
    return body["inserted"], body["duplicates"], body["dropped"]


@check("9", 'the body is an array, or {"events": […]}')
async def both_shapes(cp: Deployment) -> None:
    for wrap in (list, lambda events: {"events": events}):
        body = (await cp.admin.post(PATH, wrap([event(KIND, id=cp.name("event"))]))).ok()
        expect.equal(body.get("inserted"), 1, "`inserted` after one event")


@check("9", "anything else is 400 `BODY_INVALID`")
async def other_shapes(cp: Deployment) -> None:
    for body in (b"{}", b'{"events": {}}', b'{"event": []}', b'"text"', b"null", b"[", b'{"type": "one"}'):
        expect.error(await cp.admin.post(PATH, body), 400, "BODY_INVALID")


@check("9", "200 answers {ingested, inserted, duplicates, dropped, errors}")
async def ingest_answer(cp: Deployment) -> None:
    body = await cp.report(event(KIND, id=cp.name("event")), event(KIND, id=cp.name("event")))
    expect.members(body, ANSWER, "the response")
    expect.equal((body["ingested"], *counts(body), body["errors"]), (2, 2, 0, 0, []), "the response to two events")


@check("9", "an empty batch is 200")
async def empty_batch(cp: Deployment) -> None:
    expect.equal(counts(await cp.report()), (0, 0, 0), "the response to no events")


@check("9", "an event is stored with all its members, under snake_case names")
async def snake_case(cp: Deployment) -> None:
    await _stored_whole(cp, ("aid_a", "aid_b", "session_id", "run_id"))


@check("9", "an event is stored with all its members, under camelCase names")
async def camel_case(cp: Deployment) -> None:
    await _stored_whole(cp, ("aidA", "aidB", "sessionId", "runId"))


async def _stored_whole(cp: Deployment, names: tuple[str, str, str, str]) -> None:
    values = [cp.name(what) for what in ("a", "b", "session", "run")]
    about = dict(zip(names, values, strict=True))
    payload = {"text": "ü 🎈", "number": 1.5, "list": [1, None, True]}
    more = {"type": KIND, "ts": TS, "grants": ["read", "write"], "payload": payload, "source": "conformance"}
    expect.equal((await cp.report({**about, **more})).get("inserted"), 1, "`inserted`")
    [stored] = await cp.history(runId=values[3])
    expected = dict(zip(("aidA", "aidB", "sessionId", "runId"), values, strict=True)) | more
    expect.equal({name: stored.get(name) for name in expected}, expected, "the stored event")
    expect.uuid(stored.get("id"), "its id")


@check("9", "AIDs are stored in their untagged spelling")
async def canonical_aids(cp: Deployment) -> None:
    aid = new_agent().aid
    stored = await cp.stored(event(KIND, aid_a=aid.replace("aid:pubkey:", "aid:pubkey:ed25519:")))
    expect.equal(stored["aidA"], aid, "aidA")


@check("9", "`initiator` and `target` replace missing AIDs only when they are AIDs")
async def stand_ins(cp: Deployment) -> None:
    first, second = new_agent().aid, new_agent().aid
    stored = await cp.stored(event(KIND, initiator=first, target=second))
    expect.equal((stored["aidA"], stored["aidB"]), (first, second), "the sides taken from initiator and target")
    stored = await cp.stored(event(KIND, initiator="alice", target="bob"))
    expect.equal((stored["aidA"], stored["aidB"]), (None, None), "the sides taken from plain names")
    stored = await cp.stored(event(KIND, initiator=first, aid_a=second))
    expect.equal(stored["aidA"], second, "the side with both names")


@check("9", "`playground.run_id` replaces a missing `run_id`")
async def playground_run(cp: Deployment) -> None:
    run = cp.name("run")
    await cp.report(event(KIND, playground={"run_id": run}))
    expect.equal(len(await cp.history(runId=run)), 1, "the number of events of the playground's run")


@check("9", "without a `payload` the whole raw event is the payload")
async def whole_payload(cp: Deployment) -> None:
    stored = await cp.stored(event(KIND, extra={"kept": True}))
    expect.equal(stored["payload"].get("extra"), {"kept": True}, "the extra member in the payload")
    expect.equal(stored["payload"].get("type"), KIND, "the type in the payload")


@check("9", "`ts` is ISO-8601, or epoch seconds or milliseconds")
async def times(cp: Deployment) -> None:
    for ts, expected in (
        (TS, TS),
        ("2026-01-02T05:04:05.678+02:00", TS),
        (1767323045.678, TS),
        (1767323045678, TS),
        (1767323045, "2026-01-02T03:04:05.000Z"),
    ):
        expect.equal((await cp.stored({"type": KIND, "ts": ts}))["ts"], expected, f"the stored form of ts {ts!r}")


@check("9", "an unusable `ts` means now")
async def unusable_times(cp: Deployment) -> None:
    current = expect.moment((await cp.stored({"type": KIND}))["ts"], "ts of an event without one")
    unusable: tuple[Any, ...] = ("yesterday", None, -1, True, {}, "0001-01-01T00:00:00Z", 1e300)
    for ts in unusable:
        stored = await cp.stored({"type": KIND, "ts": ts})
        late = (expect.moment(stored["ts"], f"ts of an event with ts {ts!r}") - current).total_seconds()
        expect.that(0 <= late < 60, f"ts {ts!r} is stored as {stored['ts']}, {late:.0f} s after the first")


@check("9", "no `type` is `unknown`, no `source` is `playground`")
async def defaults(cp: Deployment) -> None:
    stored = await cp.stored({"ts": TS, "id": cp.name("event")})
    expect.equal((stored["type"], stored["source"]), ("unknown", "playground"), "type and source")


@check("9", "unknown types are stored as they are")
async def unknown_types(cp: Deployment) -> None:
    for kind in ("anything", "Über.Typ", "a b/c{d}", "x" * 128):
        expect.equal((await cp.stored(event(kind)))["type"], kind, "the stored type")


@check("9", "more than 500 events are 413 `PAYLOAD_TOO_LARGE`, and none is stored")
async def too_many(cp: Deployment) -> None:
    run = cp.name("run")
    response = await cp.admin.post(PATH, [{"type": KIND, "run_id": run}] * 501)
    expect.error(response, 413, "PAYLOAD_TOO_LARGE")
    expect.equal(await cp.history(runId=run), [], "what is stored of the refused batch")


@check("9", "a batch of 500 events is stored")
async def most(cp: Deployment) -> None:
    body = await cp.report(*({"type": KIND, "run_id": cp.run} for _ in range(500)))
    expect.equal(counts(body), (500, 0, 0), "the response to 500 events")


@check("9", "a payload over 64 KiB is 413 with its `eventType`, and the whole batch is refused")
async def large_payload(cp: Deployment) -> None:
    run = cp.name("run")
    batch = [event(KIND, run_id=run), event(f"{KIND}.large", run_id=run, payload={"x": "x" * 65 * KIB})]
    body = expect.error(await cp.admin.post(PATH, batch), 413, "PAYLOAD_TOO_LARGE")
    expect.equal(body.get("eventType"), f"{KIND}.large", "eventType")
    expect.equal(await cp.history(runId=run), [], "what is stored of the refused batch")


@check("9", "a payload of almost 64 KiB is stored")
async def largest_payload(cp: Deployment) -> None:
    payload = {"x": "x" * (63 * KIB)}
    expect.equal((await cp.stored(event(KIND, payload=payload)))["payload"], payload, "the stored payload")


@check("9", "an invalid item is dropped and reported, and the rest are stored")
async def dropped(cp: Deployment) -> None:
    run = cp.name("run")
    good = event(KIND, run_id=run, payload={"n": 1})
    faulty: list[Any] = ["text", 7, None, [], *({**good, **fault} for fault in FAULTS)]
    body = (await cp.admin.post(PATH, [good, *faulty, {**good, "payload": {"n": 2}}])).ok()
    expect.equal(counts(body), (2, 0, len(faulty)), "inserted, duplicates, dropped")
    expect.equal([problem["index"] for problem in body["errors"]], list(range(1, len(faulty) + 1)), "their indices")
    for problem in body["errors"]:
        expect.members(problem, ("index", "field", "reason"), "an entry of `errors`")
    expect.equal(len(await cp.history(runId=run)), 2, "the number of events stored")


FAULTS: tuple[dict[str, Any], ...] = (
    {"type": "t" * 129},
    {"source": "s" * 129},
    {"aid_a": "a" * 513},
    {"aid_b": "b" * 513},
    {"session_id": "s" * 256},
    {"run_id": "r" * 256},
    {"payload": {"text": "a\0b"}},
    {"type": "a\0b"},
)


@check("9", "an item with a lone surrogate or nested deeper than 64 is dropped, the rest stored")
async def dropped_unreadable(cp: Deployment) -> None:
    run = cp.name("run")
    good = f'{{"type": "{KIND}", "run_id": "{run}"}}'
    bad = (
        f'{{"type": "{KIND}", "run_id": "{run}", "payload": {{"text": "\\ud800"}}}}',
        f'{{"type": "{KIND}", "run_id": "{run}", "payload": {nested(65)}}}',
        f'{{"type": "{KIND}", "run_id": "{run}", "payload": {nested(3000)}}}',
    )
    body = (await cp.admin.post(PATH, f"[{good},{','.join(bad)},{good}]".encode())).ok()
    expect.equal(counts(body), (2, 0, 3), "inserted, duplicates, dropped")


@check("9", "values at their limits are stored")
async def longest(cp: Deployment) -> None:
    tail = cp.name("longest")
    members = {"aid_a": 512, "aid_b": 512, "session_id": 255, "source": 128}
    values = {name: tail.ljust(size, "x") for name, size in members.items()}
    stored = await cp.stored(event(KIND, **values))
    expect.equal((stored["aidA"], stored["sessionId"]), (values["aid_a"], values["session_id"]), "the longest values")


@check("9", "at most 20 errors are shown")
async def most_errors(cp: Deployment) -> None:
    body = (await cp.admin.post(PATH, [7] * 30)).ok()
    expect.equal((body["dropped"], len(body["errors"])), (30, 20), "dropped, and how many are shown")


RESERVED = (
    *({"type": f"agent.{what}"} for what in ("registered", "deregistered", "expired", "contained", "released")),
    *({"type": kind} for kind in ("apikey.created", "token.forged", "webhook.test")),
    {"source": "cp"},
)


@check("9", "the control plane's own source and types are reserved", extension=True)
async def reserved(cp: Deployment) -> None:
    run = cp.name("run")
    batch = [event(KIND, run_id=run), *({**event(KIND, run_id=run), **own} for own in RESERVED)]
    body = (await cp.admin.post(PATH, batch)).ok()
    expect.equal(counts(body), (1, 0, len(RESERVED)), "inserted, duplicates, dropped")
    for index, (own, problem) in enumerate(zip(RESERVED, body["errors"], strict=True), 1):
        expected = {"index": index, "field": next(iter(own)), "reason": "reserved"}
        expect.equal(problem, expected, f"the problem with {own}")
    expect.equal(len(await cp.history(runId=run)), 1, "the number of events stored")
