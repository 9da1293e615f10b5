"""Contract, section 9: event ids, redaction, one transaction, and the history."""

import asyncio
import hashlib
from typing import Any
from uuid import UUID

from aitp_cp_conformance import expect
from aitp_cp_conformance.check import check
from aitp_cp_conformance.deployment import Deployment, Event, event
from aitp_cp_conformance.events import KIND, TS, counts
from aitp_cp_conformance.filters import MANY, many_events
from aitp_cp_conformance.reported import claims, compact_token, find_session, find_tct, new_jti

SHAPE = ("id", "type", "ts", "aidA", "aidB", "sessionId", "runId", "grants", "payload", "source")


@check("9", "a re-sent batch stores nothing twice", extension=True)
async def resent(cp: Deployment) -> None:
    run = cp.name("run")
    batch = [event(KIND, run_id=run, payload={"n": n}) for n in range(10)]
    expect.equal(counts(await cp.report(*batch)), (10, 0, 0), "the first answer")
    said = await cp.report(*batch)
    expect.equal((said["ingested"], *counts(said)), (10, 0, 10, 0), "the answer to the same batch")
    expect.equal(len(await cp.history(runId=run)), 10, "the number of events stored")


@check("9", "a batch re-sent many times at once stores nothing twice", extension=True)
async def resent_at_once(cp: Deployment) -> None:
    run = cp.name("run")
    batch = [event(KIND, run_id=run, payload={"n": n}) for n in range(5)]
    answers = await asyncio.gather(*(cp.report(*batch) for _ in range(8)))
    expect.equal(sum(said["inserted"] for said in answers), 5, "`inserted` over eight answers")
    expect.equal(len(await cp.history(runId=run)), 5, "the number of events stored")


@check("9", "the id is of the content, however its JSON is spelled, when it carries a `ts`", extension=True)
async def id_of_content(cp: Deployment) -> None:
    run = cp.name("run")
    for ts in (TS, "yesterday"):
        body = f'[{{"type":"{KIND}","ts":"{ts}","run_id":"{run}","payload":{{"a":1.0,"b":"\\u00e9"}}}}]'
        other = f'[ {{"payload": {{"b":"é","a":1.0}}, "run_id":"{run}", "ts":"{ts}", "type":"{KIND}"}} ]'
        for text, wanted in ((body, (1, 0, 0)), (other, (0, 1, 0))):
            expect.equal(counts((await cp.admin.post("/api/events", text.encode())).ok()), wanted, "the answer")


@check("9", "events that differ in how a number is written are two", extension=True)
async def id_of_numbers(cp: Deployment) -> None:
    run = cp.name("run")
    numbers = ("1", "1.0", "1e999", "2e999", "9" * 5000, "8" * 5000)
    items = (f'{{"type":"{KIND}","ts":"{TS}","run_id":"{run}","payload":{{"n":{number}}}}}' for number in numbers)
    said = (await cp.admin.post("/api/events", f"[{','.join(items)}]".encode())).ok()
    expect.equal(counts(said), (len(numbers), 0, 0), "the answer to events that differ in one number")


@check("9", "the client's own `id` decides where it is sent", extension=True)
async def id_of_client(cp: Deployment) -> None:
    run, own = cp.name("run"), cp.name("own")
    first = {"type": KIND, "run_id": run, "id": own}
    expect.equal(counts(await cp.report(first)), (1, 0, 0), "the answer to an event with an id")
    expect.equal(counts(await cp.report({**first, "payload": {"changed": 1}})), (0, 1, 0), "the answer to its id again")
    expect.equal(counts(await cp.report({**first, "id": own + "x"})), (1, 0, 0), "the answer to another id")


@check("9", "without `id` and `ts` every report is a new event", extension=True)
async def id_random(cp: Deployment) -> None:
    one = {"type": KIND, "run_id": cp.name("run"), "payload": {"same": True}}
    expect.equal(counts(await cp.report(one, one)), (2, 0, 0), "the answer to two equal events without a time")


@check("9", "an event's id is a UUIDv8, not the client's own", extension=True)
async def id_version(cp: Deployment) -> None:
    own = new_jti()
    found = await cp.stored({"type": KIND, "ts": TS, "id": own})
    expect.equal(UUID(expect.uuid(found["id"], "the id")).version, 8, "its version")
    expect.that(found["id"] != own, "the event has the id that its reporter chose")


@check("9", "duplicates within a batch are stored once", extension=True)
async def duplicate_within(cp: Deployment) -> None:
    one = event(KIND, run_id=cp.name("run"), id=cp.name("own"))
    expect.equal(counts(await cp.report(one, one, one)), (1, 2, 0), "the answer to one event three times")


@check("9", "events and projections of a batch are there when 200 is sent")
async def durable(cp: Deployment) -> None:
    for _ in range(5):
        session, run, jti = cp.name("session"), cp.name("run"), new_jti()
        said = claims("issuer", session, jti)
        await cp.report(event("handshake.complete", session_id=session, run_id=run, payload={"tct": said}))
        expect.equal(len(await cp.history(runId=run)), 1, "the number of its events")
        expect.equal((await find_session(cp, session))["status"], "complete", "the status of its session")
        await find_tct(cp, jti, subject=session)


@check("9", "raw tokens are replaced by {sha256}, and their claims stay", extension=True)
async def redacted(cp: Deployment) -> None:
    said = claims("issuer", cp.name("holder"), new_jti())
    token, voucher = compact_token(said), compact_token({"src_jti": said["jti"]})
    payload = {
        "tct": {"token": token, "claims": {**said, "voucher": voucher, "chain": [voucher, voucher]}},
        "tcts": [{"token": token, "claims": said}],
        "other": "kept",
    }
    found = (await cp.stored(event("conformance.tokens", payload=payload)))["payload"]
    expect.that(token not in str(found) and voucher not in str(found), "a raw token is stored")
    shown = hashlib.sha256(token.encode()).hexdigest(), hashlib.sha256(voucher.encode()).hexdigest()
    first, second = ({"sha256": digest} for digest in shown)
    expect.equal(found["tct"]["token"], first, "payload.tct.token")
    expect.equal(found["tcts"][0]["token"], first, "payload.tcts[0].token")
    expect.equal(found["tct"]["claims"]["voucher"], second, "claims.voucher")
    expect.equal(found["tct"]["claims"]["chain"], [second, second], "claims.chain")
    expect.equal((found["tct"]["claims"]["jti"], found["other"]), (said["jti"], "kept"), "what stays")


@check("9", "raw tokens are taken out wherever they stand in an item", extension=True)
async def redacted_anywhere(cp: Deployment) -> None:
    token = compact_token(claims("issuer", cp.name("holder"), new_jti()))
    text = f"sha256:{hashlib.sha256(token.encode()).hexdigest()}"
    members = {"aid_a": token, "grants": [token], "source": f"Bearer {token}"}
    payload = {"note": f"https://x.example/?token={token}#top", f"name {token}": 1}
    found = await cp.stored(event("conformance.tokens", payload=payload, **members))
    wanted = {"note": f"https://x.example/?token={text}#top", f"name {text}": 1}
    expect.equal(found["payload"], wanted, "the payload")
    columns = (found["aidA"], found["grants"], found["source"])
    expect.equal(columns, (text, [text], f"Bearer {text}"), "aidA, grants and source")


@check("9", "a token is projected although it is stored redacted", extension=True)
async def redacted_after_projection(cp: Deployment) -> None:
    said = claims(cp.name("issuer"), "holder", new_jti())
    await cp.stored(event("tct.issued", payload={"tct": {"token": compact_token(said)}}))
    await find_tct(cp, said["jti"], issuer=said["iss"])


@check("9", "the history is newest first by `ts`, with a count")
async def history_order(cp: Deployment) -> None:
    run = cp.name("run")
    times = ["2026-01-01T00:00:02.000Z", "2026-01-01T00:00:01.000Z", "2026-01-01T00:00:03.000Z"]
    await cp.report(*({"type": KIND, "ts": ts, "run_id": run} for ts in times))
    said = (await cp.admin.get("/api/events/history", runId=run)).ok()
    expect.equal([one["ts"] for one in said["events"]], sorted(times, reverse=True), "the order")
    expect.equal(said.get("count"), 3, "`count`")


@check("9", "an event of the history has all its members")
async def history_members(cp: Deployment) -> None:
    found = await cp.stored(event(KIND))
    expect.members(found, SHAPE, "an event")
    expect.equal((found["aidA"], found["sessionId"], found["grants"]), (None, None, []), "what was not reported")


@check("9", "an event of the history has its `seq`", extension=True)
async def history_seq(cp: Deployment) -> None:
    first, second = await cp.stored(event(KIND)), await cp.stored(event(KIND))
    expect.that(isinstance(first.get("seq"), int), f"seq is {first.get('seq')!r}")
    expect.that(second["seq"] > first["seq"], "a later event has no greater seq")


@check("9", "the history filters by `type`, `aid` on either side, `sessionId` and `runId`")
async def history_filters(cp: Deployment) -> None:
    run, one, two = cp.name("run"), cp.name("one"), cp.name("two")
    about = {"run_id": run, "session_id": cp.name("session")}
    await cp.report(event(f"{KIND}.a", aid_a=one, aid_b=two, **about), event(f"{KIND}.b", aid_a=two, **about))
    for filters, wanted in (
        ({"runId": run}, 2),
        ({"sessionId": about["session_id"]}, 2),
        ({"runId": run, "type": f"{KIND}.a"}, 1),
        ({"aid": one}, 1),
        ({"aid": two}, 2),
        ({"aid": one, "type": f"{KIND}.b"}, 0),
    ):
        expect.equal(len(await cp.history(**filters)), wanted, f"the number of events that {filters} finds")


@check("9", "`since` and `until` are inclusive")
async def history_span(cp: Deployment) -> None:
    run = cp.name("run")
    await cp.report(*({"type": KIND, "ts": f"2026-01-01T00:00:0{n}.500Z", "run_id": run} for n in range(5)))
    since, until = "2026-01-01T00:00:01.500Z", "2026-01-01T00:00:03.500Z"
    for filters, wanted in (({"since": since, "until": until}, 3), ({"since": since}, 4), ({"until": until}, 4)):
        expect.equal(len(await cp.history(runId=run, **filters)), wanted, f"the number of events with {filters}")


@check("9", "an unparseable `since` or `until` is 400 `FILTER_INVALID`")
async def history_bad_span(cp: Deployment) -> None:
    for name in ("since", "until"):
        for bad in ("yesterday", "2026-13-01T00:00:00Z", "0", "-"):
            expect.error(await cp.admin.get("/api/events/history", **{name: bad}), 400, "FILTER_INVALID")


@check("9", "`order=asc&after=` pages the log in sequence order and returns `nextAfter`", extension=True)
async def log_pages(cp: Deployment) -> None:
    run = await cp.shared(many_events)
    seen: list[Event] = []
    after = 0
    while len(seen) < MANY:
        said = await _page(cp, run, after)
        expect.that(said["events"], f"the log ends after {len(seen)} of {MANY} events")
        seen += said["events"]
        after = said["nextAfter"]
        expect.equal(after, seen[-1]["seq"], "nextAfter")
    sequence = [one["seq"] for one in seen]
    expect.equal(sequence, sorted(set(sequence)), "the sequence over all pages")
    expect.equal([one["payload"]["n"] for one in seen], list(range(MANY)), "the order in which they were reported")


async def _page(cp: Deployment, run: str, after: int) -> dict[str, Any]:
    answer = await cp.admin.get("/api/events/history", order="asc", after=after, runId=run, limit=40)
    said: dict[str, Any] = answer.ok()
    expect.members(said, ("events", "nextAfter"), "a page of the log")
    return said


@check("9", "a cursor that is no sequence number is 400 `FILTER_INVALID`", extension=True)
async def bad_cursor(cp: Deployment) -> None:
    for bad in ("abc", "-1", "1.5"):
        expect.error(await cp.admin.get("/api/events/history", order="asc", after=bad), 400, "FILTER_INVALID")
