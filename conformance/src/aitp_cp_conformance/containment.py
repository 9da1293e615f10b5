"""Contract, section 21: containment. The checks share one contained agent, and the last check releases it."""

from dataclasses import dataclass
from typing import Any

from aitp_cp_conformance import expect
from aitp_cp_conformance.agent import Agent
from aitp_cp_conformance.agents import ENDPOINT, new_agent
from aitp_cp_conformance.check import check
from aitp_cp_conformance.cleanup import agent_path
from aitp_cp_conformance.deployment import Deployment
from aitp_cp_conformance.proving import CHALLENGE
from aitp_cp_conformance.registered import ENROLL
from aitp_cp_conformance.reported import claims, delegated, find_delegation, find_tct, issued, new_jti
from aitp_cp_conformance.revocation import listed
from aitp_cp_conformance.wire import Response

CONTAINMENTS = "/api/containments"
PLAN = (
    "tokens",
    "delegations",
    "exposedPeers",
    "exposedPeerCount",
    "listEntriesAfter",
    "planDigest",
    "revocations",
    "remaining",
)
RECORD = ("id", "aid", "reason", "ticket", "containedAt", "containedBy", "releasedAt")
LISTED_SECS = 5


@dataclass(frozen=True, slots=True)
class Contained:
    """An agent with one token on each side and a delegation below, its dry run, and its containment."""

    agent: Agent
    peer: str
    issued: str
    held: str
    delegation: str
    dry_run: dict[str, Any]
    response: Response

    @property
    def id(self) -> str:
        return str(self.response.ok(201)["containment"]["id"])


async def act(cp: Deployment, aid: str, what: str, query: str = "", **body: Any) -> Response:
    """Contain or release; skip the check with --no-revoke."""
    if not cp.options.revoke:
        cp.skip("revokes tokens for good, which --no-revoke forbids")
    return await cp.admin.post(f"{agent_path(aid)}/{what}{query}", body)


async def contained(cp: Deployment) -> Contained:
    """Report tokens of a new agent, and contain it as a dry run has planned."""
    agent, peer = new_agent(), new_agent().aid
    jtis = [new_jti() for _ in range(3)]
    await cp.report(
        issued(claims(agent.aid, peer, jtis[0])),
        issued(claims(peer, agent.aid, jtis[1])),
        delegated(jtis[2], jtis[0], peer, new_agent().aid),
    )
    reason = {"reason": f"{cp.run}: key lost"}
    plan = (await act(cp, agent.aid, "contain", "?dryRun=true", **reason)).ok()
    response = await act(cp, agent.aid, "contain", ticket=cp.run, expect=plan["planDigest"], **reason)
    return Contained(agent, peer, jtis[0], jtis[1], jtis[2], plan, response)


@check("21", "a dry run shows what the act then does", extension=True)
async def planned(cp: Deployment) -> None:
    case = await cp.shared(contained)
    expect.members(case.dry_run, ("containment", *PLAN), "the dry run")
    expect.equal(case.dry_run["containment"], None, "the containment of a dry run")
    body = case.response.ok(201)
    for name in PLAN:
        expect.equal(body[name], case.dry_run[name], f"`{name}` of the act, beside the dry run's")
    tokens = body["tokens"]
    expect.equal((tokens["issued"], tokens["held"], tokens["unlistable"]), (1, 1, 0), "the tokens")
    peers = [(peer["aid"], peer["liveTokens"]) for peer in body["exposedPeers"]]
    expect.equal(peers, [(case.peer, 2)], "the exposed peers")


@check("21", "a dry run writes nothing", extension=True)
async def dry_run(cp: Deployment) -> None:
    aid, peer, jti = new_agent().aid, new_agent().aid, new_jti()
    await cp.report(issued(claims(aid, peer, jti)))
    (await act(cp, aid, "contain", "?dryRun=true", reason=cp.run)).ok()
    expect.that(not (await find_tct(cp, jti, issuer=aid))["revoked"], "a dry run has revoked a token")
    expect.equal(expect.rows(await cp.admin.get(CONTAINMENTS, aid=aid), "containments"), [], "containments")
    expect.equal(await cp.audit_actions(aid), [], "audited actions")


@check("21", "the act answers 201 with the containment, a second call 200 with the same", extension=True)
async def containment_answer(cp: Deployment) -> None:
    case = await cp.shared(contained)
    body = case.response.ok(201)
    record = body["containment"]
    expect.members(record, RECORD, "the containment")
    expect.uuid(record["id"], "the id")
    expect.moment(record["containedAt"], "containedAt")
    expect.equal((record["aid"], record["ticket"]), (case.agent.aid, cp.run), "aid and ticket")
    expect.equal(record["releasedAt"], None, "releasedAt of an open containment")
    again = (await act(cp, case.agent.aid, "contain", reason="another reason")).ok()
    expect.equal(again["containment"]["id"], record["id"], "the containment of a second call")
    expect.equal(again["containment"]["reason"], record["reason"], "its reason")


@check("21", "another `expect` than the plan's digest is 409 `PLAN_CHANGED`", extension=True)
async def plan_changed(cp: Deployment) -> None:
    aid = new_agent().aid
    plan = (await act(cp, aid, "contain", "?dryRun=true", reason=cp.run)).ok()
    await cp.report(issued(claims(aid, new_agent().aid, new_jti())))
    refused = await act(cp, aid, "contain", reason=cp.run, expect=plan["planDigest"])
    expect.error(refused, 409, "PLAN_CHANGED")
    expect.equal(expect.rows(await cp.admin.get(CONTAINMENTS, aid=aid), "containments"), [], "containments")


@check("21", "tokens that the agent issued or holds are revoked, with what is delegated from them", extension=True)
async def tokens_revoked(cp: Deployment) -> None:
    case = await cp.shared(contained)
    for jti, issuer in ((case.issued, case.agent.aid), (case.held, case.peer)):
        expect.that((await find_tct(cp, jti, issuer=issuer))["revoked"], f"the token {jti} is not revoked")
    delegation = await find_delegation(cp, case.delegation, delegator=case.peer)
    expect.that(delegation["revoked"], "the delegation below is not revoked")


@check("21", "its tokens are in the signed list", extension=True)
async def tokens_listed(cp: Deployment) -> None:
    case = await cp.shared(contained)

    async def both() -> bool | None:
        return {case.issued, case.held} <= await listed(cp) or None

    await cp.eventually(both, "the tokens in the signed list", LISTED_SECS)


@check("21", "a token reported later by its claims is revoked, not listed, and counted", extension=True)
async def reported_later(cp: Deployment) -> None:
    case, jti = await cp.shared(contained), new_jti()
    await cp.report(issued(claims(case.agent.aid, case.peer, jti)))
    expect.that((await find_tct(cp, jti, issuer=case.agent.aid))["revoked"], "a token reported later is not revoked")
    body = (await cp.admin.get(f"{CONTAINMENTS}/{case.id}")).ok()
    expect.that(body["containment"]["claimedOnly"] >= 1, "claimedOnly does not count the token")
    expect.that(jti not in await listed(cp), "a claim of anybody is in the signed list")


@check("21", "containment appends `agent.contained`, `tct.revoked` per token, and one audit row", extension=True)
async def recorded(cp: Deployment) -> None:
    case = await cp.shared(contained)
    [event] = await cp.history(type="agent.contained", aid=case.agent.aid)
    expect.equal(event["payload"]["containmentId"], case.id, "the event's containment")
    revoked = [str(row["payload"]) for row in await cp.history(type="tct.revoked", limit=1000)]
    for jti in (case.issued, case.held):
        expect.equal(sum(jti in payload for payload in revoked), 1, f"the number of tct.revoked events of {jti}")
    actions = await cp.audit_actions(case.agent.aid)
    expect.equal(actions.count("agent.contain"), 1, "the number of audited acts")


@check("21", "a contained agent gets no challenge and cannot enrol: 403 `AGENT_CONTAINED`", extension=True)
async def shut_out(cp: Deployment) -> None:
    agent = (await cp.shared(contained)).agent
    expect.error(await cp.public.post(CHALLENGE, {"aid": agent.aid}), 403, "AGENT_CONTAINED")
    manifest = agent.manifest(cp.name("agent"), ENDPOINT, ["conformance.echo"])
    expect.error(await cp.public.post(ENROLL, manifest), 403, "AGENT_CONTAINED")


@check("21", "containments are listed, by `open` and `aid`, and shown with their plan", extension=True)
async def listing(cp: Deployment) -> None:
    case = await cp.shared(contained)
    rows = expect.rows(await cp.admin.get(CONTAINMENTS, open="true", aid=case.agent.aid), "containments")
    expect.equal([row["id"] for row in rows], [case.id], "the agent's open containments")
    ended = expect.rows(await cp.admin.get(CONTAINMENTS, open="false", aid=case.agent.aid), "containments")
    expect.equal(ended, [], "the agent's containments that have ended")
    shown = (await cp.admin.get(f"{CONTAINMENTS}/{case.id}")).ok()
    expect.equal(shown["planDigest"], case.dry_run["planDigest"], "the digest of the stored plan")
    expect.error(await cp.admin.get(f"{CONTAINMENTS}/{new_jti()}"), 404, "NOT_FOUND")


@check("21", "the reach counts exposed peers as confirmed or unknown", extension=True)
async def reach(cp: Deployment) -> None:
    case = await cp.shared(contained)
    body = (await cp.admin.get(f"{CONTAINMENTS}/{case.id}/reach")).ok()
    expect.members(body, ("listedAt", "clients", "exposedPeers", "webhooks"), "the reach")
    expect.moment(body["listedAt"], "listedAt")
    expect.equal(body["exposedPeers"], {"total": 1, "confirmed": 0, "unknown": 1}, "the exposed peers")
    expect.members(body["webhooks"], ("delivered", "pending", "failed"), "the webhooks")
    for client in body["clients"]:
        expect.members(client, ("client", "kind", "holds", "seenAt", "proof"), "a client")


@check("21", "no AID in the path is 400 `BAD_REQUEST`; a wrong reason or mode is 400 `BODY_INVALID`", extension=True)
async def bad_input(cp: Deployment) -> None:
    expect.error(await act(cp, "nobody", "contain", reason=cp.run), 400, "BAD_REQUEST")
    wrong: tuple[dict[str, Any], ...] = (
        {},
        {"reason": ""},
        {"reason": "r" * 501},
        {"reason": cp.run, "heldDelegations": "all"},
        {"reason": cp.run, "include": "some"},
    )
    for body in wrong:
        expect.error(await act(cp, new_agent().aid, "contain", **body), 400, "BODY_INVALID")


@check("21", "the release of an agent that is not contained is 409 `NOT_CONTAINED`", extension=True)
async def not_contained(cp: Deployment) -> None:
    expect.error(await act(cp, new_agent().aid, "release", reason=cp.run), 409, "NOT_CONTAINED")


@check("21", "a release ends the containment; the tokens stay revoked", extension=True)
async def released(cp: Deployment) -> None:
    case = await cp.shared(contained)
    record = (await act(cp, case.agent.aid, "release", reason=f"{cp.run}: new key")).ok()["containment"]
    expect.equal((record["id"], record["releaseReason"]), (case.id, f"{cp.run}: new key"), "the released containment")
    expect.moment(record["releasedAt"], "releasedAt")
    expect.that((await find_tct(cp, case.issued, issuer=case.agent.aid))["revoked"], "a token is no longer revoked")
    expect.equal(len(await cp.history(type="agent.released", aid=case.agent.aid)), 1, "the agent.released events")
    actions = await cp.audit_actions(case.agent.aid)
    expect.that("agent.release" in actions, f"the audited actions are {actions}")
    expect.error(await act(cp, case.agent.aid, "release", reason=cp.run), 409, "NOT_CONTAINED")
