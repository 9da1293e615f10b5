"""How a reporter proves who it is: an API key, the agent's own key, or an agent token."""

import time
from collections.abc import Mapping
from typing import Protocol
from urllib.parse import urlsplit

from aitp_cp_client.errors import ControlPlaneError
from aitp_cp_client.options import bearer
from aitp_cp_client.proof import SdkAgent, agent_token
from aitp_cp_client.published import manifest
from aitp_cp_client.signing import Request, SigningKey, signed_headers
from aitp_cp_client.transport import Transport
from aitp_cp_client.wire.aid import Aid, canonical

EVENTS = "/api/events"
RENEW_SECS = 60  # before a token expires: longer than a request takes


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


class _AgentToken:
    def __init__(self, agent: SdkAgent, transport: Transport, audience: _Audience) -> None:
        self._agent = agent
        self._transport = transport
        self._audience = audience
        self._headers: Mapping[str, str] = {}
        self._good_until = 0.0  # by the monotonic clock

    async def headers(self, body: bytes) -> Mapping[str, str]:
        if time.monotonic() >= self._good_until:
            await self._renew()
        return self._headers

    def refused(self, error: ControlPlaneError) -> bool:
        if error.status != 401:
            return False
        self._audience.forget()
        had_token, self._good_until = self._good_until > 0, 0.0
        return had_token

    async def _renew(self) -> None:
        """Get a token for the AID that was pinned or verified."""
        audience, started_at = await self._audience.read(), time.monotonic()
        granted = await agent_token(self._transport, self._agent, audience)
        self._headers = {"Authorization": bearer(granted.token)}
        self._good_until = started_at + granted.expires_in - RENEW_SECS
