"""Enrolment, registration, and shared agents: enrolling is limited to five a minute by default."""

from dataclasses import dataclass
from typing import Any

from aitp_cp_conformance import expect
from aitp_cp_conformance.agent import Agent
from aitp_cp_conformance.agents import ENDPOINT, new_agent
from aitp_cp_conformance.cleanup import agent_path
from aitp_cp_conformance.deployment import Deployment
from aitp_cp_conformance.model import Skipped
from aitp_cp_conformance.proving import token_of
from aitp_cp_conformance.wire import Headers, Response

ENROLL = "/api/registry/enroll"
AGENTS = "/api/registry/agents"


@dataclass(frozen=True, slots=True)
class Registered:
    """An agent in the registry, and the responses to its enrolment and registration."""

    agent: Agent
    name: str
    manifest: bytes
    capability: str
    enrolled: dict[str, Any]  # response to the enrolment
    headers: dict[str, str]  # of the registration, without the token
    response: Response  # response to the registration

    @property
    def aid(self) -> str:
        return self.agent.aid

    @property
    def path(self) -> str:
        return agent_path(self.aid)


async def enroll(cp: Deployment, manifest: bytes) -> dict[str, Any]:
    """Enrol; return the response body."""
    body: dict[str, Any] = (await cp.public.post(ENROLL, manifest)).ok()
    expect.that(isinstance(body.get("token"), str), "the response to an enrolment has no token")
    return body


async def register(cp: Deployment, manifest: bytes, token: str, headers: Headers | None = None) -> Response:
    """Send a registration with this token; skip the check where it needs a proof that it lacks."""
    response = await cp.public.post(AGENTS, manifest, {"Authorization": f"Bearer {token}", **(headers or {})})
    if response.refused_with("PROOF_REQUIRED"):
        cp.skip("registrations need an agent token: ENROLMENT=proof")
    return response


async def main_agent(cp: Deployment) -> Registered:
    """Register the agent that most checks use."""
    return await _registered(cp, new_agent())


async def other_agent(cp: Deployment) -> Registered:
    """Register a second agent, with a P-256 key."""
    await cp.shared(main_agent)
    return await _registered(cp, new_agent(p256=True))


async def _registered(cp: Deployment, agent: Agent) -> Registered:
    name, capability = cp.name("agent"), cp.name("capability")
    manifest = agent.manifest(name, ENDPOINT, [capability, "conformance.echo"])
    enrolled = await enroll(cp, manifest)
    # The same Idempotency-Key for all agents: it is scoped to the registering agent.
    headers = {"X-Aitp-Namespace": cp.namespace, "Idempotency-Key": cp.run}
    try:
        response = await register(cp, manifest, enrolled["token"], headers)
    except Skipped:
        headers["X-Aitp-Agent-Token"] = await token_of(cp, agent)
        response = await register(cp, manifest, enrolled["token"], headers)
    expect.status(response, 201)
    return Registered(agent, name, manifest, capability, enrolled, headers, response)
