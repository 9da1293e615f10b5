"""Pinned keys (contract, section 13)."""

from datetime import datetime

from aitp_cp.audit import service as audit
from aitp_cp.audit.model import Actor
from aitp_cp.clock import iso_or_none
from aitp_cp.db import Connection
from aitp_cp.errors import BodyInvalid, NotFound, existing
from aitp_cp.protocol.namespace import DEFAULT_NAMESPACE, check_namespace
from aitp_cp.truststore import store
from aitp_cp.truststore.model import NewPinnedKey, PinnedKey, PinnedKeyView
from aitp_cp_client.wire import aid as aids
from aitp_cp_client.wire import moments


async def get(conn: Connection, namespace: str | None, aid: str) -> PinnedKeyView:
    """Return one key; raises `NotFound`."""
    key = await store.find_pinned(conn, namespace or DEFAULT_NAMESPACE, aids.spelled(aid), aid)
    return existing(key, "no such pinned key")


def read_key(body: NewPinnedKey) -> PinnedKey:
    """Return the key to pin; raises `BodyInvalid`, also for a key that is not the AID's own."""
    aid = aids.recognise(body.aid)
    if aid is None:
        raise BodyInvalid("aid is not an AID")
    if body.pubkey != aids.public_key(aid):
        raise BodyInvalid("pubkey is not the key of this AID")
    expires_at = None if body.expires_at is None else moments.read(body.expires_at)
    if expires_at is None and body.expires_at is not None:
        raise BodyInvalid("expiresAt is not a time in the years 1970 to 9999")
    namespace = check_namespace(DEFAULT_NAMESPACE if body.namespace is None else body.namespace)
    return PinnedKey(namespace, aid, body.pubkey, body.label, expires_at)


async def upsert(conn: Connection, key: PinnedKey, actor: Actor, now: datetime) -> PinnedKeyView:
    """Pin a key, or replace the label and expiry of a pinned one."""
    stored = await store.upsert_pinned(conn, key, actor.id, now)
    details = {"namespace": key.namespace, "label": key.label, "expiresAt": iso_or_none(key.expires_at)}
    await audit.record(conn, "pinned-key.upsert", actor, key.aid, details, now)
    return stored


async def delete(conn: Connection, namespace: str | None, aid: str, actor: Actor, now: datetime) -> None:
    """Unpin a key; raises `NotFound`."""
    namespace, canonical = namespace or DEFAULT_NAMESPACE, aids.spelled(aid)
    if not await store.delete_pinned(conn, namespace, canonical, aid):
        raise NotFound("no such pinned key")
    await audit.record(conn, "pinned-key.delete", actor, canonical, {"namespace": namespace}, now)
