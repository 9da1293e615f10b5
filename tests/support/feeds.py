"""What random bodies cannot be: signed manifests, reports about known agents, addresses that somebody answers at."""

import json
import time
from collections.abc import Callable, Mapping
from typing import Any, cast
from uuid import UUID

from schemathesis.core.transport import Response
from schemathesis.generation.case import Case

from tests.support.agents import Agent, manifest
from tests.support.app import AUTH
from tests.support.enrolment import bearer
from tests.support.signed import pop_response

AGENTS = [*(Agent(bytes([n]) * 32) for n in range(1, 8)), Agent(b"p" * 32, "p256")]
ENROLL, REGISTER = "POST /api/registry/enroll", "POST /api/registry/agents"
CHALLENGE, TOKEN = "POST /api/agent-auth/challenge", "POST /api/agent-auth/token"


class Surroundings:
    """Where webhooks and identity providers are, and which agents hold a token for which manifest."""

    def __init__(self, hook: str, provider: str) -> None:
        self.hook = hook
        self.provider = provider
        self.enrolled: dict[str, tuple[Any, str]] = {}
        self.challenges: list[tuple[str, str, str]] = []  # an agent, its nonce and the audience

    def feed(self, case: Case[Any], n: int) -> None:
        """Put the n-th real body in the place of a made-up one, where there is a real one."""
        feed = FEEDS.get(case.operation.label)
        if feed is not None:
            case.body = feed(self, case.body, n)

    def learn(self, case: Case[Any], response: Response) -> None:
        if case.operation.label == ENROLL and response.status_code == 200:
            said = response.json()
            self.enrolled[said["aid"]] = case.body, said["token"]
        if case.operation.label == CHALLENGE and response.status_code == 200:
            said, body = response.json(), cast("Mapping[str, str]", case.body)
            self.challenges.append((body["aid"], said["nonce"], said["audience"]))

    def credentials(self, case: Case[Any]) -> dict[str, str]:
        """The token of the agent that registers; an API key everywhere else."""
        if case.operation.label == REGISTER:
            for envelope, token in self.enrolled.values():
                if case.body == envelope:
                    return bearer(token)
        return AUTH


def envelope(n: int) -> Any:
    """The manifest of one of the agents, published now or just before."""
    return json.loads(manifest(AGENTS[n % len(AGENTS)], published_at=int(time.time()) - n % 3))


def enrolled(around: Surroundings, made_up: Any, n: int) -> Any:
    """The manifest that a link brought, else one that was enrolled earlier."""
    known = [enrolled for enrolled, _ in around.enrolled.values()]
    for one in known:
        if one.items() <= made_up.items():
            return one
    return known[n % len(known)] if known else made_up


def proof(around: Surroundings, made_up: Any, n: int) -> Any:
    """The answer of an agent to the oldest challenge that nobody has answered."""
    if not around.challenges:
        return made_up
    aid, nonce, audience = around.challenges.pop(0)
    signer = next((agent for agent in AGENTS if agent.aid == aid), None)
    return made_up if signer is None else json.loads(pop_response(signer.sdk, nonce, audience))


def reports(n: int) -> dict[str, Any]:
    """A handshake with its token, and a delegation of it."""
    one, other = AGENTS[n % len(AGENTS)], AGENTS[(n ^ 1) % len(AGENTS)]
    jti, passed_on = str(UUID(int=n, version=4)), str(UUID(int=n + 2**64, version=4))
    tct = {"jti": jti, "iss": one.aid, "sub": other.aid, "grants": ["cap"], "iat": 1779710400, "exp": 1979710400}
    hop = {"jti": passed_on, "parent_jti": jti, "delegator": other.aid, "delegatee": one.aid, "scope": ["cap"]}
    common = {"session_id": f"session-{n}", "run_id": f"run-{n % 3}", "aid_a": one.aid, "aid_b": other.aid}
    return {
        "events": [
            {"type": "handshake.complete", "payload": {"tct": tct, "boundary": "org"}, **common},
            {"type": "delegation.issued", "payload": hop, **common},
        ]
    }


def anchor(around: Surroundings, n: int) -> dict[str, Any]:
    return {"issuerUrl": f"{around.provider}/{n % 16}", "jwksUrl": f"{around.provider}/keys"}


def changed(around: Surroundings, made_up: Any, n: int) -> dict[str, Any]:
    """An address in the place of each made-up one."""
    return {**made_up, **{name: url for name, url in anchor(around, n).items() if name in made_up}}


def pinned(n: int) -> dict[str, Any]:
    agent = AGENTS[n % len(AGENTS)]
    return {"aid": agent.aid, "pubkey": agent.key}


# By operation: the n-th real body; the made-up one has its say where it can.
FEEDS: Mapping[str, Callable[[Surroundings, Any, int], Any]] = {
    "POST /api/webhooks": lambda around, made_up, n: {**made_up, "url": around.hook, "events": []},
    CHALLENGE: lambda around, made_up, n: {"aid": AGENTS[n % 4 + 4].aid},
    TOKEN: proof,
    ENROLL: lambda around, made_up, n: envelope(n),
    REGISTER: enrolled,
    "POST /api/events": lambda around, made_up, n: made_up if n % 3 == 2 else reports(n % 64),
    "PATCH /api/webhooks/{id}": lambda around, made_up, n: {**made_up, "url": around.hook, "events": ["tct.revoked"]},
    "PUT /api/webhooks/{id}": lambda around, made_up, n: {**made_up, "url": around.hook, "events": None},
    "POST /api/trust-anchors": lambda around, made_up, n: anchor(around, n),
    "PATCH /api/trust-anchors/{id}": changed,
    "POST /api/pinned-keys": lambda around, made_up, n: pinned(n),
    "PUT /api/registry/agents/{aid}/notes": lambda around, made_up, n: {"owner": f"team {n % 3}", "labels": ["a"]},
    "POST /api/keys": lambda around, made_up, n: {"name": f"key {n}", "role": "reporter"},
    "PATCH /api/keys/{id}": lambda around, made_up, n: {"name": f"renamed {n}"},
    "POST /api/keys/{id}/rotate": lambda around, made_up, n: {"overlapSecs": n % 100},
}
