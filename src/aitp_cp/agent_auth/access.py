"""Agents at the gate: with a token, or a request that they signed (contract, section 20)."""

from datetime import datetime

from aitp_cp.agent_auth import standing
from aitp_cp.protocol import http_signature
from aitp_cp.protocol.agent_token import PREFIX, AgentTokens
from aitp_cp.protocol.http_signature import Digest, SignedRequest
from aitp_cp.protocol.reports import Proof
from aitp_cp.protocol.scopes import Scope
from aitp_cp.runtime import Runtime
from aitp_cp.web.principal import Kind, Principal
from aitp_cp_client.wire.aid import Aid

SCOPES = frozenset({Scope.EVENTS_WRITE})


class AgentAccess:
    """Knows agents by what they prove; whether they may act is looked up at each request."""

    prefix = PREFIX
    exist = False  # an open gate stays open: agents get tokens whenever they ask

    def __init__(self, rt: Runtime) -> None:
        self._rt = rt
        self._tokens = rt.get(AgentTokens)

    def find(self, token: str, digest: bytes) -> Principal | None:
        """Return the agent of a token; raises `AgentTokenInvalid`."""
        claims = self._tokens.read_token(token, self._rt.clock())
        return _principal(Aid(claims.sub), Proof.AGENT_TOKEN, claims.expires_at)

    async def look_up(self, token: str, digest: bytes) -> Principal | None:
        """Return None: a token says by itself whether it is valid."""
        return None

    def is_valid(self, principal: Principal) -> bool:
        """Return whether the token has not expired."""
        return principal.expires_at is None or self._rt.clock() < principal.expires_at

    def used(self, principal: Principal, client_ip: str) -> None:
        """Nothing is kept of a token."""

    async def check(self, principal: Principal) -> None:
        """Raise `AgentNotActive` unless the agent may act now."""
        assert principal.aid is not None
        await standing.require_active(self._rt, principal.aid)

    def verify(self, request: SignedRequest) -> tuple[Principal, tuple[Digest, ...]]:
        """Return who signed a request, and the digests of its body; raises `SignatureInvalid`."""
        verified = http_signature.verify(request, self._rt.signer.aid, int(self._rt.clock().timestamp()))
        return _principal(verified.aid, Proof.SIGNATURE, None), verified.digests


def _principal(aid: Aid, proof: Proof, expires_at: datetime | None) -> Principal:
    actor = f"agent:{aid}"
    return Principal(actor=actor, kind=Kind.AGENT, scopes=SCOPES, expires_at=expires_at, aid=aid, proof=proof)
