"""Contract, section 8: `POST /api/registry/agents`."""

import json
import time
from typing import Any

from aitp_cp_conformance import expect
from aitp_cp_conformance.agent import Agent
from aitp_cp_conformance.agents import DAY, ENDPOINT, crafted, new_agent, respelled
from aitp_cp_conformance.check import check
from aitp_cp_conformance.cleanup import agent_path
from aitp_cp_conformance.deployment import Deployment
from aitp_cp_conformance.registered import AGENTS, enroll, main_agent, other_agent, register


@check("8", 'registration answers 201 {"aid","displayName","registeredAt"}')
async def registration_answer(cp: Deployment) -> None:
    agent = await cp.shared(main_agent)
    body = agent.response.ok(201)
    expect.equal((body.get("aid"), body.get("displayName")), (agent.aid, agent.name), "aid and displayName")
    expect.moment(body.get("registeredAt"), "registeredAt")


@check("8", "without an enrollment token it is 401 `TOKEN_INVALID`")
async def no_token(cp: Deployment) -> None:
    manifest = (await cp.shared(main_agent)).manifest
    expect.error(await cp.public.post(AGENTS, manifest), 401, "TOKEN_INVALID")


@check("8", "a malformed token or a bad signature is 401 `TOKEN_INVALID`")
async def forged_token(cp: Deployment) -> None:
    agent = await cp.shared(main_agent)
    body, _, signature = agent.enrolled["token"].partition(".")
    flipped = ("B" if signature[0] == "A" else "A") + signature[1:]
    for token in (
        "x",
        "x.y",
        body,
        f"{body}.",
        f"{body}.{flipped}",
        f".{signature}",
        f"{body}.{signature}.{signature}",
    ):
        expect.error(await register(cp, agent.manifest, token), 401, "TOKEN_INVALID")


@check("8", "an API key is no enrollment token")
async def key_as_token(cp: Deployment) -> None:
    key = cp.require_key()
    expect.error(await register(cp, (await cp.shared(main_agent)).manifest, key), 401, "TOKEN_INVALID")


@check("8", "another agent's token is 401 `TOKEN_INVALID`")
async def other_agents_token(cp: Deployment) -> None:
    ours, theirs = await cp.shared(main_agent), await cp.shared(other_agent)
    expect.error(await register(cp, ours.manifest, theirs.enrolled["token"]), 401, "TOKEN_INVALID")


@check("8", "the token of another manifest is 401 `TOKEN_INVALID`", extension=True)
async def other_manifests_token(cp: Deployment) -> None:
    agent = await cp.shared(main_agent)
    manifest = agent.agent.manifest("Another name", ENDPOINT, [agent.capability])
    expect.error(await register(cp, manifest, agent.enrolled["token"]), 401, "TOKEN_INVALID")


@check("8", "a second use of a token is 401 `TOKEN_REPLAYED`")
async def replayed(cp: Deployment) -> None:
    agent = await cp.shared(main_agent)
    if time.time() > agent.enrolled["exp"]:
        cp.skip("the token has expired during the run")
    expect.error(await register(cp, agent.manifest, agent.enrolled["token"]), 401, "TOKEN_REPLAYED")


@check("8", "the body is checked before the token")
async def body_first(cp: Deployment) -> None:
    expect.error(await register(cp, b"{", "x.y"), 400, "BODY_INVALID")
    expect.error(await register(cp, b'{"manifest": 1}', "x.y"), 400, "MANIFEST_INVALID")


@check("8", "the token is checked before the namespace")
async def token_before_namespace(cp: Deployment) -> None:
    manifest = (await cp.shared(main_agent)).manifest
    response = await register(cp, manifest, "x.y", {"X-Aitp-Namespace": "not a namespace"})
    expect.error(response, 401, "TOKEN_INVALID")


@check(
    "8", "a namespace over 128 characters or with other characters is 400, and does not use the token", extension=True
)
async def bad_namespace(cp: Deployment) -> None:
    agent = new_agent()
    manifest = agent.manifest(cp.name("namespaces"), ENDPOINT, [])
    token = (await enroll(cp, manifest))["token"]
    for namespace in ("n" * 129, "two words", "semi;colon", "ü"):
        response = await register(cp, manifest, token, {"X-Aitp-Namespace": namespace})
        expect.error(response, 400, "BODY_INVALID")
    longest = f"{cp.run}/a.b_c:d-".ljust(128, "n")
    expect.status(await register(cp, manifest, token, {"X-Aitp-Namespace": longest}), 201)
    expect.equal((await _record(cp, agent))["namespace"], longest, "the namespace of the record")


@check("8", "the token is valid for the same manifest in another JSON spelling", extension=True)
async def spelled_otherwise(cp: Deployment) -> None:
    agent = new_agent()
    manifest = agent.manifest(cp.name("spelling"), ENDPOINT, [])
    token, other = (await enroll(cp, manifest))["token"], respelled(manifest)
    expect.status(await register(cp, other, token), 201)
    shown = await cp.public.get(f"{agent_path(agent.aid)}/manifest")
    expect.equal(shown.body, other, "the stored manifest")


@check("8", "different namespaces in header and manifest are 400 `NAMESPACE_CONFLICT`", extension=True)
async def namespace_conflict(cp: Deployment) -> None:
    agent = new_agent()
    manifest = crafted(agent, extensions={"namespace": cp.namespace})
    token = (await enroll(cp, manifest))["token"]
    response = await register(cp, manifest, token, {"X-Aitp-Namespace": f"{cp.namespace}-other"})
    expect.error(response, 400, "NAMESPACE_CONFLICT")
    expect.status(await register(cp, manifest, token), 201)
    expect.equal((await _record(cp, agent))["namespace"], cp.namespace, "the manifest's own namespace")


@check("8", "a header never moves a known agent: another namespace is 409 `NAMESPACE_FIXED`", extension=True)
async def namespace_fixed(cp: Deployment) -> None:
    agent = await cp.shared(other_agent)
    token = (await enroll(cp, agent.manifest))["token"]
    response = await register(cp, agent.manifest, token, {"X-Aitp-Namespace": f"{cp.namespace}-other"})
    expect.error(response, 409, "NAMESPACE_FIXED")
    expect.status(await register(cp, agent.manifest, token), 201)
    expect.equal((await _record(cp, agent.agent))["namespace"], cp.namespace, "the namespace without a header")


@check("8", "a newer manifest that names a namespace moves the agent", extension=True)
async def namespace_signed(cp: Deployment) -> None:
    agent = new_agent()
    old = crafted(agent, published_at=int(time.time()) - 60)
    new = crafted(agent, extensions={"namespace": f"{cp.namespace}-signed"})
    expect.status(await register(cp, old, (await enroll(cp, old))["token"], {"X-Aitp-Namespace": cp.namespace}), 201)
    expect.status(await register(cp, new, (await enroll(cp, new))["token"]), 201)
    expect.equal((await _record(cp, agent))["namespace"], f"{cp.namespace}-signed", "the namespace")


@check("8", "`PATCH /api/registry/agents/{aid}` moves an agent, and is audited as `agent.update`", extension=True)
async def namespace_by_an_operator(cp: Deployment) -> None:
    agent, moved = new_agent(), f"{cp.namespace}-moved"
    manifest = agent.manifest(cp.name("moved"), ENDPOINT, [])
    expect.status(await register(cp, manifest, (await enroll(cp, manifest))["token"]), 201)
    path = agent_path(agent.aid)
    await cp.refuses_strangers("PATCH", path, {"namespace": moved})
    expect.error(await cp.admin.patch(path, {"namespace": "two words"}), 400, "BODY_INVALID")
    expect.equal((await cp.admin.patch(path, {"namespace": moved})).ok()["namespace"], moved, "the new namespace")
    expect.equal((await _record(cp, agent))["namespace"], moved, "the namespace of the record")
    expect.equal(await cp.audit_actions(agent.aid), ["agent.update", "agent.register"], "the audited actions")


@check("8", "a manifest with a null member is 400 `MANIFEST_INVALID`", extension=True)
async def null_member(cp: Deployment) -> None:
    envelope = json.loads((await cp.shared(main_agent)).manifest)
    envelope["manifest"]["extensions"] = None
    expect.error(await cp.public.post("/api/registry/enroll", envelope), 400, "MANIFEST_INVALID")


@check("8", "without a namespace it is `default`")
async def default_namespace(cp: Deployment) -> None:
    agent = new_agent()
    manifest = agent.manifest(cp.name("default"), ENDPOINT, [])
    expect.status(await register(cp, manifest, (await enroll(cp, manifest))["token"]), 201)
    expect.equal((await _record(cp, agent))["namespace"], "default", "the namespace")


@check("8", "a manifest older than the stored one is 409 `MANIFEST_STALE`", extension=True)
async def stale(cp: Deployment) -> None:
    agent = (await cp.shared(main_agent)).agent
    manifest = crafted(agent, published_at=int(time.time()) - 3 * 3600)
    token = (await enroll(cp, manifest))["token"]
    expect.error(await register(cp, manifest, token), 409, "MANIFEST_STALE")


@check("8", "registering the same manifest again is 201 and changes only `lastEnrolledAt`", extension=True)
async def same_again(cp: Deployment) -> None:
    agent = await cp.shared(other_agent)
    before = await _record(cp, agent.agent)
    token = (await enroll(cp, agent.manifest))["token"]
    response = await register(cp, agent.manifest, token, {"X-Aitp-Namespace": cp.namespace})
    expect.equal(response.ok(201)["registeredAt"], before["registeredAt"], "registeredAt")
    after = await _record(cp, agent.agent)
    expect.that(after["lastEnrolledAt"] > before["lastEnrolledAt"], "lastEnrolledAt did not change")
    moved = {"lastEnrolledAt", "lastSeenAt"}
    kept = [{name: value for name, value in row.items() if name not in moved} for row in (before, after)]
    expect.equal(kept[1], kept[0], "the record after the second registration")
    events = await cp.history(aid=agent.aid, type="agent.registered")
    expect.equal(len(events), 1, "the number of agent.registered events")


@check("8", "a newer manifest replaces the stored one")
async def renewed(cp: Deployment) -> None:
    agent = new_agent()
    old = crafted(agent, display_name=cp.name("old"), published_at=int(time.time()) - 60)
    new = crafted(agent, display_name=cp.name("new"), offered_capabilities=["conformance.new"])
    for manifest in (old, new):
        expect.status(await register(cp, manifest, (await enroll(cp, manifest))["token"]), 201)
    record = await _record(cp, agent)
    expected = json.loads(new)["manifest"]["display_name"], ["conformance.new"]
    expect.equal((record["displayName"], record["offeredCaps"]), expected, "the record")


@check("8", "registration appends the event `agent.registered`")
async def registered_event(cp: Deployment) -> None:
    agent = await cp.shared(main_agent)
    [event] = await cp.history(aid=agent.aid, type="agent.registered")
    expect.equal(event.get("aidA"), agent.aid, "aidA of the event")


@check("8", "registration writes the admin audit row `agent.register`")
async def registered_audit(cp: Deployment) -> None:
    agent = await cp.shared(main_agent)
    actors = [row["actorId"] for row in await cp.audit_rows(agent.aid) if row["action"] == "agent.register"]
    expect.equal(actors[:1], [f"enrollment:{agent.aid}"], "the actor of the newest agent.register")


@check("8", "a deregistered agent returns only with a manifest published after that, else 409", extension=True)
async def comes_back(cp: Deployment) -> None:
    agent = new_agent()
    manifest = crafted(agent, published_at=int(time.time()) - 60, expires_at=int(time.time()) + DAY)
    expect.status(await register(cp, manifest, (await enroll(cp, manifest))["token"]), 201)
    token = (await enroll(cp, manifest))["token"]
    expect.status(await cp.admin.delete(agent_path(agent.aid)), 200)
    expect.error(await register(cp, manifest, token), 409, "AGENT_DEREGISTERED")
    newer = crafted(agent, published_at=int(time.time()) + 2)
    expect.status(await register(cp, newer, (await enroll(cp, newer))["token"]), 201)
    expect.equal((await _record(cp, agent))["status"], "active", "the status")


async def _record(cp: Deployment, agent: Agent) -> dict[str, Any]:
    record: dict[str, Any] = (await cp.public.get(agent_path(agent.aid))).ok()
    return record
