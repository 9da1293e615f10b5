"""Contract, section 9: the projection of handshakes to sessions."""

from itertools import permutations
from typing import Any

from aitp_cp_conformance import expect
from aitp_cp_conformance.agents import new_agent
from aitp_cp_conformance.check import check
from aitp_cp_conformance.deployment import Deployment, Event, event
from aitp_cp_conformance.reported import claims, find_session, find_tct, new_jti

EARLY, LATE = "2026-01-02T03:04:05.000Z", "2026-01-02T03:04:06.000Z"


async def session_of(cp: Deployment, *reports: Event) -> dict[str, Any]:
    """Report these events in one batch each; return the resulting session."""
    id = cp.name("session")
    for report in reports:
        await cp.report({**report, "session_id": id})
    return await find_session(cp, id)


@check("9", "`handshake.started` makes a session row `started`")
async def started(cp: Deployment) -> None:
    row = await session_of(cp, event("handshake.started", ts=EARLY, aid_a="alice", aid_b="bob", run_id=cp.run))
    expect.equal((row["status"], row["startedAt"], row["completedAt"]), ("started", EARLY, None), "the session")
    expect.equal((row["aidA"], row["aidB"], row["runId"]), ("alice", "bob", cp.run), "its sides and run")


@check("9", "`handshake.complete` makes it `complete`, with `completedAt` and grants")
async def complete(cp: Deployment) -> None:
    row = await session_of(
        cp, event("handshake.started", ts=EARLY), event("handshake.complete", ts=LATE, grants=["read"])
    )
    expect.equal((row["status"], row["completedAt"], row["grants"]), ("complete", LATE, ["read"]), "the session")


@check("9", "`handshake.completed` is an alias")
async def completed(cp: Deployment) -> None:
    row = await session_of(cp, event("handshake.completed", ts=LATE, grants=["read"]))
    expect.equal((row["status"], row["completedAt"], row["grants"]), ("complete", LATE, ["read"]), "the session")


@check("9", "`handshake.failed` makes it `failed`, with `payload.error`")
async def failed(cp: Deployment) -> None:
    row = await session_of(cp, event("handshake.started"), event("handshake.failed", payload={"error": "no trust"}))
    expect.equal((row["status"], row["error"]), ("failed", "no trust"), "the session")


@check("9", "a terminal event may come first, or alone")
async def terminal_first(cp: Deployment) -> None:
    row = await session_of(
        cp, event("handshake.complete", ts=LATE), event("handshake.started", ts=EARLY, aid_a="alice", aid_b="bob")
    )
    shown = (row["status"], row["startedAt"], row["completedAt"], row["aidA"])
    expect.equal(shown, ("complete", EARLY, LATE, "alice"), "a session whose start came late")
    expect.equal((await session_of(cp, event("handshake.failed")))["status"], "failed", "a session of one report")


@check("9", "later reports fill missing values and never clear existing ones")
async def fills(cp: Deployment) -> None:
    row = await session_of(
        cp,
        event("handshake.complete", ts=LATE, aid_a="alice", run_id=cp.run),
        event("handshake.complete", ts=LATE, aid_b="bob", payload={"boundary": "org"}),
        event("handshake.started", ts=EARLY),
        event("handshake.complete", ts=LATE),
    )
    shown = (row["aidA"], row["aidB"], row["runId"], row["boundary"], row["startedAt"])
    expect.equal(shown, ("alice", "bob", cp.run, "org", EARLY), "the session")


@check("9", "grants become the union of both peers' reports")
async def union(cp: Deployment) -> None:
    row = await session_of(
        cp,
        event("handshake.complete", grants=["read", "write"]),
        event("handshake.complete", grants=["write", "admin"]),
    )
    expect.equal(sorted(row["grants"]), ["admin", "read", "write"], "the grants")


@check("9", "`complete` wins over `failed`, whichever comes first")
async def complete_wins(cp: Deployment) -> None:
    reports = (event("handshake.complete"), event("handshake.failed", payload={"error": "x"}))
    for order in permutations(reports):
        expect.equal((await session_of(cp, *order))["status"], "complete", "the status")


@check("9", "the order of reports does not matter")
async def any_order(cp: Deployment) -> None:
    reports = (
        event("handshake.started", ts=EARLY, aid_a="alice", aid_b="bob"),
        event("handshake.complete", ts=LATE, grants=["read"]),
        event("handshake.complete", ts=LATE, grants=["write"], payload={"boundary": "org"}),
    )
    seen = []
    for order in permutations(reports):
        row = await session_of(cp, *order)
        row["grants"] = sorted(row["grants"])
        seen.append({name: row[name] for name in ("status", "aidA", "aidB", "grants", "boundary", "startedAt")})
    expect.that(all(row == seen[0] for row in seen), f"the order of the same reports changes the row: {seen}")


@check("9", "`boundary` comes from `payload.boundary`; over 32 characters it is left out")
async def boundary(cp: Deployment) -> None:
    for value, expected in (("cross-org", "cross-org"), ("b" * 32, "b" * 32), ("b" * 33, None), (7, None)):
        row = await session_of(cp, event("handshake.started", payload={"boundary": value}))
        expect.equal(row["boundary"], expected, f"the boundary of a report with {value!r}")


@check("9", "AIDs that the event lacks are the reported token's holder and issuer")
async def sides_of_token(cp: Deployment) -> None:
    holder, issuer = new_agent().aid, new_agent().aid
    for role, sides in (("initiator", (holder, issuer)), ("responder", (issuer, holder))):
        payload = {"role": role, "tct": {"claims": claims(issuer, holder, new_jti())}}
        row = await session_of(cp, event("handshake.complete", payload=payload))
        expect.equal((row["aidA"], row["aidB"]), sides, f"the sides by the {role}'s token")


@check("9", "every TCT in the payload of `handshake.complete` is stored")
async def tokens_of_handshake(cp: Deployment) -> None:
    first, second = claims(cp.name("issuer"), "holder", new_jti()), claims(cp.name("issuer"), "holder", new_jti())
    await session_of(cp, event("handshake.complete", payload={"tct": {"claims": first}, "tcts": [second]}))
    for tct in (first, second):
        await find_tct(cp, tct["jti"], issuer=tct["iss"])


@check("9", "a handshake event without a session id is stored and creates no session")
async def no_session(cp: Deployment) -> None:
    run = cp.name("run")
    await cp.report(event("handshake.complete", run_id=run))
    expect.equal(len(await cp.history(runId=run)), 1, "the number of events")
    rows = expect.rows(await cp.admin.get("/api/sessions", runId=run), "sessions")
    expect.equal(rows, [], "the sessions of its run")


@check("9", "out-of-range numbers never lose the event or fail the batch")
async def absurd(cp: Deployment) -> None:
    for number in (-1, 1e300, 10**18, 253_402_300_800):
        tct = claims(cp.name("issuer"), "holder", new_jti()) | {"iat": number, "exp": number}
        row = await session_of(cp, event("handshake.complete", payload={"tct": {"claims": tct}}))
        expect.equal(row["status"], "complete", f"the status of a session whose token has exp {number}")
        token = await find_tct(cp, tct["jti"], issuer=tct["iss"])
        expect.equal(token["expiresAt"], None, f"expiresAt of a token whose exp is {number}")
