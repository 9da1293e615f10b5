"""The trust store: identity providers and pinned keys."""

from collections.abc import AsyncIterator
from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID

import msgspec
from msgspec import UNSET, UnsetType

from aitp_cp_client.paging import Rows, rows
from aitp_cp_client.transport import Call, Transport, segment
from aitp_cp_client.wire.times import iso_or_none

ANCHORS = "/api/trust-anchors"
PINNED_KEYS = "/api/pinned-keys"


class TrustAnchor(msgspec.Struct, frozen=True, rename="camel"):
    id: UUID
    namespace: str
    issuer_url: str
    jwks_url: str | None
    label: str | None
    jwks_cached_at: datetime | None
    added_by: str | None
    created_at: datetime
    updated_at: datetime
    last_error: str | None = None
    last_error_at: datetime | None = None


class AnchorPatch(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """Only the set members change; None removes the key set's URL or the label."""

    issuer_url: str | UnsetType = UNSET
    namespace: str | UnsetType = UNSET
    jwks_url: str | UnsetType | None = UNSET
    label: str | UnsetType | None = UNSET


class PinnedKey(msgspec.Struct, frozen=True, rename="camel"):
    namespace: str
    aid: str
    pubkey: str
    label: str | None
    expires_at: datetime | None
    added_by: str | None
    created_at: datetime
    updated_at: datetime


class TrustAnchors:
    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def page(
        self, limit: int = 1000, offset: int = 0, before: str | None = None, namespace: str | None = None
    ) -> Rows[TrustAnchor]:
        """Return at most 10,000 anchors, oldest first."""
        params = {"namespace": namespace, "limit": limit, "offset": offset, "before": before}
        return await self._transport.page(TrustAnchor, "trustAnchors", ANCHORS, params)

    def each(self, namespace: str | None = None) -> AsyncIterator[TrustAnchor]:
        """Iterate over all rows, page by page."""
        return rows(partial(self.page, namespace=namespace))

    async def get(self, id: UUID | str) -> TrustAnchor:
        return await self._transport.ask(TrustAnchor, _path(id))

    async def create(
        self, issuer_url: str, namespace: str | None = None, jwks_url: str | None = None, label: str | None = None
    ) -> TrustAnchor:
        """Create an anchor. A second one for the same namespace and issuer is an error; its `extra` names the first."""
        fields = {"issuerUrl": issuer_url, "namespace": namespace, "jwksUrl": jwks_url, "label": label}
        return await self._transport.create(TrustAnchor, ANCHORS, fields)

    async def update(self, id: UUID | str, patch: AnchorPatch) -> TrustAnchor:
        call = Call(method="PATCH", path=_path(id), body=msgspec.json.encode(patch), repeatable=False)
        return (await self._transport.send(call)).read(TrustAnchor)

    async def delete(self, id: UUID | str) -> None:
        """Delete an anchor. 404 after a retry may mean that the first attempt succeeded."""
        await self._transport.send(Call(method="DELETE", path=_path(id)))

    async def jwks(self, id: UUID | str) -> dict[str, Any]:
        """Return the key set last fetched from the identity provider."""
        return await self._transport.ask(dict[str, Any], f"{_path(id)}/jwks")


class PinnedKeys:
    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def page(
        self, limit: int = 1000, offset: int = 0, before: str | None = None, namespace: str | None = None
    ) -> Rows[PinnedKey]:
        """Return at most 10,000 keys."""
        params = {"namespace": namespace, "limit": limit, "offset": offset, "before": before}
        return await self._transport.page(PinnedKey, "pinnedKeys", PINNED_KEYS, params)

    def each(self, namespace: str | None = None) -> AsyncIterator[PinnedKey]:
        """Iterate over all rows, page by page."""
        return rows(partial(self.page, namespace=namespace))

    async def get(self, aid: str, namespace: str | None = None) -> PinnedKey:
        return await self._transport.ask(PinnedKey, PINNED_KEYS, {"aid": aid, "namespace": namespace})

    async def pin(
        self,
        aid: str,
        pubkey: str,
        namespace: str | None = None,
        label: str | None = None,
        expires_at: datetime | None = None,
    ) -> PinnedKey:
        """Pin an agent's key, or replace label and expiry of a pinned key."""
        fields = {
            "aid": aid,
            "pubkey": pubkey,
            "namespace": namespace,
            "label": label,
            "expiresAt": iso_or_none(expires_at),
        }
        return await self._transport.create(PinnedKey, PINNED_KEYS, fields)

    async def unpin(self, aid: str, namespace: str | None = None) -> None:
        """Delete a pinned key. 404 after a retry may mean that the first attempt succeeded."""
        params = {"aid": aid, "namespace": namespace}
        await self._transport.send(Call(method="DELETE", path=PINNED_KEYS, params=params))


def _path(id: UUID | str) -> str:
    return f"{ANCHORS}/{segment(id)}"
