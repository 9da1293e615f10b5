"""Agent tokens: an agent answers a challenge with its key (contract, section 20)."""

from aitp_cp_conformance.agent import Agent
from aitp_cp_conformance.deployment import Deployment

CHALLENGE = "/api/agent-auth/challenge"
TOKEN = "/api/agent-auth/token"  # noqa: S105 - a path


async def challenge(cp: Deployment, agent: Agent) -> dict[str, object]:
    body: dict[str, object] = (await cp.public.post(CHALLENGE, {"aid": agent.aid})).ok()
    return body


async def answered(cp: Deployment, agent: Agent) -> bytes:
    """Return the agent's signed answer to a fresh challenge."""
    asked = await challenge(cp, agent)
    return agent.pop_response(str(asked["nonce"]), str(asked["audience"]))


async def token_of(cp: Deployment, agent: Agent) -> str:
    token: str = (await cp.public.post(TOKEN, await answered(cp, agent))).ok()["token"]
    return token
