"""How a reporter proves who it is: an API key, the agent's own key, or an agent token."""

import time
from collections.abc import Mapping
from typing import Protocol, runtime_checkable
from urllib.parse import urlsplit

import msgspec

from aitp_cp_client.errors import ControlPlaneError
from aitp_cp_client.options import bearer
from aitp_cp_client.published import manifest
from aitp_cp_client.signing import Request, SigningKey, signed_headers
from aitp_cp_client.transport import Call, Response, Transport, encode
from aitp_cp_client.wire.aid import Aid, canonical

EVENTS = "/api/events"
CHALLENGE = "/api/agent-auth/challenge"
TOKEN = "/api/agent-auth/token"  # noqa: S105 - a path
RENEW_SECS = 60  # before a token expires: longer than a request takes


@runtime_checkable
class SdkAgent(Protocol):
    """What is needed of an `aitp.AitpAgent`."""

    @property
    def aid(self) -> str: ...

    def sign_envelope(self, message_type: str, payload_json: str) -> str: ...


Identity = str | SigningKey | SdkAgent
"""An API key; the key of an agent, which signs each request; or an agent of the SDK, which gets agent tokens."""


def aid_of(identity: Identity) -> Aid | None:
    """Return who reports; None for an API key, which many agents may share."""
    return canonical(identity.aid) if isinstance(identity, SigningKey | SdkAgent) else None


class Prover(Protocol):
    async def headers(self, body: bytes) -> Mapping[str, str]:
        """Return what a batch is sent with; raises `ControlPlaneError`."""
        ...

    def refused(self, error: ControlPlaneError) -> bool:
        """Forget what the control plane no longer accepts; return whether another attempt can help at once."""
        ...


def prover(identity: Identity, transport: Transport, pinned: str | None = None) -> Prover:
    """Return the prover of this identity; raises `ValueError` for a key or an AID that cannot be one."""
    if isinstance(identity, str):
        return _SharedKey(identity)
    audience = _Audience(transport, pinned)
    if isinstance(identity, SigningKey):
        return _Signature(identity, transport, audience)
    if not isinstance(identity, SdkAgent):
        raise ValueError("the identity must be an API key, a SigningKey or an agent of the SDK")
    return _AgentToken(identity, transport, audience)


class _SharedKey:
    def __init__(self, key: str) -> None:
        self._headers = {"Authorization": bearer(key)}

    async def headers(self, body: bytes) -> Mapping[str, str]:
        return self._headers

    def refused(self, error: ControlPlaneError) -> bool:
        return False


class _Audience:
    """The control plane's AID: pinned, or read once from the manifest it publishes."""

    def __init__(self, transport: Transport, pinned: str | None) -> None:
        self._transport = transport
        self._pinned = None if pinned is None else canonical(pinned)
        self._known: Aid | None = None

    async def read(self) -> Aid:
        if self._pinned is not None:
            return self._pinned
        if self._known is None:
            self._known = canonical((await manifest(self._transport)).aid)
        return self._known

    def forget(self) -> bool:
        """Return whether there was something to forget: a pinned AID stays."""
        was_known, self._known = self._known is not None, None
        return was_known


class _Signature:
    def __init__(self, key: SigningKey, transport: Transport, audience: _Audience) -> None:
        self._key = key
        self._path = urlsplit(transport.url + EVENTS).path
        self._audience = audience

    async def headers(self, body: bytes) -> Mapping[str, str]:
        return signed_headers(self._key, Request(self._path, body), await self._audience.read())

    def refused(self, error: ControlPlaneError) -> bool:
        return error.status == 401 and error.extra.get("reason") == "audience" and self._audience.forget()


class _Challenge(msgspec.Struct):
    nonce: str


class _Token(msgspec.Struct, rename="camel"):
    token: str
    expires_in: int


class _AgentToken:
    def __init__(self, agent: SdkAgent, transport: Transport, audience: _Audience) -> None:
        self._agent = agent
        self._aid = agent.aid
        self._transport = transport
        self._audience = audience
        self._headers: Mapping[str, str] = {}
        self._good_until = 0.0  # by the monotonic clock

    async def headers(self, body: bytes) -> Mapping[str, str]:
        if time.monotonic() >= self._good_until:
            await self._renew()
        return self._headers

    def refused(self, error: ControlPlaneError) -> bool:
        was_good, self._good_until = self._good_until > 0, 0.0 if error.status == 401 else self._good_until
        if error.status == 401:
            self._audience.forget()
        return error.status == 401 and was_good

    async def _renew(self) -> None:
        """Sign the nonce for the AID that was pinned or verified, never for one that the challenge names."""
        audience = await self._audience.read()
        challenge = (await self._post(CHALLENGE, encode({"aid": self._aid}))).read(_Challenge)
        payload = encode({"nonce": challenge.nonce, "audience": audience}).decode()
        envelope = self._agent.sign_envelope("pop_response", payload)
        asked_at = time.monotonic()
        granted = (await self._post(TOKEN, envelope.encode())).read(_Token)
        self._headers = {"Authorization": bearer(granted.token)}
        self._good_until = asked_at + granted.expires_in - RENEW_SECS

    async def _post(self, path: str, body: bytes) -> Response:
        return await self._transport.send(Call(method="POST", path=path, body=body, gated=False))
