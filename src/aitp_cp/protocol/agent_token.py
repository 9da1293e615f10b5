"""What an agent shows to prove its key: a challenge's nonce, and the token it gets for a signed one (contract, 20).

Both are authenticated by this control plane and say all there is to know, so minting one stores nothing.
"""

import hmac
import re
import secrets
import struct
from datetime import UTC, datetime
from typing import Literal
from uuid import UUID

import msgspec

from aitp_cp.errors import AgentTokenInvalid, ProofInvalid
from aitp_cp.protocol.derived_keys import derive
from aitp_cp_client.wire import base64url
from aitp_cp_client.wire.aid import Aid

PREFIX = "aca_"
LIFETIME_SECS = 900
NONCE_LIFETIME_SECS = 60
ID_BYTES = 16
MAC_BYTES = 32

_HEAD = struct.Struct(f">Q{ID_BYTES}s")  # when the nonce ends, in epoch seconds, and what makes it unique
_NONCE = re.compile(r"[A-Za-z0-9_-]{75}")  # 56 bytes
_TOKEN = re.compile(PREFIX + r"([A-Za-z0-9_-]{1,512})\.([A-Za-z0-9_-]{43})")

Reason = Literal["envelope", "signature", "nonce", "audience", "time", "replayed"]


class AgentClaims(msgspec.Struct, frozen=True):
    """What an agent token says; `exp` is in epoch seconds."""

    sub: str
    exp: int

    @property
    def expires_at(self) -> datetime:
        return datetime.fromtimestamp(self.exp, UTC)


class Nonce(msgspec.Struct, frozen=True):
    """A nonce of ours that has not ended; its first successful use stores `id`."""

    id: UUID
    expires_at: datetime


_DECODER = msgspec.json.Decoder(AgentClaims)


class AgentTokens:
    """Mints and verifies nonces and tokens, under keys derived from the enrollment secret."""

    def __init__(self, secret: bytes) -> None:
        self._nonce_key = derive(secret, "agent-auth nonce")
        self._token_key = derive(secret, "agent-auth token")

    def nonce(self, aid: Aid, now: datetime) -> str:
        """Return a fresh nonce that only this agent can use, within the next 60 seconds."""
        head = _HEAD.pack(int(now.timestamp()) + NONCE_LIFETIME_SECS, secrets.token_bytes(ID_BYTES))
        return base64url.encode(head + self._mac_of_nonce(head, aid))

    def read_nonce(self, nonce: object, aid: Aid, now: datetime) -> Nonce:
        """Return the parts of a nonce minted here for this agent; raises `ProofInvalid` for any other, or too late."""
        if not isinstance(nonce, str) or _NONCE.fullmatch(nonce) is None:
            raise proof_invalid("nonce", "the nonce is not one of this control plane")
        content = base64url.decode(nonce)
        head, mac = content[: _HEAD.size], content[_HEAD.size :]
        if not hmac.compare_digest(mac, self._mac_of_nonce(head, aid)):
            raise proof_invalid("nonce", "the nonce was not given to this agent by this control plane")
        end, unique = _HEAD.unpack(head)
        if end <= now.timestamp():
            raise proof_invalid("nonce", "the nonce has expired: ask for a new challenge")
        return Nonce(UUID(bytes=unique), datetime.fromtimestamp(end, UTC))

    def token(self, aid: Aid, now: datetime) -> str:
        """Return a token for this agent, good for 15 minutes."""
        body = base64url.encode(msgspec.json.encode(AgentClaims(aid, int(now.timestamp()) + LIFETIME_SECS)))
        return f"{PREFIX}{body}.{base64url.encode(self._mac_of_token(body))}"

    def read_token(self, token: str, now: datetime) -> AgentClaims:
        """Return what a token minted here says; raises `AgentTokenInvalid`."""
        shape = _TOKEN.fullmatch(token)
        if shape is None:
            raise AgentTokenInvalid("the agent token is malformed")
        body, mac = shape.groups()
        if not hmac.compare_digest(mac, base64url.encode(self._mac_of_token(body))):
            raise AgentTokenInvalid("the agent token was not issued by this control plane")
        claims = _DECODER.decode(base64url.decode(body))
        if claims.exp <= now.timestamp():
            raise AgentTokenInvalid("the agent token has expired: ask for a new one")
        return claims

    def _mac_of_nonce(self, head: bytes, aid: Aid) -> bytes:
        return hmac.digest(self._nonce_key, head + aid.encode(), "sha256")

    def _mac_of_token(self, body: str) -> bytes:
        return hmac.digest(self._token_key, body.encode(), "sha256")


def is_agent_token(credential: str) -> bool:
    return credential.startswith(PREFIX)


def proof_invalid(reason: Reason, message: str, **extra: str) -> ProofInvalid:
    return ProofInvalid(message, extra={"reason": reason, **extra})
