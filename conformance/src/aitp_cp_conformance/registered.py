"""Enrolment and registration, and the agents that checks share: enrolling is limited to five a minute by default."""

from dataclasses import dataclass
from typing import Any

from aitp_cp_conformance import expect
from aitp_cp_conformance.agent import Agent
from aitp_cp_conformance.agents import ENDPOINT, new_agent
from aitp_cp_conformance.deployment import Deployment
from aitp_cp_conformance.litter import agent_path
from aitp_cp_conformance.wire import Answer, Headers

ENROLL = "/api/registry/enroll"
AGENTS = "/api/registry/agents"


@dataclass(frozen=True, slots=True)
class Registered:
    """An agent in the registry, and what was said on its way there."""

    agent: Agent
    name: str
    manifest: bytes
    capability: str
    enrolled: dict[str, Any]  # the answer to the enrolment
    headers: dict[str, str]  # beside the token, of the registration
    answer: Answer  # the answer to the registration

    @property
    def aid(self) -> str:
        return self.agent.aid

    @property
    def path(self) -> str:
        return agent_path(self.aid)


async def enroll(cp: Deployment, manifest: bytes) -> dict[str, Any]:
    """The answer to an enrolment that must succeed."""
    said: dict[str, Any] = (await cp.public.post(ENROLL, manifest)).ok()
    expect.that(isinstance(said.get("token"), str), "the answer to an enrolment has no token")
    return said


async def register(cp: Deployment, manifest: bytes, token: str, headers: Headers | None = None) -> Answer:
    """Try to register with this token."""
    return await cp.public.post(AGENTS, manifest, {"Authorization": f"Bearer {token}", **(headers or {})})


async def main_agent(cp: Deployment) -> Registered:
    """The agent that most checks look at."""
    return await _registered(cp, new_agent())


async def other_agent(cp: Deployment) -> Registered:
    """One with a P-256 key, and registered second."""
    await cp.shared(main_agent)
    return await _registered(cp, new_agent(p256=True))


async def _registered(cp: Deployment, agent: Agent) -> Registered:
    name, capability = cp.name("agent"), cp.name("capability")
    manifest = agent.manifest(name, ENDPOINT, [capability, "conformance.echo"])
    enrolled = await enroll(cp, manifest)
    # One key for all agents: it is scoped to the one that registers.
    headers = {"X-Aitp-Namespace": cp.namespace, "Idempotency-Key": cp.run}
    answer = await register(cp, manifest, enrolled["token"], headers)
    expect.status(answer, 201)
    return Registered(agent, name, manifest, capability, enrolled, headers, answer)
