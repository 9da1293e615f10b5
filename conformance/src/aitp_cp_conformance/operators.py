"""Contract, section 22: what operators look at beside what agents say: kept manifests, notes, search."""

import hashlib
import json

from aitp_cp_conformance import expect
from aitp_cp_conformance.agents import new_agent
from aitp_cp_conformance.check import check
from aitp_cp_conformance.cleanup import agent_path
from aitp_cp_conformance.deployment import Deployment
from aitp_cp_conformance.registered import AGENTS, main_agent
from aitp_cp_conformance.reported import claims, issued, new_jti

NOTES = ("aid", "owner", "note", "labels", "updatedBy", "updatedAt")
KEPT = ("seq", "sha256", "publishedAt", "receivedAt", "bytes")


@check("22", "`…/{aid}/manifests` lists what the agent registered, each readable byte for byte", extension=True)
async def kept_manifests(cp: Deployment) -> None:
    agent = await cp.shared(main_agent)
    rows = expect.rows(await cp.admin.get(f"{agent.path}/manifests"), "manifests")
    for row in rows:
        expect.members(row, KEPT, "a kept manifest")
    numbers = [row["seq"] for row in rows]
    expect.equal(numbers, sorted(numbers, reverse=True), "the order of the manifests")
    newest = await cp.admin.get(f"{agent.path}/manifests/{rows[0]['sha256']}")
    expect.status(newest, 200)
    expect.that(newest.body == agent.manifest, "the newest manifest is not the bytes that the agent sent")
    expect.error(await cp.admin.get(f"{agent.path}/manifests/{hashlib.sha256().hexdigest()}"), 404, "NOT_FOUND")
    await cp.refuses_strangers("GET", f"{agent.path}/manifests")


@check("22", "notes of operators are kept apart from what an agent says", extension=True)
async def notes(cp: Deployment) -> None:
    agent = await cp.shared(main_agent)
    path, owner = f"{agent.path}/notes", cp.name("owner")
    body = (await cp.admin.put(path, {"owner": owner, "note": "a remark", "labels": ["one"]})).ok()
    expect.members(body, NOTES, "the notes")
    expect.equal((await cp.admin.get(path)).ok(), body, "the notes that were written")
    found = expect.rows(await cp.admin.get("/api/registry/notes", owner=owner), "notes")
    expect.equal([row["aid"] for row in found], [agent.aid], "the agents of this owner")
    record = (await cp.public.get(agent.path)).ok()
    expect.that(owner not in json.dumps(record), "the agent's public record shows its owner")
    expect.status(await cp.admin.delete(path), 204)
    expect.error(await cp.admin.get(path), 404, "NOT_FOUND")
    expect.error(await cp.admin.put(path, {"labels": ["two\nlines"]}), 400, "BODY_INVALID")


@check("22", "an agent need not be registered to have notes", extension=True)
async def notes_of_unknown(cp: Deployment) -> None:
    path = f"{agent_path(new_agent().aid)}/notes"
    (await cp.admin.put(path, {"note": "seen in events"})).ok()
    expect.status(await cp.admin.delete(path), 204)


@check(
    "22", "`GET /api/search` finds an agent by its AID, its ends and its name, and a token by its jti", extension=True
)
async def search(cp: Deployment) -> None:
    agent, jti = await cp.shared(main_agent), new_jti()
    await cp.report(issued(claims(agent.aid, new_agent().aid, jti)))
    key = agent.aid.rpartition(":")[2]
    for q in (agent.aid, agent.name, key[:12], key[-12:], f"{key[:8]}…{key[-8:]}"):
        hits = expect.rows(await cp.admin.get("/api/search", q=q), "hits")
        found = [(hit["kind"], hit["id"]) for hit in hits]
        expect.that(("agent", agent.aid) in found, f"the search for {q!r} does not find the agent")
    found = [(hit["kind"], hit["id"]) for hit in expect.rows(await cp.admin.get("/api/search", q=jti), "hits")]
    expect.that(("tct", jti) in found, "the search for a jti does not find the token")
    await cp.refuses_strangers("GET", f"/api/search?q={jti}")


@check("22", "discovery finds by `q`, `looksLike`, `expiresAfter` and `expiresBefore`", extension=True)
async def found_by(cp: Deployment) -> None:
    agent = await cp.shared(main_agent)
    expiry = (await cp.public.get(agent.path)).ok()["manifestExpiresAt"]
    expect.moment(expiry, "manifestExpiresAt")
    for filters, there in (
        ({"q": agent.name.upper()}, True),
        ({"looksLike": agent.name}, True),
        ({"expiresAfter": expiry}, True),
        ({"expiresBefore": expiry}, False),
    ):
        rows = expect.rows(await cp.public.get(AGENTS, namespace=cp.namespace, **filters), "agents")
        expect.equal(agent.aid in [row["aid"] for row in rows], there, f"whether {filters} finds the agent")
