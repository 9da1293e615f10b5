"""Trust anchors (contract, section 13)."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import msgspec
from msgspec import UNSET

from aitp_cp.audit import service as audit
from aitp_cp.audit.model import Actor
from aitp_cp.db import Connection, UniqueViolation
from aitp_cp.db.keyset import Window
from aitp_cp.errors import AlreadyExists, BodyInvalid, Conflict, JwksNotCached, NotFound
from aitp_cp.protocol.namespace import DEFAULT_NAMESPACE, check_namespace
from aitp_cp.truststore import store, urls
from aitp_cp.truststore.model import (
    Anchor,
    AnchorFields,
    AnchorList,
    AnchorPatch,
    AnchorView,
    CachedKeys,
    NewAnchor,
    shown,
)


async def list_anchors(conn: Connection, namespace: str | None, window: Window) -> AnchorList:
    """Oldest first; without a namespace those of all."""
    return await store.list_anchors(conn, namespace, window)


async def get(conn: Connection, id: UUID) -> AnchorView:
    """Raises `NotFound`."""
    return shown(_known(await store.find(conn, id)))


async def create(conn: Connection, asked: NewAnchor, actor: Actor, now: datetime) -> AnchorView:
    """Raises `BodyInvalid`, or `AlreadyExists` naming the anchor that has this namespace and issuer."""
    namespace = DEFAULT_NAMESPACE if asked.namespace is None else asked.namespace
    fields = _checked(AnchorFields(namespace, asked.issuer_url, asked.jwks_url, asked.label))
    anchor = await store.insert_new(conn, uuid4(), fields, actor.id, now)
    if anchor is None:
        raise await _already_exists(conn, fields)
    await audit.record(conn, "trust-anchor.create", actor, str(anchor.id), _details(fields), now)
    return shown(anchor)


async def update(conn: Connection, id: UUID, patch: AnchorPatch, actor: Actor, now: datetime) -> AnchorView:
    """Change what `patch` gives; keys fetched from another source are dropped. Raises like `create`, and `NotFound`."""
    anchor = _known(await store.lock(conn, id))
    given = {name: value for name, value in msgspec.structs.asdict(patch).items() if value is not UNSET}
    fields = _checked(msgspec.structs.replace(anchor.fields, **given))
    try:
        async with conn.transaction():
            changed = await store.replace(conn, id, fields, now)
    except UniqueViolation:
        raise await _already_exists(conn, fields) from None
    if fields.source != anchor.fields.source:
        await store.forget_keys(conn, id)
        changed = msgspec.structs.replace(changed, jwks_cached_at=None, last_error=None, last_error_at=None)
    await audit.record(conn, "trust-anchor.update", actor, str(id), _details(fields), now)
    return shown(changed)


async def delete(conn: Connection, id: UUID, actor: Actor, now: datetime) -> None:
    """Raises `NotFound`."""
    anchor = _known(await store.delete(conn, id))
    await audit.record(conn, "trust-anchor.delete", actor, str(id), _details(anchor.fields), now)


async def keys(conn: Connection, id: UUID) -> CachedKeys:
    """The key set last fetched; raises `NotFound` or `JwksNotCached`."""
    found = await store.find_keys(conn, id)
    if found is not None:
        return found
    _known(await store.find(conn, id))
    raise JwksNotCached(headers={"Retry-After": "5"})


def _known(anchor: Anchor | None) -> Anchor:
    if anchor is None:
        raise NotFound("no such trust anchor")
    return anchor


def _checked(fields: AnchorFields) -> AnchorFields:
    check_namespace(fields.namespace)
    for name, url in (("issuerUrl", fields.issuer_url), ("jwksUrl", fields.jwks_url)):
        wrong = None if url is None else urls.complaint(url)
        if wrong is not None:
            raise BodyInvalid(f"{name} {wrong}")
    return fields


async def _already_exists(conn: Connection, fields: AnchorFields) -> AlreadyExists | Conflict:
    existing = await store.find_id(conn, fields)
    if existing is None:  # deleted between the two statements: the client may try again
        return Conflict(headers={"Retry-After": "1"})
    return AlreadyExists("the namespace has a trust anchor for this issuer", extra={"existing": {"id": existing}})


def _details(fields: AnchorFields) -> Mapping[str, Any]:
    details: Mapping[str, Any] = msgspec.to_builtins(fields)
    return details
