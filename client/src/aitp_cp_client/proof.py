"""Proof of an agent's key: it signs a nonce of the control plane and gets a token for 15 minutes."""

from typing import Protocol, runtime_checkable

import msgspec

from aitp_cp_client.transport import Call, Transport, encode
from aitp_cp_client.wire.aid import Aid

CHALLENGE = "/api/agent-auth/challenge"
TOKEN = "/api/agent-auth/token"  # noqa: S105 - a path


@runtime_checkable
class SdkAgent(Protocol):
    """What is needed of an `aitp.AitpAgent`."""

    @property
    def aid(self) -> str: ...

    def sign_envelope(self, message_type: str, payload_json: str) -> str: ...


class _Challenge(msgspec.Struct):
    nonce: str


class AgentToken(msgspec.Struct, frozen=True, rename="camel"):
    """`token` is good for `expires_in` seconds: to report events, and to prove a registration."""

    token: str
    expires_in: int
    aid: str

    def __repr__(self) -> str:  # the token must not get into a log
        return f"AgentToken({self.aid!r})"


async def agent_token(transport: Transport, agent: SdkAgent, audience: Aid) -> AgentToken:
    """Sign the nonce for `audience`, never for a control plane that the challenge names. Not retried as a whole."""
    request = Call(method="POST", path=CHALLENGE, body=encode({"aid": agent.aid}), gated=False)
    challenge = (await transport.send(request)).read(_Challenge)
    payload = encode({"nonce": challenge.nonce, "audience": audience}).decode()
    envelope = agent.sign_envelope("pop_response", payload).encode()
    request = Call(method="POST", path=TOKEN, body=envelope, gated=False, repeatable=False)
    return (await transport.send(request)).read(AgentToken)
