"""Contract, sections 22 and 25: who trusts whom, what needs attention, the types of events, jobs and replicas."""

import asyncio
from typing import Any

from aitp_cp_conformance import expect
from aitp_cp_conformance.agents import new_agent
from aitp_cp_conformance.check import check
from aitp_cp_conformance.deployment import Deployment, event
from aitp_cp_conformance.reported import claims, issued, new_jti

EDGES, ATTENTION, TYPES = "/api/trust/edges", "/api/attention", "/api/events/types"
AROUND = ("aid", "displayName", "status", "trustedBy", "trusts", "delegated", "blastRadius", "truncated", "asOf")
SIDE = ("agents", "tokens", "verified", "peers")
PEER = ("aid", "displayName", "status", "tokens", "live", "verified", "until", "latest")
REPLICA = ("id", "version", "startedAt", "seenAt", "live", "position", "behind", "lagSecs")
JOB = ("name", "ranAt", "ms", "replica", "failing", "failedAt", "error")
PAUSE_SECS = 1.0
BEAT_SECS = 30  # a process writes of itself and of its jobs every 10 s


@check("22", "`GET /api/trust/edges?aid=` tells who trusts an agent and whom it trusts, by live tokens", extension=True)
async def trust_edges(cp: Deployment) -> None:
    agent, holder, issuer = (new_agent().aid for _ in range(3))
    dead = claims(agent, issuer, new_jti(), iat=1, exp=2)
    await cp.report(
        *(issued(claims(agent, holder, new_jti(), grants=[cp.run])) for _ in range(2)),
        issued(claims(issuer, agent, new_jti())),
        issued(dead),
    )
    body = (await cp.admin.get(EDGES, aid=agent)).ok()
    expect.members(body, AROUND, "the edges of an agent")
    expect.moment(body["asOf"], "asOf")
    for side, peer, tokens in (("trustedBy", issuer, 1), ("trusts", holder, 2)):
        expect.members(body[side], SIDE, f"`{side}`")
        expect.equal((body[side]["agents"], body[side]["tokens"]), (1, tokens), f"agents and tokens of `{side}`")
        [row] = body[side]["peers"]
        expect.members(row, PEER, "a peer")
        expect.equal((row["aid"], row["live"]), (peer, tokens), f"the peer of `{side}`")
        expect.equal(row["verified"], 0, "the verified tokens among claims")
    everything = (await cp.admin.get(EDGES, aid=agent, liveOnly="false")).ok()
    expect.equal(everything["trusts"]["tokens"], 3, "the tokens with liveOnly=false")
    for filters, agents in (({"minTokens": 2}, (0, 1)), ({"grant": cp.run}, (0, 1))):
        found = (await cp.admin.get(EDGES, aid=agent, **filters)).ok()
        expect.equal((found["trustedBy"]["agents"], found["trusts"]["agents"]), agents, f"agents with {filters}")


@check("22", "`GET /api/trust/edges` without an agent lists those that most others trust", extension=True)
async def most_trusted(cp: Deployment) -> None:
    agent, capability = new_agent().aid, cp.name("capability")
    await cp.report(*(issued(claims(new_agent().aid, agent, new_jti(), grants=[capability])) for _ in range(3)))
    [row] = expect.rows(await cp.admin.get(EDGES, grant=capability), "mostTrusted")
    expect.equal((row["aid"], row["agents"], row["tokens"], row["verified"]), (agent, 3, 3, 0), "the most trusted")
    await cp.refuses_strangers("GET", EDGES)


@check("22", "`GET /api/attention` lists what to look at, worst first, and the sources not asked", extension=True)
async def attention(cp: Deployment) -> None:
    response = await cp.admin.get(ATTENTION)
    lines = expect.rows(response, "lines")
    expect.members(response.json, ("unknown", "asOf"), "what needs attention")
    expect.moment(response.json["asOf"], "asOf")
    for line in lines:
        expect.members(line, ("severity", "kind", "sentence", "target"), "a line")
        expect.that(line["severity"] in {"bad", "soon"}, f"a severity is {line['severity']!r}")
        expect.that(line["target"].startswith("/"), f"a target is {line['target']!r}")
    severities = [line["severity"] for line in lines]
    expect.equal(severities, sorted(severities), "the order of the severities")
    await cp.refuses_strangers("GET", ATTENTION)


@check("22", "`GET /api/events/types` lists types with how many of the newest events have each", extension=True)
async def event_types(cp: Deployment) -> None:
    kind = f"conformance.{cp.run}"

    async def listed() -> int | None:
        rows = expect.rows(await cp.admin.get(TYPES), "types")
        count = {row["type"]: row["count"] for row in rows}.get(kind)
        if count is None:
            await asyncio.sleep(PAUSE_SECS)  # answers may be shared for some seconds
        return count

    await cp.report(*(event(kind, payload={"n": n}) for n in range(2)))
    expect.equal(await cp.eventually(listed, "the listing of a new type", BEAT_SECS), 2, "the events of a new type")
    shown = {row["type"] for row in expect.rows(await cp.admin.get(TYPES), "types")}
    missing = {"handshake.complete", "tct.issued", "agent.registered"} - shown
    expect.that(not missing, f"the types lack {', '.join(sorted(missing))}")


@check("22", "`GET /api/jobs` shows the latest run of each background job", extension=True)
async def jobs(cp: Deployment) -> None:
    rows = await _written(cp, "jobs")
    for row in rows:
        expect.members(row, JOB, "a job")
        expect.moment(row["ranAt"], "ranAt")
        expect.that(not row["failing"] or row["error"], f"the failing job {row['name']} has no error")
    names = [row["name"] for row in rows]
    expect.equal(len(set(names)), len(names), "the number of different jobs")


@check("25", "`GET /api/replicas` shows the processes on the database, and which one answered", extension=True)
async def replicas(cp: Deployment) -> None:
    rows = await _written(cp, "replicas")
    for row in rows:
        expect.members(row, REPLICA, "a replica")
        for name in ("startedAt", "seenAt"):
            expect.moment(row[name], name)
        expect.that(row["behind"] >= 0, f"a replica is {row['behind']} positions behind")
    answered_by = (await cp.admin.get("/api/replicas")).ok()["answeredBy"]
    alive = {row["id"] for row in rows if row["live"]}
    expect.that(answered_by in alive, "the process that answered is not among the live ones")


async def _written(cp: Deployment, name: str) -> list[dict[str, Any]]:
    """Return the rows, which a process that has just started has yet to write."""

    async def read() -> list[dict[str, Any]] | None:
        rows = expect.rows(await cp.admin.get(f"/api/{name}"), name)
        if not rows:
            await asyncio.sleep(PAUSE_SECS)
        return rows or None

    await cp.refuses_strangers("GET", f"/api/{name}")
    return await cp.eventually(read, f"the first row of {name}", BEAT_SECS)
