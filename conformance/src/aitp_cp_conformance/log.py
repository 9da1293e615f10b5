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


@check("9", "a batch sent twice stores nothing twice", extension=True)
async def resent(cp: Deployment) -> None:
    run = cp.name("run")
    batch = [event(KIND, run_id=run, payload={"n": n}) for n in range(10)]
    expect.equal(counts(await cp.report(*batch)), (10, 0, 0), "the first response")
    body = await cp.report(*batch)
    expect.equal((body["ingested"], *counts(body)), (10, 0, 10, 0), "the response to the same batch")
    expect.equal(len(await cp.history(runId=run)), 10, "the number of events stored")


@check("9", "a batch sent many times concurrently stores nothing twice", extension=True)
async def resent_at_once(cp: Deployment) -> None:
    run = cp.name("run")
    batch = [event(KIND, run_id=run, payload={"n": n}) for n in range(5)]
    responses = await asyncio.gather(*(cp.report(*batch) for _ in range(8)))
    expect.equal(sum(body["inserted"] for body in responses), 5, "`inserted` over eight answers")
    expect.equal(len(await cp.history(runId=run)), 5, "the number of events stored")


@check("9", "with a `ts`, the id depends on the content and not on the JSON spelling", extension=True)
async def id_of_content(cp: Deployment) -> None:
    run = cp.name("run")
    for ts in (TS, "yesterday"):
        body = f'[{{"type":"{KIND}","ts":"{ts}","run_id":"{run}","payload":{{"a":1.0,"b":"\\u00e9"}}}}]'
        other = f'[ {{"payload": {{"b":"é","a":1.0}}, "run_id":"{run}", "ts":"{ts}", "type":"{KIND}"}} ]'
        for text, expected in ((body, (1, 0, 0)), (other, (0, 1, 0))):
            expect.equal(counts((await cp.admin.post("/api/events", text.encode())).ok()), expected, "the response")


@check("9", "events that differ in the spelling of a number are two", extension=True)
async def id_of_numbers(cp: Deployment) -> None:
    run = cp.name("run")
    numbers = ("1", "1.0", "1e999", "2e999", "9" * 5000, "8" * 5000)
    items = (f'{{"type":"{KIND}","ts":"{TS}","run_id":"{run}","payload":{{"n":{number}}}}}' for number in numbers)
    body = (await cp.admin.post("/api/events", f"[{','.join(items)}]".encode())).ok()
    expect.equal(counts(body), (len(numbers), 0, 0), "the response to events that differ in one number")


@check("9", "the client's `id`, if sent, identifies the event", extension=True)
async def id_of_client(cp: Deployment) -> None:
    run, own = cp.name("run"), cp.name("own")
    first = {"type": KIND, "run_id": run, "id": own}
    expect.equal(counts(await cp.report(first)), (1, 0, 0), "the response to an event with an id")
    expect.equal(counts(await cp.report({**first, "payload": {"changed": 1}})), (0, 1, 0), "its id again")
    expect.equal(counts(await cp.report({**first, "id": own + "x"})), (1, 0, 0), "the response to another id")


@check("9", "without `id` and `ts` every report is a new event", extension=True)
async def id_random(cp: Deployment) -> None:
    report = {"type": KIND, "run_id": cp.name("run"), "payload": {"same": True}}
    expect.equal(counts(await cp.report(report, report)), (2, 0, 0), "the response to two equal events without a `ts`")


@check("9", "an event's id is a UUIDv8, not the client's own", extension=True)
async def id_version(cp: Deployment) -> None:
    own = new_jti()
    stored = await cp.stored({"type": KIND, "ts": TS, "id": own})
    expect.equal(UUID(expect.uuid(stored["id"], "the id")).version, 8, "its version")
    expect.that(stored["id"] != own, "the event has the id that its reporter chose")


@check("9", "duplicates within a batch are stored once", extension=True)
async def duplicate_within(cp: Deployment) -> None:
    report = event(KIND, run_id=cp.name("run"), id=cp.name("own"))
    expect.equal(counts(await cp.report(report, report, report)), (1, 2, 0), "the response to one event three times")


@check("9", "events and projections of a batch are stored before the 200")
async def durable(cp: Deployment) -> None:
    for _ in range(5):
        session, run, jti = cp.name("session"), cp.name("run"), new_jti()
        tct = claims("issuer", session, jti)
        await cp.report(event("handshake.complete", session_id=session, run_id=run, payload={"tct": tct}))
        expect.equal(len(await cp.history(runId=run)), 1, "the number of its events")
        expect.equal((await find_session(cp, session))["status"], "complete", "the status of its session")
        await find_tct(cp, jti, subject=session)


@check("9", "raw tokens are replaced by {sha256, verdict}, and their claims stay", extension=True)
async def redacted(cp: Deployment) -> None:
    tct = claims("issuer", cp.name("holder"), new_jti())
    token, voucher = compact_token(tct), compact_token({"src_jti": tct["jti"]})
    payload = {
        "tct": {"token": token, "claims": {**tct, "voucher": voucher, "chain": [voucher, voucher]}},
        "tcts": [{"token": token, "claims": tct}],
        "other": "kept",
    }
    stored = (await cp.stored(event("conformance.tokens", payload=payload)))["payload"]
    expect.that(token not in str(stored) and voucher not in str(stored), "a raw token is stored")
    first = {"sha256": hashlib.sha256(token.encode()).hexdigest(), "verdict": "unverifiable"}
    second = {"sha256": hashlib.sha256(voucher.encode()).hexdigest(), "verdict": "none"}
    expect.equal(stored["tct"]["token"], first, "payload.tct.token")
    expect.equal(stored["tcts"][0]["token"], first, "payload.tcts[0].token")
    expect.equal(stored["tct"]["claims"]["voucher"], second, "claims.voucher")
    expect.equal(stored["tct"]["claims"]["chain"], [second, second], "claims.chain")
    expect.equal((stored["tct"]["claims"]["jti"], stored["other"]), (tct["jti"], "kept"), "what stays")


@check("9", "raw tokens are redacted everywhere in an item", extension=True)
async def redacted_anywhere(cp: Deployment) -> None:
    token = compact_token(claims("issuer", cp.name("holder"), new_jti()))
    text = f"sha256:{hashlib.sha256(token.encode()).hexdigest()}"
    members = {"aid_a": token, "grants": [token], "source": f"Bearer {token}"}
    payload = {"note": f"https://x.example/?token={token}#top", f"name {token}": 1}
    stored = await cp.stored(event("conformance.tokens", payload=payload, **members))
    expected = {"note": f"https://x.example/?token={text}#top", f"name {text}": 1}
    expect.equal(stored["payload"], expected, "the payload")
    columns = (stored["aidA"], stored["grants"], stored["source"])
    expect.equal(columns, (text, [text], f"Bearer {text}"), "aidA, grants and source")


@check("9", "a token is projected although it is stored redacted", extension=True)
async def redacted_after_projection(cp: Deployment) -> None:
    tct = claims(cp.name("issuer"), "holder", new_jti())
    await cp.stored(event("tct.issued", payload={"tct": {"token": compact_token(tct)}}))
    await find_tct(cp, tct["jti"], issuer=tct["iss"])


@check("9", "the history is newest first by `ts`, with a count")
async def history_order(cp: Deployment) -> None:
    run = cp.name("run")
    times = ["2026-01-01T00:00:02.000Z", "2026-01-01T00:00:01.000Z", "2026-01-01T00:00:03.000Z"]
    await cp.report(*({"type": KIND, "ts": ts, "run_id": run} for ts in times))
    body = (await cp.admin.get("/api/events/history", runId=run)).ok()
    expect.equal([row["ts"] for row in body["events"]], sorted(times, reverse=True), "the order")
    expect.equal(body.get("count"), 3, "`count`")


@check("9", "an event of the history has all its members")
async def history_members(cp: Deployment) -> None:
    stored = await cp.stored(event(KIND))
    expect.members(stored, SHAPE, "an event")
    expect.equal((stored["aidA"], stored["sessionId"], stored["grants"]), (None, None, []), "what was not reported")


@check("9", "an event of the history has its `seq`", extension=True)
async def history_seq(cp: Deployment) -> None:
    first, second = await cp.stored(event(KIND)), await cp.stored(event(KIND))
    expect.that(isinstance(first.get("seq"), int), f"seq is {first.get('seq')!r}")
    expect.that(second["seq"] > first["seq"], "a later event has no greater seq")


@check("9", "the history filters by `type`, `aid` on either side, `sessionId` and `runId`")
async def history_filters(cp: Deployment) -> None:
    run, first, second = cp.name("run"), cp.name("one"), cp.name("two")
    about = {"run_id": run, "session_id": cp.name("session")}
    await cp.report(event(f"{KIND}.a", aid_a=first, aid_b=second, **about), event(f"{KIND}.b", aid_a=second, **about))
    for filters, expected in (
        ({"runId": run}, 2),
        ({"sessionId": about["session_id"]}, 2),
        ({"runId": run, "type": f"{KIND}.a"}, 1),
        ({"aid": first}, 1),
        ({"aid": second}, 2),
        ({"aid": first, "type": f"{KIND}.b"}, 0),
    ):
        expect.equal(len(await cp.history(**filters)), expected, f"the number of events with {filters}")


@check("9", "`type=handshake.` and `type=handshake.*` select every type that begins so", extension=True)
async def history_type_prefix(cp: Deployment) -> None:
    run = cp.name("run")
    kinds = ("handshake.started", "handshake.odd", "handshakes.x", "handshake", "tct.odd")
    await cp.report(*(event(kind, run_id=run) for kind in kinds))
    for prefix in ("handshake.", "handshake.*"):
        shown = [row["type"] for row in await cp.history(runId=run, type=prefix)]
        expect.equal(sorted(shown), ["handshake.odd", "handshake.started"], f"the types with type={prefix}")
    expect.equal(await cp.history(runId=run, type="hand*"), [], "the events with type=hand*")


@check("9", "`since` and `until` are inclusive")
async def history_span(cp: Deployment) -> None:
    run = cp.name("run")
    await cp.report(*({"type": KIND, "ts": f"2026-01-01T00:00:0{n}.500Z", "run_id": run} for n in range(5)))
    since, until = "2026-01-01T00:00:01.500Z", "2026-01-01T00:00:03.500Z"
    for filters, expected in (({"since": since, "until": until}, 3), ({"since": since}, 4), ({"until": until}, 4)):
        expect.equal(len(await cp.history(runId=run, **filters)), expected, f"the number of events with {filters}")


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
        body = await _page(cp, run, after)
        expect.that(body["events"], f"the log ends after {len(seen)} of {MANY} events")
        seen += body["events"]
        after = body["nextAfter"]
        expect.equal(after, seen[-1]["seq"], "nextAfter")
    sequence = [row["seq"] for row in seen]
    expect.equal(sequence, sorted(set(sequence)), "the sequence over all pages")
    expect.equal([row["payload"]["n"] for row in seen], list(range(MANY)), "the order in which they were reported")


async def _page(cp: Deployment, run: str, after: int) -> dict[str, Any]:
    response = await cp.admin.get("/api/events/history", order="asc", after=after, runId=run, limit=40)
    body: dict[str, Any] = response.ok()
    expect.members(body, ("events", "nextAfter"), "a page of the log")
    return body


@check("9", "a cursor that is no sequence number is 400 `FILTER_INVALID`", extension=True)
async def bad_cursor(cp: Deployment) -> None:
    for bad in ("abc", "-1", "1.5"):
        expect.error(await cp.admin.get("/api/events/history", order="asc", after=bad), 400, "FILTER_INVALID")
