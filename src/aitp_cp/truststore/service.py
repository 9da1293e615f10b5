"""Trust anchors (contract, section 13)."""

from datetime import datetime
from uuid import UUID, uuid4

import msgspec
from msgspec import UNSET

from aitp_cp.audit import service as audit
from aitp_cp.audit.model import Actor
from aitp_cp.clock import iso
from aitp_cp.db import Connection, UniqueViolation
from aitp_cp.errors import AlreadyExists, BodyInvalid, Conflict, JwksNotCached, existing
from aitp_cp.protocol.namespace import DEFAULT_NAMESPACE, check_namespace
from aitp_cp.truststore import store, urls
from aitp_cp.truststore.model import AnchorPatch, AnchorView, CachedKeys, NewAnchor

NONE = "no such trust anchor"


async def get(conn: Connection, id: UUID) -> AnchorView:
    """Return one anchor; raises `NotFound`."""
    return existing(await store.find(conn, id), NONE)


async def create(conn: Connection, new: NewAnchor, actor: Actor, now: datetime) -> AnchorView:
    """Raise `BodyInvalid`, or `AlreadyExists` naming the anchor that has this namespace and issuer."""
    anchor = AnchorView(
        id=uuid4(),
        namespace=DEFAULT_NAMESPACE if new.namespace is None else new.namespace,
        issuer_url=new.issuer_url,
        jwks_url=new.jwks_url,
        label=new.label,
        jwks_cached_at=None,
        last_error=None,
        last_error_at=None,
        added_by=actor.id,
        created_at=iso(now),
        updated_at=iso(now),
    )
    _check(anchor)
    if not await store.insert_new(conn, anchor, now):
        raise await _already_exists(conn, anchor)
    await audit.record(conn, "trust-anchor.create", actor, str(anchor.id), _details(anchor), now)
    return anchor


async def update(conn: Connection, id: UUID, patch: AnchorPatch, actor: Actor, now: datetime) -> AnchorView:
    """Change an anchor; keys fetched from another source are dropped. Raises like `create`, and `NotFound`."""
    before = existing(await store.lock(conn, id), NONE)
    changes = {name: value for name, value in msgspec.structs.asdict(patch).items() if value is not UNSET}
    anchor = msgspec.structs.replace(before, **changes, updated_at=iso(now))
    _check(anchor, before)
    try:
        async with conn.transaction():
            await store.replace(conn, anchor, now)
    except UniqueViolation:
        raise await _already_exists(conn, anchor) from None
    if anchor.source != before.source:
        await store.forget_keys(conn, id)
        anchor = msgspec.structs.replace(anchor, jwks_cached_at=None, last_error=None, last_error_at=None)
    await audit.record(conn, "trust-anchor.update", actor, str(id), _details(anchor), now)
    return anchor


async def delete(conn: Connection, id: UUID, actor: Actor, now: datetime) -> None:
    """Delete an anchor with its key set; raises `NotFound`."""
    anchor = existing(await store.delete(conn, id), NONE)
    await audit.record(conn, "trust-anchor.delete", actor, str(id), _details(anchor), now)


async def keys(conn: Connection, id: UUID) -> CachedKeys:
    """Return the key set fetched last; raises `NotFound` or `JwksNotCached`."""
    keys = await store.find_keys(conn, id)
    if keys is None:
        existing(await store.find(conn, id), NONE)
        raise JwksNotCached(headers={"Retry-After": "5"})
    return keys


def _check(anchor: AnchorView, before: AnchorView | None = None) -> None:
    """Check what differs from `before`: an older control plane checked less, and its anchors can be changed, too."""
    if before is None or anchor.namespace != before.namespace:
        check_namespace(anchor.namespace)
    known = () if before is None else (before.issuer_url, before.jwks_url)
    for name, url in (("issuerUrl", anchor.issuer_url), ("jwksUrl", anchor.jwks_url)):
        complaint = None if url is None or url in known else urls.complaint(url)
        if complaint is not None:
            raise BodyInvalid(f"{name} {complaint}")


async def _already_exists(conn: Connection, anchor: AnchorView) -> AlreadyExists | Conflict:
    existing = await store.find_id(conn, anchor.namespace, anchor.issuer_url)
    if existing is None:  # deleted between the two statements: the client may try again
        return Conflict(headers={"Retry-After": "1"})
    return AlreadyExists("the namespace has a trust anchor for this issuer", extra={"existing": {"id": existing}})


def _details(anchor: AnchorView) -> dict[str, object]:
    return {
        "namespace": anchor.namespace,
        "issuerUrl": urls.without_credentials(anchor.issuer_url),
        "jwksUrl": anchor.jwks_url and urls.without_credentials(anchor.jwks_url),
        "label": anchor.label,
    }
