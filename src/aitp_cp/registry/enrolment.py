"""An agent enrols with its own signed manifest: the manifest is the proof (contract, section 8)."""

from datetime import UTC, datetime
from uuid import uuid4

from aitp_cp.audit import service as audit
from aitp_cp.audit.model import Actor
from aitp_cp.clock import iso
from aitp_cp.db import Connection
from aitp_cp.errors import AgentDeregistered, ManifestStale, NamespaceConflict, TokenInvalid, TokenReplayed
from aitp_cp.events import service as log
from aitp_cp.protocol import enrollment_token
from aitp_cp.protocol.enrollment_token import LIFETIME_SECS, Claims
from aitp_cp.protocol.manifest import Manifest
from aitp_cp.protocol.namespace import DEFAULT_NAMESPACE, check_namespace
from aitp_cp.protocol.stored_manifest import fingerprint, published_at
from aitp_cp.registry import store
from aitp_cp.registry.announce import agent_event
from aitp_cp.registry.model import EnrollmentAnswer, Registered, Status, StoredManifest


def enroll(secret: bytes, manifest: Manifest, now: datetime) -> EnrollmentAnswer:
    """A token good for exactly this manifest, once, for five minutes."""
    minted = enrollment_token.mint(secret, manifest.aid, manifest.canonical_sha256, now, str(uuid4()))
    return EnrollmentAnswer(minted.token, LIFETIME_SECS, manifest.aid, minted.jti, minted.exp)


def check_token(secret: bytes, token: str | None, manifest: Manifest, now: datetime) -> Claims:
    """The token's claims; raises `TokenInvalid` unless it was minted here for this agent and manifest."""
    claims = enrollment_token.verify(secret, token or "", now)
    if claims.sub != manifest.aid:
        raise TokenInvalid("the enrollment token belongs to another agent")
    if claims.msh != manifest.canonical_sha256:
        raise TokenInvalid("the enrollment token belongs to another manifest")
    return claims


def choose_namespace(header: str | None, manifest: Manifest) -> str:
    """The header's namespace or the manifest's; raises `BodyInvalid` or `NamespaceConflict`."""
    for given in (header, manifest.namespace):
        if given is not None:
            check_namespace(given)
    if header is not None and manifest.namespace is not None and header != manifest.namespace:
        raise NamespaceConflict
    return header or manifest.namespace or DEFAULT_NAMESPACE


async def register(
    conn: Connection, manifest: Manifest, claims: Claims, namespace: str, actor: Actor, now: datetime
) -> Registered:
    """Agent row, token, event, deliveries and audit row in the caller's transaction: all of it or nothing.

    Raises `ManifestStale`, `AgentDeregistered` or `TokenReplayed`; then the token is not burnt.
    """
    registered_at = now
    changed = True
    if not await store.insert_new(conn, manifest, namespace, now):
        known = await store.lock(conn, manifest.aid)
        if known is None:  # swept by retention between the two statements: the client may try again
            raise ManifestStale("the agent's record was being removed; register again")
        check_fresh(known, manifest)
        registered_at = known.registered_at
        changed = known.status != Status.ACTIVE or not _same_manifest(known, manifest)
        if changed:
            await store.replace(conn, manifest, namespace, now)
        else:
            await store.touch(conn, manifest.aid, now)
    if not await store.consume_token(conn, claims.jti, datetime.fromtimestamp(claims.exp, UTC), now):
        raise TokenReplayed
    summary = {"displayName": manifest.display_name, "namespace": namespace}
    await audit.record(conn, "agent.register", actor, manifest.aid, summary, now)
    if changed:
        await log.append(
            conn, [agent_event("agent.registered", manifest.aid, _registered(manifest, summary), now)], now
        )
    return Registered(manifest.aid, manifest.display_name, iso(registered_at))


def check_fresh(known: StoredManifest, manifest: Manifest) -> None:
    """Raises `AgentDeregistered` or `ManifestStale` when `manifest` may not take the stored one's place."""
    if known.status == Status.DEREGISTERED:
        # Manifests are dated in whole seconds: within the second of the deregistration only another one is newer.
        since = known.deregistered_at
        too_old = since is not None and manifest.published_at < since.replace(microsecond=0)
        if too_old or _same_manifest(known, manifest):
            raise AgentDeregistered
    stored = known.published_at or published_at(known.manifest_json)
    if stored is not None and manifest.published_at < stored:
        raise ManifestStale


def _same_manifest(known: StoredManifest, manifest: Manifest) -> bool:
    return (known.sha256 or fingerprint(known.manifest_json)) == manifest.canonical_sha256


def _registered(manifest: Manifest, summary: dict[str, str]) -> dict[str, object]:
    return {
        **summary,
        "handshakeEndpoint": manifest.handshake_endpoint,
        "offeredCaps": manifest.offered_caps,
        "manifestExpiresAt": iso(manifest.expires_at),
    }
