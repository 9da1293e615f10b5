"""Contract, section 10: sessions, tokens, delegations."""

import itertools
import time
from datetime import UTC, datetime
from typing import Any

from aitp_cp_client.wire.times import iso
from aitp_cp_conformance import expect
from aitp_cp_conformance.check import check
from aitp_cp_conformance.deployment import Deployment, event
from aitp_cp_conformance.reported import HOUR, claims, delegated, family, issued, new_jti, session

SESSION = (
    "sessionId",
    "aidA",
    "aidB",
    "status",
    "grants",
    "runId",
    "boundary",
    "error",
    "startedAt",
    "completedAt",
    "createdAt",
    "updatedAt",
)
TCT = (
    "jti",
    "issuer",
    "subject",
    "audience",
    "grants",
    "bindingCnf",
    "issuedAt",
    "expiresAt",
    "sessionId",
    "revoked",
    "revokedAt",
)
DELEGATION = (
    "jti",
    "parentJti",
    "delegator",
    "delegatee",
    "scope",
    "issuedAt",
    "expiresAt",
    "revoked",
    "revokedAt",
    "revokedReason",
)


async def fetch_rows(cp: Deployment, path: str, **filters: object) -> list[dict[str, Any]]:
    return expect.rows(await cp.admin.get(f"/api/{path}", **filters), path)


@check("10", "an entry of the sessions has all its members")
async def session_members(cp: Deployment) -> None:
    handshake = await cp.shared(session)
    [row] = await fetch_rows(cp, "sessions", runId=handshake.run)
    expect.members(row, SESSION, "a session")
    shown = (row["sessionId"], row["aidA"], row["aidB"], row["grants"], row["boundary"])
    expect.equal(
        shown,
        (handshake.id, handshake.initiator, handshake.responder, [handshake.capability], "conformance"),
        "the session",
    )
    for name in ("startedAt", "completedAt", "createdAt", "updatedAt"):
        expect.moment(row[name], name)


@check("10", "sessions filter by `status`, `runId` and `aid` on either side")
async def session_filters(cp: Deployment) -> None:
    handshake = await cp.shared(session)
    for filters in ({"runId": handshake.run}, {"aid": handshake.initiator}, {"aid": handshake.responder}):
        for status, expected in (("complete", 1), ("failed", 0)):
            rows = await fetch_rows(cp, "sessions", status=status, **filters)
            expect.equal(len(rows), expected, f"the number of sessions {status} with {filters}")


@check("10", "sessions filter by `since` and `until`, inclusive, and by exact `boundary` and `error`", extension=True)
async def session_narrowed(cp: Deployment) -> None:
    run, error, boundary = cp.name("run"), cp.name("error"), "conformance"
    times = [f"2026-01-01T00:00:0{n}.000Z" for n in range(3)]
    about = {"run_id": run, "payload": {"error": error, "boundary": boundary}}
    for ts in times:
        session_id = cp.name("session")
        kinds = ("handshake.started", "handshake.failed")
        await cp.report(*({"type": kind, "session_id": session_id, "ts": ts, **about} for kind in kinds))
    for filters, expected in (
        ({"since": times[1]}, times[1:]),
        ({"until": times[1]}, times[:2]),
        ({"since": times[1], "until": times[1]}, times[1:2]),
        ({"boundary": boundary, "error": error}, times),
        ({"boundary": boundary[:-1]}, []),
        ({"error": error[:-1]}, []),
    ):
        rows = await fetch_rows(cp, "sessions", runId=run, **filters)
        expect.equal(sorted(row["startedAt"] for row in rows), expected, f"when the sessions with {filters} started")
    for name in ("since", "until"):
        expect.status(await cp.admin.get("/api/sessions", **{name: "yesterday"}), 400)


@check("10", "sessions come newest first, in pages")
async def session_order(cp: Deployment) -> None:
    run = cp.name("run")
    ids = [cp.name("session") for _ in range(3)]
    for id in ids:
        await cp.report(event("handshake.started", session_id=id, run_id=run))
    rows = await fetch_rows(cp, "sessions", runId=run)
    expect.equal([row["sessionId"] for row in rows], ids[::-1], "the order of three sessions")
    [second] = await fetch_rows(cp, "sessions", runId=run, limit=1, offset=1)
    expect.equal(second["sessionId"], ids[1], "the second page of one")


@check("10", "`GET /api/sessions/{id}` is {session, events}, events oldest first")
async def session_detail(cp: Deployment) -> None:
    handshake = await cp.shared(session)
    body = (await cp.admin.get(f"/api/sessions/{handshake.id}")).ok()
    expect.equal(body["session"]["sessionId"], handshake.id, "the session")
    expect.equal([row["type"] for row in body["events"]], ["handshake.started", "handshake.complete"], "the events")


@check("10", "the export is {session, tcts, events, exportedAt}")
async def session_export(cp: Deployment) -> None:
    handshake = await cp.shared(session)
    body = (await cp.admin.get(f"/api/sessions/{handshake.id}/export")).ok()
    expect.members(body, ("session", "tcts", "events", "exportedAt"), "the export")
    expect.equal([row["jti"] for row in body["tcts"]], [handshake.jti], "the exported tokens")
    expect.equal(len(body["events"]), 2, "the number of exported events")
    expect.moment(body["exportedAt"], "exportedAt")


@check("10", "`format=jsonl` exports a session in lines")
async def session_lines(cp: Deployment) -> None:
    handshake = await cp.shared(session)
    lines = expect.json_lines(await cp.admin.get(f"/api/sessions/{handshake.id}/export", format="jsonl"))
    expect.equal([set(line) for line in lines], [{"kind", "record"}] * 4, "the members of the lines")


@check("10", "the replay is {sessionId, count, events}, bounded by `since`, `until` and `limit`")
async def replay(cp: Deployment) -> None:
    id = cp.name("session")
    times = [f"2026-01-01T00:00:0{n}.000Z" for n in range(5)]
    await cp.report(*({"type": "conformance.replay", "session_id": id, "ts": ts} for ts in times))
    for filters, expected in (
        ({}, times),
        ({"since": times[1], "until": times[3]}, times[1:4]),
        ({"limit": 2}, times[:2]),
    ):
        body = (await cp.admin.get(f"/api/sessions/{id}/replay", **filters)).ok()
        expect.equal((body["sessionId"], body["count"]), (id, len(expected)), f"the replay with {filters}")
        expect.equal([row["ts"] for row in body["events"]], expected, f"the times replayed with {filters}")


@check("10", "a bad date of a replay is 400 `BAD_REQUEST`")
async def replay_bad_date(cp: Deployment) -> None:
    handshake = await cp.shared(session)
    for name in ("since", "until"):
        response = await cp.admin.get(f"/api/sessions/{handshake.id}/replay", **{name: "yesterday"})
        expect.error(response, 400, "BAD_REQUEST")


@check("10", "an unknown session is 404, and its replay an empty list")
async def unknown_session(cp: Deployment) -> None:
    path = f"/api/sessions/{cp.name('unknown')}"
    expect.error(await cp.admin.get(path), 404, "NOT_FOUND")
    expect.error(await cp.admin.get(f"{path}/export"), 404, "NOT_FOUND")
    body = (await cp.admin.get(f"{path}/replay")).ok()
    expect.equal((body["count"], body["events"]), (0, []), "the replay of an unknown session")


@check("10", "an entry of the tokens has all its members")
async def tct_members(cp: Deployment) -> None:
    handshake = await cp.shared(session)
    [row] = await fetch_rows(cp, "tcts", sessionId=handshake.id)
    expect.members(row, TCT, "a token")
    shown = (row["jti"], row["issuer"], row["subject"], row["grants"], row["bindingCnf"])
    expect.equal(
        shown,
        (handshake.jti, handshake.responder, handshake.initiator, [handshake.capability], "thumbprint"),
        "the token",
    )


@check("10", "tokens filter by `issuer`, `subject`, `audience`, `capability` and `sessionId`")
async def tct_filters(cp: Deployment) -> None:
    handshake = await cp.shared(session)
    for filters in (
        {"issuer": handshake.responder},
        {"subject": handshake.initiator},
        {"audience": handshake.initiator},
        {"capability": handshake.capability},
        {"sessionId": handshake.id},
    ):
        rows = await fetch_rows(cp, "tcts", **filters)
        expect.equal([row["jti"] for row in rows], [handshake.jti], f"the tokens with {filters}")
    expect.equal(
        await fetch_rows(cp, "tcts", issuer=handshake.responder, subject="unknown"),
        [],
        "the tokens with contradicting filters",
    )


@check("10", "`active=true` leaves out revoked and expired tokens")
async def tct_active(cp: Deployment) -> None:
    issuer, now = cp.name("issuer"), int(time.time())
    alive, expired, revoked = (claims(issuer, "holder", new_jti()) for _ in range(3))
    expired |= {"iat": now - HOUR, "exp": now - 60}
    await cp.report(issued(alive), issued(expired), issued(revoked), event("tct.revoked", payload=revoked))
    expect.equal(len(await fetch_rows(cp, "tcts", issuer=issuer)), 3, "the number of tokens")
    rows = await fetch_rows(cp, "tcts", issuer=issuer, active="true")
    expect.equal([row["jti"] for row in rows], [alive["jti"]], "the active tokens")


@check("10", "`expiresBefore` lists active tokens, the next to expire first", extension=True)
async def tct_expiring(cp: Deployment) -> None:
    issuer, now = cp.name("issuer"), int(time.time())
    tokens = [claims(issuer, "holder", new_jti(), exp=now + secs) for secs in (2 * HOUR, HOUR, 5 * HOUR)]
    dead = claims(issuer, "holder", new_jti(), iat=now - HOUR, exp=now - 60)
    await cp.report(*map(issued, (*tokens, dead)))
    until = iso(datetime.fromtimestamp(now + 3 * HOUR, UTC))
    rows = await fetch_rows(cp, "tcts", issuer=issuer, expiresBefore=until)
    expect.equal([row["jti"] for row in rows], [tokens[1]["jti"], tokens[0]["jti"]], f"the tokens that end by {until}")
    expect.status(await cp.admin.get("/api/tcts", expiresBefore="soon"), 400)


@check("10", "a `verdict` that does not exist is 400, and no empty list", extension=True)
async def no_verdict(cp: Deployment) -> None:
    for path in ("tcts", "delegations"):
        for bogus in ("bogus", "VERIFIED"):
            expect.status(await cp.admin.get(f"/api/{path}", verdict=bogus), 400)


@check("10", "tokens come newest issued first, in pages")
async def tct_order(cp: Deployment) -> None:
    issuer, now = cp.name("issuer"), int(time.time())
    tokens = [claims(issuer, "holder", new_jti(), iat=now - age) for age in (20, 0, 10)]
    await cp.report(*map(issued, tokens))
    expected = [tokens[index]["jti"] for index in (1, 2, 0)]
    expect.equal(
        [row["jti"] for row in await fetch_rows(cp, "tcts", issuer=issuer)], expected, "the order of three tokens"
    )
    page = await fetch_rows(cp, "tcts", issuer=issuer, limit=1, offset=2)
    expect.equal([row["jti"] for row in page], expected[2:], "the third page of one")


@check("10", "an entry of the delegations has all its members")
async def delegation_members(cp: Deployment) -> None:
    tree = await cp.shared(family)
    [row] = await fetch_rows(cp, "delegations", delegator=tree.names[1])
    expect.members(row, DELEGATION, "a delegation")
    shown = (row["jti"], row["parentJti"], row["delegatee"], row["scope"])
    expect.equal(shown, (tree.child, tree.root, tree.names[2], ["read"]), "the delegation")


@check("10", "delegations filter by `parent_jti`, `delegator`, `delegatee` and `active`")
async def delegation_filters(cp: Deployment) -> None:
    tree = await cp.shared(family)
    for filters in ({"parent_jti": tree.root}, {"delegator": tree.names[1]}, {"delegatee": tree.names[2]}):
        for active in ({}, {"active": "true"}):
            rows = await fetch_rows(cp, "delegations", **filters, **active)
            expect.equal([row["jti"] for row in rows], [tree.child], f"the delegations with {filters}")


@check("10", "`root_jti` of a delegation gives its whole tree, oldest first")
async def delegation_tree(cp: Deployment) -> None:
    tree = await cp.shared(family)
    rows = await fetch_rows(cp, "delegations", root_jti=tree.child)
    expect.equal([row["jti"] for row in rows], [tree.child, tree.grandchild], "the tree under a delegation")


@check("10", "`root_jti` of a TCT gives everything delegated from it", extension=True)
async def token_tree(cp: Deployment) -> None:
    tree = await cp.shared(family)
    rows = await fetch_rows(cp, "delegations", root_jti=tree.root)
    expect.equal([row["jti"] for row in rows], [tree.child, tree.grandchild], "the tree under a token")


@check("10", "a tree is at most 32 deep")
async def deep_tree(cp: Deployment) -> None:
    jtis = [new_jti() for _ in range(41)]
    await cp.report(*(delegated(child, parent, "a", "b") for parent, child in itertools.pairwise(jtis)))
    depth = len(await fetch_rows(cp, "delegations", root_jti=jtis[1]))
    expect.that(30 <= depth <= 33, f"a chain of 40 delegations is shown {depth} deep")


@check("10", "a tree with a cycle ends")
async def cyclic_tree(cp: Deployment) -> None:
    first, second = new_jti(), new_jti()
    await cp.report(delegated(first, second, "a", "b"), delegated(second, first, "b", "a"))
    rows = await fetch_rows(cp, "delegations", root_jti=first)
    expect.equal(
        sorted(row["jti"] for row in rows),
        sorted([first, second]),
        "the tree of two delegations with each other as parent",
    )


@check("10", "an unknown `root_jti` has an empty tree, one that is no UUID is 400 `BAD_REQUEST`")
async def no_tree(cp: Deployment) -> None:
    expect.equal(await fetch_rows(cp, "delegations", root_jti=new_jti()), [], "the tree of an unknown token")
    for name in ("root_jti", "parent_jti"):
        expect.error(await cp.admin.get("/api/delegations", **{name: "not-a-uuid"}), 400, "BAD_REQUEST")
