"""Load of agents that report for themselves, and of operators who contain agents."""

import asyncio
import json
import random
from collections.abc import Sequence
from typing import Any, NamedTuple
from urllib.parse import quote

from tests.support.agents import Agent, new_agent, sdk_manifest
from tests.support.signed import pop_response, signed_by_hand
from tests.torture.clients import Answer, Headers, Request
from tests.torture.load import Load, Speaker
from tests.torture.load_access import holding
from tests.torture.readers import OWN_AID
from tests.torture.record import Batch, Suspect
from tests.torture.reports import FAR, as_stored, signed_token, token_id

LIST = "/.well-known/aitp-revocation-list"
EVENTS = "/api/events"
MOST_OWN_EVENTS = 5
MOST_CONFIRMED = 5  # at the end, the newest


async def speak(load: Load, name: str, dice: random.Random) -> None:
    """An agent reports for itself, with a token or a signature; now and then a new one takes its place."""
    worker, _, number = name.rpartition("-")
    speaker = load.speakers.get(worker)
    if speaker is None or dice.random() < 0.1:
        speaker = Speaker(new_agent())
        if dice.random() < 0.5 and not await _prove(load, speaker, dice):
            return
        if not await load.register(speaker.agent, sdk_manifest(speaker.agent), dice, proof=speaker.token):
            return
        load.speakers[worker] = speaker
    proof = dice.choice(["agent-token", "signature"])
    if speaker.expires_soon:
        speaker.token = None
    if proof == "agent-token" and not await _prove(load, speaker, dice):
        return
    events = [_own_event(load, speaker.agent, f"{name}-{n}", dice) for n in range(dice.randint(1, MOST_OWN_EVENTS))]
    if dice.random() < 0.2:
        await _tamper(load, speaker, events, dice)
    stored = [as_stored(event, load.record.tokens) for event in events]
    batch = Batch(worker, int(number), stored, False, _now(), reporter=speaker.agent.aid, proof=proof)
    load.record.batches.append(batch)
    body = json.dumps(events).encode()
    for _ in range(dice.choice([1, 1, 2])):
        load.note_batch(batch, await load.clients.insist(_report(speaker, proof, body), dice))


def _report(speaker: Speaker, proof: str, body: bytes) -> Request:
    def signature() -> Headers:
        return signed_by_hand(speaker.agent, body, OWN_AID)

    if proof == "signature":
        return Request("events", "POST", EVENTS, body, {}, signature)
    return Request("events", "POST", EVENTS, body, holding(speaker.token or ""))


async def _prove(load: Load, speaker: Speaker, dice: random.Random) -> bool:
    """Get an agent token. A nonce is good for one: of two answers to a challenge at most one is accepted."""
    aid = json.dumps({"aid": speaker.agent.aid}).encode()
    while speaker.token is None:
        challenge = await load.clients.insist(
            Request("agent tokens", "POST", "/api/agent-auth/challenge", aid, {}), dice
        )
        if challenge is None or challenge.status != 200:
            load.record.complain("agent tokens", "wrong", f"{speaker.agent.aid} got no challenge: {challenge}")
            return False
        proof = pop_response(speaker.agent.sdk, challenge.body["nonce"], challenge.body["audience"]).encode()
        request = Request("agent tokens", "POST", "/api/agent-auth/token", proof, {})
        times = dice.choice([1, 1, 1, 2])
        responses = await asyncio.gather(*(load.clients.insist(request, dice) for _ in range(times)))
        issued = [response for response in responses if response is not None and response.status == 200]
        if len(issued) > 1:
            load.record.complain("agent tokens", "duplicated", f"{speaker.agent.aid}: one nonce, {len(issued)} tokens")
        if issued:
            speaker.take(issued[0].body["token"])
            load.record.agent_tokens += 1
        elif not _is_spent(responses):
            load.record.complain("agent tokens", "wrong", f"{speaker.agent.aid} got no token: {responses}")
            return False
    return True


def _is_spent(responses: Sequence[Answer | None]) -> bool:
    """Whether the nonce is too old, perhaps by a clock that was set, or an attempt that nobody knows of has used it."""
    reasons = {None if response is None else response.body.get("reason") for response in responses}
    unsure = any(response is not None and response.unsure for response in responses)
    return reasons == {"nonce"} or (unsure and reasons <= {"nonce", "replayed"})


async def _tamper(load: Load, speaker: Speaker, events: list[dict[str, Any]], dice: random.Random) -> None:
    """Somebody changes a signed report on its way."""
    body = json.dumps(events).encode()
    headers = signed_by_hand(speaker.agent, body, OWN_AID)
    request = Request("events", "POST", EVENTS, body.replace(b"demo.", b"mode.") + b" ", headers)
    response = await load.clients.attempt(request, dice)
    if response is not None and (response.status, response.code) != (401, "SIGNATURE_INVALID"):
        load.record.complain("events", "wrong", f"a report that was tampered with: {response}")


def _own_event(load: Load, agent: Agent, key: str, dice: random.Random) -> dict[str, Any]:
    more: dict[str, Any] = {}
    if dice.random() < 0.3:
        token = signed_token(load.record.tokens, agent, new_agent().aid, token_id(dice))
        more = {"type": "tct.issued", "payload": {"tct": {"token": token}, "torture": key}}
    return {"type": "demo.own", "aid_a": agent.aid, "id": key, "payload": {"torture": key}, **more}


async def contain(load: Load, name: str, dice: random.Random) -> None:
    """An agent with tokens is contained, by one or two operators; what is reported of it later is revoked as well."""
    bad, peers = new_agent(), [new_agent() for _ in range(dice.randint(1, 3))]
    suspect = load.record.suspects[bad.aid] = Suspect(bad.aid)
    if not await load.register(bad, sdk_manifest(bad), dice):
        return
    before = [_told_of(load, bad, peers, dice, proven=number < 2) for number in range(5)]
    suspect.before = [event.jti for event in before]
    await _tell(load, f"{name}-before", before, dice)
    plan = await _plan(load, suspect, dice)
    if plan is None or not await _contain(load, suspect, plan, dice):
        return
    later = [_told_of(load, bad, peers, dice, proven=number < 2) for number in range(4)]
    suspect.proven_later, suspect.claimed_later = [[event.jti for event in part] for part in (later[:2], later[2:])]
    await _tell(load, f"{name}-later", later, dice)
    await _is_cut_off(load, bad, dice)
    for peer in peers[:-1]:
        await _confirm(load, suspect, peer, dice)
    await _look(load, suspect, dice)
    if dice.random() < 0.5:
        await _release(load, suspect, dice)


class _Told(NamedTuple):
    """A token that is reported: its id, and what stands in the report."""

    jti: str
    tct: dict[str, Any]


def _told_of(load: Load, bad: Agent, peers: Sequence[Agent], dice: random.Random, *, proven: bool) -> _Told:
    """A token that the agent has issued or holds."""
    jti, peer = token_id(dice), dice.choice(peers)
    issuer, subject = (bad, peer) if dice.random() < 0.5 else (peer, bad)
    if proven:
        return _Told(jti, {"token": signed_token(load.record.tokens, issuer, subject.aid, jti)})
    return _Told(jti, {"jti": jti, "iss": issuer.aid, "sub": subject.aid, "exp": FAR})


async def _tell(load: Load, name: str, tokens: Sequence[_Told], dice: random.Random) -> None:
    """Report tokens until there is an answer; whoever hung up might be heard after a release."""
    events = [
        {"type": "tct.issued", "id": f"{name}-{number}", "payload": {"tct": tct, "torture": f"{name}-{number}"}}
        for number, (_, tct) in enumerate(tokens)
    ]
    batch = Batch(name, 0, [as_stored(event, load.record.tokens) for event in events], False, _now())
    load.record.batches.append(batch)
    request = Request("events", "POST", EVENTS, json.dumps(events).encode())
    load.note_batch(batch, await load.clients.insist(request, dice))


async def _plan(load: Load, suspect: Suspect, dice: random.Random) -> str | None:
    """What is done is what was shown, so a request that comes late does not contain an agent that was released."""
    request = _act(suspect, "contain?dryRun=true", {"reason": "torture"})
    response = await load.clients.insist(request, dice)
    if response is None or response.status != 200 or response.body["revocations"] != len(suspect.before):
        load.record.complain("containments", "wrong", f"the plan for {suspect.aid}: {response}")
        return None
    return str(response.body["planDigest"])


async def _contain(load: Load, suspect: Suspect, plan: str, dice: random.Random) -> bool:
    suspect.contained = "asked"
    request = _act(suspect, "contain", {"reason": "torture", "expect": plan})
    if dice.random() < 0.2:
        await load.clients.vanish(request, dice)
    responses = await asyncio.gather(*(load.clients.insist(request, dice) for _ in range(dice.choice([1, 1, 2]))))
    done = [response for response in responses if response is not None and response.status in {200, 201}]
    if len(done) < len(responses):
        load.record.complain("containments", "wrong", f"{suspect.aid}: {responses}")
        return False
    suspect.contained = "told"
    suspect.ids.update(response.body["containment"]["id"] for response in done)
    if sum(response.status == 201 for response in done) > 1:
        load.record.complain("containments", "duplicated", f"{suspect.aid} was contained twice: {responses}")
    return True


async def _is_cut_off(load: Load, bad: Agent, dice: random.Random) -> None:
    """From its containment on an agent neither reports nor enrols, on any replica."""
    body = json.dumps([{"type": "demo.own", "aid_a": bad.aid, "id": "never"}]).encode()
    trials = (
        Request("containments", "POST", EVENTS, body, signed_by_hand(bad, body, OWN_AID)),
        Request("containments", "POST", "/api/registry/enroll", sdk_manifest(bad), {}),
        Request("containments", "POST", "/api/agent-auth/challenge", json.dumps({"aid": bad.aid}).encode(), {}),
    )
    for trial in trials:
        response = await load.clients.attempt(trial, dice)
        if response is not None and (response.status, response.code) != (403, "AGENT_CONTAINED"):
            load.record.complain("containments", "wrong", f"{bad.aid} is contained, and {trial.path} says {response}")


async def _confirm(load: Load, suspect: Suspect, peer: Agent, dice: random.Random) -> None:
    """A peer shows that it holds the list: with its token, and the tag of the list that it has fetched."""
    speaker = Speaker(peer)
    if not await _prove(load, speaker, dice):
        return
    suspect.confirming.add(peer.aid)
    load.peers.append((suspect, speaker))
    fetched = await load.clients.attempt(Request("signed lists", "GET", LIST, headers={}), dice)
    if fetched is not None and fetched.status == 200:
        await load.clients.attempt(_condition(speaker, fetched), dice)


async def confirm_all(load: Load, dice: random.Random) -> None:
    """Once all is calm, peers fetch the list until it holds the containment, and show that they do."""
    for suspect, speaker in load.peers[-MOST_CONFIRMED:]:
        if speaker.expires_soon or suspect.contained != "told":
            continue
        while True:
            fetched = await load.clients.insist(Request("signed lists", "GET", LIST, headers={}), dice)
            if fetched is None:
                return
            listed = {entry["jti"] for entry in fetched.body["revocation_list"]["entries"]}
            if listed >= set(suspect.before):
                break
            if load.clients.is_late:
                load.record.complain("containments", "lost", f"{suspect.aid} is in no list")
                return
            await asyncio.sleep(0.1)
        shown = await load.clients.insist(_condition(speaker, fetched), dice, fetched.port)
        # A new signing has another tag, and the old one still says which list the peer has.
        suspect.confirmed = shown is not None and shown.status in {200, 304}


def _condition(speaker: Speaker, fetched: Answer) -> Request:
    headers = {"If-None-Match": fetched.headers["etag"], "X-Aitp-Agent-Token": speaker.token or ""}
    return Request("signed lists", "GET", LIST, headers=headers, page=True)


async def _look(load: Load, suspect: Suspect, dice: random.Random) -> None:
    """The list of containments has this one, once; and only who has shown it holds the list."""
    path = f"/api/containments?aid={quote(suspect.aid, safe='')}"
    response = await load.clients.attempt(Request("containments", "GET", path), dice)
    if response is None:
        return
    listed = [row["id"] for row in response.body["containments"]] if response.status == 200 else []
    if set(listed) != suspect.ids or len(listed) != 1:
        load.record.complain("containments", "lost", f"{suspect.aid} has {suspect.ids}, listed are {listed}")
    for id in suspect.ids:
        reach = await load.clients.attempt(Request("containments", "GET", f"/api/containments/{id}/reach"), dice)
        if reach is None:
            continue
        confirmed = reach.body["exposedPeers"]["confirmed"] if reach.status == 200 else None
        if confirmed is None or confirmed > len(suspect.confirming):
            load.record.complain(
                "containments", "wrong", f"{len(suspect.confirming)} peers of {suspect.aid} have confirmed: {reach}"
            )


async def _release(load: Load, suspect: Suspect, dice: random.Random) -> None:
    suspect.released = "asked"
    response = await load.clients.insist(_act(suspect, "release", {"reason": "a new key"}), dice)
    # Done by an attempt that nobody knows of, it cannot be done again.
    again = response is not None and response.unsure > 0 and response.code == "NOT_CONTAINED"
    if response is None or not (response.status == 200 or again):
        load.record.complain("containments", "wrong", f"{suspect.aid} was not released: {response}")
        return
    suspect.released = "told"


def _act(suspect: Suspect, act: str, body: dict[str, str]) -> Request:
    path = f"/api/registry/agents/{quote(suspect.aid, safe='')}/{act}"
    return Request("containments", "POST", path, json.dumps(body).encode())


def _now() -> float:
    return asyncio.get_running_loop().time()
