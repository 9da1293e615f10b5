"""An agent enrols with its own signed manifest: the manifest is the proof (contract, section 8)."""

from datetime import UTC, datetime
from uuid import uuid4

from aitp_cp.audit import service as audit
from aitp_cp.audit.model import Actor
from aitp_cp.clock import iso
from aitp_cp.db import Connection
from aitp_cp.db.locks import share_agent
from aitp_cp.errors import (
    AgentDeregistered,
    AgentTokenInvalid,
    ManifestStale,
    NamespaceConflict,
    NamespaceFixed,
    TokenInvalid,
    TokenReplayed,
)
from aitp_cp.events import service as log
from aitp_cp.protocol import enrollment_token
from aitp_cp.protocol.agent_token import AgentTokens
from aitp_cp.protocol.enrollment_token import LIFETIME_SECS, Claims
from aitp_cp.protocol.manifest import Manifest
from aitp_cp.protocol.namespace import DEFAULT_NAMESPACE, check_namespace
from aitp_cp.protocol.stored_manifest import published_at, signature
from aitp_cp.registry import contained, history, store
from aitp_cp.registry.announce import agent_event
from aitp_cp.registry.model import EnrollmentAnswer, NamespaceWish, Registered, Status, StoredManifest


def enroll(secret: bytes, manifest: Manifest, now: datetime) -> EnrollmentAnswer:
    """Return a token good for exactly this manifest, once, for five minutes."""
    minted = enrollment_token.mint(secret, manifest.aid, manifest.canonical_sha256, now, str(uuid4()))
    return EnrollmentAnswer(minted.token, LIFETIME_SECS, manifest.aid, minted.jti, minted.exp)


def check_token(secret: bytes, token: str | None, manifest: Manifest, now: datetime) -> Claims:
    """Return the token's claims; raises `TokenInvalid` unless it was minted here for this agent and manifest."""
    claims = enrollment_token.verify(secret, token or "", now)
    if claims.sub != manifest.aid:
        raise TokenInvalid("the enrollment token belongs to another agent")
    if claims.msh != manifest.canonical_sha256:
        raise TokenInvalid("the enrollment token belongs to another manifest")
    return claims


def check_proof(tokens: AgentTokens, token: str | None, manifest: Manifest, now: datetime) -> bool:
    """Return whether an agent token proves possession of the manifest's key; raises for one that does not.

    That is `AgentTokenInvalid`: who sends a proof is never registered as if there had been none.
    """
    if token is None:
        return False
    if tokens.read_token(token, now).sub != manifest.aid:
        raise AgentTokenInvalid("the agent token belongs to another agent")
    return True


def requested_namespace(header: str | None, manifest: Manifest) -> str | None:
    """Return the header's namespace or the manifest's, if any; raises `BodyInvalid` or `NamespaceConflict`."""
    for namespace in (header, manifest.namespace):
        if namespace is not None:
            check_namespace(namespace)
    if header is not None and manifest.namespace is not None and header != manifest.namespace:
        raise NamespaceConflict
    return header or manifest.namespace


async def register(
    conn: Connection, manifest: Manifest, claims: Claims, wish: NamespaceWish, actor: Actor, now: datetime
) -> Registered:
    """Agent row, token, event, deliveries and audit row in the caller's transaction: all of it or nothing.

    Raises `AgentContained`, `NamespaceFixed`, `ManifestStale`, `AgentDeregistered` or `TokenReplayed`; then the token
    is not burnt.
    """
    await share_agent(conn, manifest.aid)
    await contained.check_may_register(conn, manifest.aid, manifest.published_at)
    registered_at = now
    changed = True
    namespace = wish.name or DEFAULT_NAMESPACE
    if await store.insert_new(conn, manifest, namespace, now):
        await history.keep(conn, manifest, now)
    else:
        known = await store.lock(conn, manifest.aid)
        if known is None:  # swept by retention between the two statements: the client may try again
            raise ManifestStale("the agent's record was being removed; register again")
        namespace = settle(known, manifest, wish)
        registered_at = known.registered_at
        moved = namespace != known.namespace
        changed = known.status != Status.ACTIVE or moved or not _same_manifest(known, manifest)
        if changed:
            await history.keep_stored(conn, manifest.aid)
            await store.replace(conn, manifest, namespace, now)
            await history.keep(conn, manifest, now)
        else:
            await store.touch(conn, manifest.aid, now)
    if not await store.consume_token(conn, claims.jti, datetime.fromtimestamp(claims.exp, UTC), now):
        raise TokenReplayed
    summary = {"displayName": manifest.display_name, "namespace": namespace}
    await audit.record(conn, "agent.register", actor, manifest.aid, summary, now)
    if changed:
        payload = {
            **summary,
            "handshakeEndpoint": manifest.handshake_endpoint,
            "offeredCaps": manifest.offered_caps,
            "manifestExpiresAt": iso(manifest.expires_at),
        }
        await log.append(conn, [agent_event("agent.registered", manifest.aid, payload, now)], now)
    return Registered(manifest.aid, manifest.display_name, iso(registered_at))


def settle(known: StoredManifest, manifest: Manifest, wish: NamespaceWish) -> str:
    """Return the namespace of a known agent under this manifest (contract, sections 8 and 20).

    An agent that proves its key is where it wants to be, whatever was registered without proof. Else only the signed
    manifest moves an agent, for anybody can send a header with it, and only a newer one: manifests are dated in whole
    seconds, so of two from the same second neither is newer. Raises `NamespaceFixed`, `ManifestStale` or
    `AgentDeregistered`.
    """
    requested = wish.name
    if wish.proven and requested is not None:
        check_fresh(known, manifest)
        return requested
    moves = requested is not None and requested != known.namespace
    if moves and manifest.namespace is None:
        raise NamespaceFixed
    newer = check_fresh(known, manifest)
    if not moves or _same_manifest(known, manifest):
        return known.namespace
    if not newer:
        raise NamespaceFixed("only a manifest from a later second moves the agent to another namespace")
    assert requested is not None
    return requested


def check_fresh(known: StoredManifest, manifest: Manifest) -> bool:
    """Return whether `manifest` was published after the stored one.

    Raises `AgentDeregistered` or `ManifestStale` when it may not take the stored one's place.
    """
    stored = known.published_at or published_at(known.manifest_json)
    if known.status == Status.DEREGISTERED:
        # Whole seconds again: a manifest from the second of the deregistration may be older than that.
        gone = known.deregistered_at
        if gone is not None and manifest.published_at <= gone.replace(microsecond=0):
            raise AgentDeregistered
        if _same_manifest(known, manifest) or (stored is not None and manifest.published_at == stored):
            raise AgentDeregistered
    if stored is not None and manifest.published_at < stored:
        raise ManifestStale
    return stored is None or manifest.published_at > stored


def _same_manifest(known: StoredManifest, manifest: Manifest) -> bool:
    """Return whether both carry the same signature: the rest of an envelope can be spelled in more than one way."""
    return signature(known.manifest_json) == manifest.signature
