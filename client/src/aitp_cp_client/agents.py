"""The registry: discovery, enrolment, registration, deregistration."""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from functools import partial
from typing import Literal, TypedDict, Unpack
from uuid import UUID, uuid4

import msgspec

from aitp_cp_client.containments import Containment, ContainOptions
from aitp_cp_client.errors import ControlPlaneError
from aitp_cp_client.paging import Rows, rows
from aitp_cp_client.proof import AgentToken, SdkAgent, agent_token
from aitp_cp_client.published import manifest as published_manifest
from aitp_cp_client.transport import Call, Transport, encode, segment
from aitp_cp_client.wire.aid import canonical

log = logging.getLogger("aitp_cp_client.agents")

RENEW_RETRY_SECS = 30.0  # after a renewal that failed: often enough in the half of a lifetime that is left

AGENTS = "/api/registry/agents"
Format = Literal["json", "jsonl"]
MEDIA: dict[Format, str] = {"json": "application/json", "jsonl": "application/x-ndjson"}


class Agent(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """An agent in the registry; `manifest_json` is set only with `include_manifest`."""

    aid: str
    display_name: str
    handshake_endpoint: str
    offered_caps: list[str]
    status: str
    namespace: str
    registered_at: datetime
    last_enrolled_at: datetime | None
    last_seen_at: datetime | None
    manifest_url: str
    agent_manifest_hint: str | None
    manifest_expires_at: datetime | None = None
    manifest_json: str | None = None


class AgentFilter(TypedDict, total=False):
    """`status` defaults to `active`; `all` means every status.

    `q` is the beginning of a name, the beginning or the end of an AID, or a capability; `looks_like` a name.
    """

    capability: str | None
    aid: str | None
    display_name: str | None
    q: str | None
    looks_like: str | None
    expires_after: datetime | None
    expires_before: datetime | None
    namespace: str | None
    status: str | None
    include_manifest: bool


class KeptManifest(msgspec.Struct, frozen=True, rename="camel"):
    """A manifest that the agent registered: the `seq`-th one; `sha256` is of the canonical envelope."""

    seq: int
    sha256: str
    published_at: datetime | None
    received_at: datetime
    bytes: int


class Enrollment(msgspec.Struct, frozen=True, rename="camel"):
    """A token that registers one manifest once; `exp` in epoch seconds."""

    token: str
    expires_in: int
    aid: str
    jti: UUID
    exp: int

    def __repr__(self) -> str:  # the token is a credential
        return f"Enrollment({self.aid}, jti={self.jti})"


class Registration(msgspec.Struct, frozen=True, rename="camel"):
    aid: str
    display_name: str
    registered_at: datetime


class Deregistration(msgspec.Struct, frozen=True):
    aid: str
    status: str


class _Lifetime(msgspec.Struct):
    published_at: int
    expires_at: int


class _Envelope(msgspec.Struct):
    manifest: _Lifetime


class _Manifests(msgspec.Struct):
    manifests: list[KeptManifest]


class Agents:
    """Exporting, older manifests, moving, deregistering, containing and releasing need an API key."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def page(
        self, limit: int = 200, offset: int = 0, before: str | None = None, **filters: Unpack[AgentFilter]
    ) -> Rows[Agent]:
        """Return at most 1000 agents, oldest registration first."""
        params = {**filters, "limit": limit, "offset": offset, "before": before}
        return await self._transport.page(Agent, "agents", AGENTS, params, gated=False)

    def each(self, **filters: Unpack[AgentFilter]) -> AsyncIterator[Agent]:
        """Iterate over all agents, page by page."""
        return rows(partial(self.page, **filters))

    async def get(self, aid: str) -> Agent:
        return await self._transport.ask(Agent, f"{AGENTS}/{segment(aid)}", gated=False)

    async def manifest(self, aid: str) -> bytes:
        """Return the envelope, byte for byte as the agent signed it."""
        call = Call(path=f"{AGENTS}/{segment(aid)}/manifest", gated=False, media="application/json")
        return (await self._transport.send(call)).body

    async def manifests(self, aid: str) -> list[KeptManifest]:
        """Return which manifests the agent registered, newest first; the control plane keeps twenty."""
        return (await self._transport.ask(_Manifests, f"{AGENTS}/{segment(aid)}/manifests")).manifests

    async def kept_manifest(self, aid: str, sha256: str) -> bytes:
        """Return one of these, byte for byte as the agent signed it."""
        call = Call(path=f"{AGENTS}/{segment(aid)}/manifests/{segment(sha256)}", media="application/json")
        return (await self._transport.send(call)).body

    def export(self, aid: str, format: Format = "json", event_limit: int | None = None) -> AsyncGenerator[bytes, None]:
        """Export the agent with its sessions, tokens and newest events (at most 10,000)."""
        params = {"format": format, "eventLimit": event_limit}
        return self._transport.chunks(Call(path=f"{AGENTS}/{segment(aid)}/export", params=params, media=MEDIA[format]))

    async def move(self, aid: str, namespace: str) -> Agent:
        """Move the agent to another namespace; return its new record."""
        call = Call(method="PATCH", path=f"{AGENTS}/{segment(aid)}", body=encode({"namespace": namespace}))
        return (await self._transport.send(call)).read(Agent)

    async def deregister(self, aid: str) -> Deregistration:
        """Deregister the agent. May be repeated; an unknown agent is an error."""
        response = await self._transport.send(Call(method="DELETE", path=f"{AGENTS}/{segment(aid)}"))
        return response.read(Deregistration)

    async def contain(
        self, aid: str, reason: str, *, dry_run: bool = False, **options: Unpack[ContainOptions]
    ) -> Containment:
        """Revoke every live token that the agent issued or holds, and let it enrol no more until it is released.

        `dry_run` returns the plan and changes nothing. An agent that is contained already gives its open containment.
        Raises `PLAN_CHANGED` when the live tokens are not those of `expect`.
        """
        names = {"held_delegations": "heldDelegations"}
        body = {"reason": reason, **{names.get(name, name): value for name, value in options.items()}}
        params = {"dryRun": True} if dry_run else {}
        call = Call(method="POST", path=f"{AGENTS}/{segment(aid)}/contain", params=params, body=encode(body))
        return (await self._transport.send(call)).read(Containment)

    async def release(self, aid: str, reason: str) -> Containment:
        """End the agent's containment: it may enrol with a new manifest, and its tokens stay revoked.

        Raises `NOT_CONTAINED`; not retried, for a second call would say just that.
        """
        path = f"{AGENTS}/{segment(aid)}/release"
        call = Call(method="POST", path=path, body=encode({"reason": reason}), repeatable=False)
        return (await self._transport.send(call)).read(Containment)

    async def enroll(self, envelope: bytes) -> Enrollment:
        """Exchange a signed manifest for a registration token, which is valid for five minutes."""
        call = Call(method="POST", path="/api/registry/enroll", body=envelope, gated=False)
        return (await self._transport.send(call)).read(Enrollment)

    async def prove(self, agent: SdkAgent, pinned: str | None = None) -> AgentToken:
        """Return a token that proves the key of an `aitp.AitpAgent`.

        The agent signs for the AID `pinned`, else for that in the control plane's verified manifest.
        """
        audience = canonical((await published_manifest(self._transport)).aid if pinned is None else pinned)
        return await agent_token(self._transport, agent, audience)

    async def register(
        self, envelope: bytes, token: str, namespace: str | None = None, *, proof: str | None = None
    ) -> Registration:
        """Register the manifest with its token. Retried under one idempotency key if no response arrives.

        `proof` is an agent token: needed under `ENROLMENT=proof`, and to change the namespace of a known agent.
        """
        headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": str(uuid4())}
        if namespace is not None:
            headers["X-Aitp-Namespace"] = namespace
        if proof is not None:
            headers["X-Aitp-Agent-Token"] = proof
        call = Call(method="POST", path=AGENTS, headers=headers, body=envelope, gated=False)
        return (await self._transport.send(call)).read(Registration)

    async def enroll_and_register(
        self, envelope: bytes, namespace: str | None = None, *, agent: SdkAgent | None = None
    ) -> Registration:
        """Enrol and register one signed manifest; with `agent` it proves its key, too."""
        proof = None if agent is None else (await self.prove(agent)).token
        return await self.register(envelope, (await self.enroll(envelope)).token, namespace, proof=proof)

    @asynccontextmanager
    async def registered(
        self,
        build_manifest: Callable[[], str],
        namespace: str | None = None,
        renew_secs: float | None = None,
        *,
        agent: SdkAgent | None = None,
    ) -> AsyncIterator[Registration]:
        """Register on entry, and renew the registration with a new manifest until the exit.

        `build_manifest` returns a fresh envelope at each call. It is renewed after `renew_secs`, or after half of its
        lifetime. With `agent` each registration proves its key. Raises `ControlPlaneError` on entry only: a renewal
        that fails is logged and tried again.
        """
        register = partial(self.enroll_and_register, namespace=namespace, agent=agent)
        envelope = build_manifest().encode()
        registration = await register(envelope)
        renewing = asyncio.create_task(_renew(build_manifest, register, renew_secs or _half_life(envelope)))
        try:
            yield registration
        finally:
            renewing.cancel()
            with suppress(asyncio.CancelledError):
                await renewing


async def _renew(
    build_manifest: Callable[[], str], register: Callable[[bytes], Awaitable[Registration]], pause: float
) -> None:
    wait = pause
    while True:
        await asyncio.sleep(wait)
        try:
            await register(build_manifest().encode())
            wait = pause
        except Exception as error:  # also of `build_manifest`: the task must outlive it
            retry_after, code = (error.retry_after, error.code) if isinstance(error, ControlPlaneError) else (None, "?")
            wait = max(min(RENEW_RETRY_SECS, pause / 2), retry_after or 0.0)
            log.warning("registration_not_renewed code=%s error=%s", code, type(error).__name__)


def _half_life(envelope: bytes) -> float:
    """Return half of a manifest's lifetime in seconds."""
    manifest = msgspec.json.decode(envelope, type=_Envelope).manifest
    return (manifest.expires_at - manifest.published_at) / 2
