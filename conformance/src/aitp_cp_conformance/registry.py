"""Contract, section 8: discovery, records, manifests, exports and deregistration."""

import json
from typing import Any
from urllib.parse import quote, urlsplit

from aitp_cp_conformance import expect
from aitp_cp_conformance.agents import ENDPOINT, new_agent
from aitp_cp_conformance.check import check
from aitp_cp_conformance.cleanup import agent_path
from aitp_cp_conformance.deployment import Deployment, event
from aitp_cp_conformance.registered import AGENTS, Registered, enroll, main_agent, other_agent, register

ENTRY = (
    "aid",
    "displayName",
    "handshakeEndpoint",
    "offeredCaps",
    "status",
    "namespace",
    "registeredAt",
    "lastEnrolledAt",
    "lastSeenAt",
    "manifestUrl",
    "agentManifestHint",
)
UNKNOWN = "aid:pubkey:" + "A" * 43


async def discover(cp: Deployment, **filters: object) -> list[dict[str, Any]]:
    return expect.rows(await cp.public.get(AGENTS, **filters), "agents")


async def gone_agent(cp: Deployment) -> Registered:
    """Register an agent and deregister it."""
    agent = new_agent()
    name, capability = cp.name("gone"), cp.name("capability")
    manifest = agent.manifest(name, ENDPOINT, [capability])
    enrolled = await enroll(cp, manifest)
    headers = {"X-Aitp-Namespace": cp.namespace}
    response = await register(cp, manifest, enrolled["token"], headers)
    expect.status(response, 201)
    body = (await cp.admin.delete(agent_path(agent.aid))).ok()
    expect.equal(body, {"aid": agent.aid, "status": "deregistered"}, "the response to a deregistration")
    return Registered(agent, name, manifest, capability, enrolled, headers, response)


@check("8", "an entry of discovery has all its members")
async def entry_members(cp: Deployment) -> None:
    agent = await cp.shared(main_agent)
    [entry] = await discover(cp, aid=agent.aid)
    expect.members(entry, ENTRY, "an entry")
    shown = (entry["aid"], entry["displayName"], entry["handshakeEndpoint"], entry["offeredCaps"])
    expect.equal(shown, (agent.aid, agent.name, ENDPOINT, [agent.capability, "conformance.echo"]), "the entry")
    expect.equal((entry["status"], entry["namespace"]), ("active", cp.namespace), "status and namespace")


@check("8", "`manifestUrl` is the stored manifest, `agentManifestHint` a URL on the agent's host")
async def entry_links(cp: Deployment) -> None:
    agent = await cp.shared(main_agent)
    [entry] = await discover(cp, aid=agent.aid)
    expect.equal(entry["manifestUrl"], f"{AGENTS}/{quote(agent.aid, safe='')}/manifest", "manifestUrl")
    expect.equal((await cp.public.get(entry["manifestUrl"])).body, agent.manifest, "the document at manifestUrl")
    parts = urlsplit(ENDPOINT)
    hint = f"{parts.scheme}://{parts.netloc}/.well-known/aitp-manifest"
    expect.equal(entry["agentManifestHint"], hint, "agentManifestHint")


@check("8", "discovery filters by `capability`, `aid`, `displayName` and `namespace`")
async def discovery_filters(cp: Deployment) -> None:
    first, second = await cp.shared(main_agent), await cp.shared(other_agent)
    for agent in (first, second):
        for filters in ({"capability": agent.capability}, {"aid": agent.aid}, {"displayName": agent.name}):
            expect.equal(
                [entry["aid"] for entry in await discover(cp, **filters)], [agent.aid], f"discovery with {filters}"
            )
    here = [entry["aid"] for entry in await discover(cp, namespace=cp.namespace)]
    expect.that({first.aid, second.aid} <= set(here), "discovery by namespace lacks its agents")
    expect.equal(
        await discover(cp, aid=first.aid, namespace=f"{cp.run}-other"), [], "two filters that exclude each other"
    )


@check("8", "`capability` matches a whole name, never a part")
async def whole_capability(cp: Deployment) -> None:
    agent = await cp.shared(main_agent)
    for part in (agent.capability[:-1], agent.capability + "x", "%", "_"):
        mine = [
            entry for entry in await discover(cp, capability=part, namespace=cp.namespace) if entry["aid"] == agent.aid
        ]
        expect.equal(mine, [], f"discovery with the capability {part!r}")


@check("8", "without `namespace` discovery covers all namespaces")
async def all_namespaces(cp: Deployment) -> None:
    agent = await cp.shared(main_agent)
    expect.equal(
        len(await discover(cp, displayName=agent.name)), 1, "the number of agents with this name in all namespaces"
    )


@check("8", "`aid:pubkey:ed25519:…` is another spelling of the same agent")
async def tagged_spelling(cp: Deployment) -> None:
    agent = await cp.shared(main_agent)
    tagged = agent.aid.replace("aid:pubkey:", "aid:pubkey:ed25519:")
    expect.equal(
        [entry["aid"] for entry in await discover(cp, aid=tagged)], [agent.aid], "discovery with the tagged spelling"
    )
    expect.equal((await cp.public.get(agent_path(tagged))).ok()["aid"], agent.aid, "the AID of the record")


@check("8", "discovery orders by `registeredAt`, then `aid`")
async def discovery_order(cp: Deployment) -> None:
    await cp.shared(other_agent)
    for filters in ({"namespace": cp.namespace}, {}):
        keys = [(entry["registeredAt"], entry["aid"]) for entry in await discover(cp, **filters)]
        expect.equal(keys, sorted(keys), "the order of discovery")


@check("8", "discovery takes `limit` and `offset`")
async def discovery_pages(cp: Deployment) -> None:
    await cp.shared(other_agent)
    all_aids = [entry["aid"] for entry in await discover(cp, namespace=cp.namespace)]
    for offset in range(2):
        page = [entry["aid"] for entry in await discover(cp, namespace=cp.namespace, limit=1, offset=offset)]
        expect.equal(page, all_aids[offset : offset + 1], f"the page at {offset}")


@check("8", "`include_manifest=true` adds `manifestJson`, and only that")
async def with_manifest(cp: Deployment) -> None:
    agent = await cp.shared(main_agent)
    [plain], [full] = await discover(cp, aid=agent.aid), await discover(cp, aid=agent.aid, include_manifest="true")
    expect.that(plain.get("manifestJson") is None, "manifestJson is there without include_manifest")
    shown = full.get("manifestJson")
    document = json.loads(shown) if isinstance(shown, str) else shown
    expect.equal(document, json.loads(agent.manifest), "manifestJson")


@check("8", "`GET /api/registry/agents/{aid}` is the record, cached 30 s in public while active")
async def record(cp: Deployment) -> None:
    agent = await cp.shared(main_agent)
    response = await cp.public.get(agent.path)
    body = response.ok()
    expect.equal((body.get("aid"), body.get("displayName")), (agent.aid, agent.name), "the record")
    expect.header(response, "cache-control", "public, max-age=30")


@check("8", "an unknown agent is 404 `NOT_FOUND`")
async def unknown_agent(cp: Deployment) -> None:
    for path in (agent_path(UNKNOWN), f"{agent_path(UNKNOWN)}/manifest", agent_path("no-aid-at-all")):
        expect.error(await cp.public.get(path), 404, "NOT_FOUND")
    expect.error(await cp.admin.get(f"{agent_path(UNKNOWN)}/export"), 404, "NOT_FOUND")


@check("8", "`…/{aid}/manifest` is the stored bytes, as JSON, cached 60 s")
async def manifest_bytes(cp: Deployment) -> None:
    for make in (main_agent, other_agent):
        agent = await cp.shared(make)
        response = await cp.public.get(f"{agent.path}/manifest")
        expect.status(response, 200)
        expect.that(response.body == agent.manifest, "the manifest is not the bytes that the agent sent")
        expect.that(response.headers.get("content-type", "").startswith("application/json"), "it is not JSON")
        expect.that("max-age=60" in response.headers.get("cache-control", ""), "it has no max-age=60")


@check("8", "`…/{aid}/manifest` shows the agent's status in `X-Aitp-Agent-Status`", extension=True)
async def manifest_status(cp: Deployment) -> None:
    for make, status in ((main_agent, "active"), (gone_agent, "deregistered")):
        agent = await cp.shared(make)
        expect.header(await cp.public.get(f"{agent.path}/manifest"), "x-aitp-agent-status", status)


@check("8", "the export is {agent, sessions, tcts, events, exportedAt} as an attachment")
async def export_json(cp: Deployment) -> None:
    agent = await cp.shared(main_agent)
    response = await cp.admin.get(f"{agent.path}/export")
    body = response.ok()
    expect.members(body, ("agent", "sessions", "tcts", "events", "exportedAt"), "the export")
    expect.equal(body["agent"]["aid"], agent.aid, "the exported agent")
    expect.moment(body["exportedAt"], "exportedAt")
    disposition = response.headers.get("content-disposition", "")
    expect.that(disposition.startswith("attachment"), f"Content-Disposition is {disposition!r}")
    expect.that(".json" in disposition and "agent-" in disposition, f"Content-Disposition is {disposition!r}")


@check("8", "`format=jsonl` exports one {kind, record} per line as `application/x-ndjson`")
async def export_lines(cp: Deployment) -> None:
    agent = await cp.shared(main_agent)
    response = await cp.admin.get(f"{agent.path}/export", format="jsonl")
    lines = expect.json_lines(response)
    for line in lines:
        expect.equal(set(line), {"kind", "record"}, "the members of a line")
    expect.equal(lines[0]["record"]["aid"], agent.aid, "the first line's record")
    expect.that(".jsonl" in response.headers.get("content-disposition", ""), "the attachment's name is not .jsonl")


@check("8", "`eventLimit` bounds the exported events")
async def export_limit(cp: Deployment) -> None:
    agent = await cp.shared(main_agent)
    await cp.report(*(event("conformance.exported", aid_a=agent.aid, payload={"n": n}) for n in range(4)))
    body = (await cp.admin.get(f"{agent.path}/export", eventLimit=3)).ok()
    expect.equal(len(body["events"]), 3, "the number of exported events with eventLimit=3")
    for invalid in ("abc", "-1", "999999999"):
        (await cp.admin.get(f"{agent.path}/export", eventLimit=invalid)).ok()


@check("8", "an AID with unsafe characters does not break the export's header")
async def unsafe_export(cp: Deployment) -> None:
    for aid in ('a";filename="evil', "a\r\nX-Injected: yes", "agent-ü", "a/../b"):
        response = await cp.admin.get(f"{agent_path(aid)}/export")
        expect.error(response, 404, "NOT_FOUND")
        expect.has_no(["x-injected"], response.headers, response.request)


@check("8", "a reported event updates the agent's `lastSeenAt`")
async def last_seen(cp: Deployment) -> None:
    agent = await cp.shared(main_agent)
    await cp.report(event("conformance.seen", aid_a=agent.aid, id=cp.name("seen")))

    async def seen() -> str | None:
        shown: str | None = (await discover(cp, aid=agent.aid))[0]["lastSeenAt"]
        return shown

    expect.moment(await cp.eventually(seen, "lastSeenAt of a reporting agent"), "lastSeenAt")


@check("8", "a deregistered agent is not listed")
async def not_listed(cp: Deployment) -> None:
    agent = await cp.shared(gone_agent)
    expect.equal(await discover(cp, aid=agent.aid), [], "discovery of a deregistered agent")
    expect.equal(await discover(cp, capability=agent.capability), [], "discovery by its capability")


@check("8", "the record of a deregistered agent shows its status, and is not cached")
async def gone_record(cp: Deployment) -> None:
    agent = await cp.shared(gone_agent)
    response = await cp.public.get(agent.path)
    expect.equal(response.ok().get("status"), "deregistered", "the status")
    expect.header(response, "cache-control", "no-store")


@check("8", "`status` takes `deregistered`, `expired` and `all`", extension=True)
async def by_status(cp: Deployment) -> None:
    agent = await cp.shared(gone_agent)
    for status in ("deregistered", "all"):
        expect.equal([entry["aid"] for entry in await discover(cp, aid=agent.aid, status=status)], [agent.aid], status)
    for status in ("active", "expired"):
        expect.equal(await discover(cp, aid=agent.aid, status=status), [], f"discovery with status={status}")


@check("8", "deregistration appends the event `agent.deregistered` with its reason")
async def gone_event(cp: Deployment) -> None:
    agent = await cp.shared(gone_agent)
    events = await cp.history(aid=agent.aid, type="agent.deregistered")
    reasons = [event["payload"].get("reason") for event in events]
    expect.equal(reasons, ["admin_deregister"], "the reasons of its agent.deregistered events")


@check("8", "deregistering again is 200 without a second event")
async def gone_again(cp: Deployment) -> None:
    agent = await cp.shared(gone_agent)
    body = (await cp.admin.delete(agent.path)).ok()
    expect.equal(body.get("status"), "deregistered", "the status")
    expect.equal(len(await cp.history(aid=agent.aid, type="agent.deregistered")), 1, "the number of events")


@check("8", "deregistering an unknown agent is 404")
async def never_known(cp: Deployment) -> None:
    expect.error(await cp.admin.delete(agent_path(UNKNOWN)), 404, "NOT_FOUND")


@check("8", "deregistration writes the admin audit row `agent.deregister`")
async def gone_audit(cp: Deployment) -> None:
    agent = await cp.shared(gone_agent)
    count = (await cp.audit_actions(agent.aid)).count("agent.deregister")
    expect.equal(count, 1, "the number of audit rows of its deregistration")
