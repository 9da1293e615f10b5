"""API keys: create, change, rotate, revoke; and who a credential belongs to."""

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import msgspec
from msgspec import UNSET, UnsetType

from aitp_cp_client.errors import KEY_LOST, ControlPlaneError
from aitp_cp_client.paging import Rows, rows
from aitp_cp_client.transport import Call, Transport, encode, segment
from aitp_cp_client.wire.times import iso_or_none

KEYS = "/api/keys"


class ApiKey(msgspec.Struct, frozen=True, rename="camel"):
    """A key without its secret. `family` and `actor` stay the same across rotations; `shown` begins the secret."""

    id: UUID
    family: UUID
    name: str
    shown: str
    state: str
    actor: str
    scopes: list[str]
    created_by: str | None
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    revoked_reason: str | None
    replaced_by: UUID | None
    last_used_at: datetime | None
    last_used_ip: str | None
    rate_per_min: int | None


class CreatedKey(ApiKey, frozen=True, rename="camel"):
    """With the secret `key`, which is shown this once."""

    key: str = ""

    def __repr__(self) -> str:  # the secret must not get into a log
        return f"CreatedKey({self.id}, {self.name!r})"


class RevokedKeys(msgspec.Struct, frozen=True, rename="camel"):
    """`keys` are those that this call revoked: none when they were revoked before."""

    id: UUID
    revoked: bool
    keys: list[UUID] = []


class WhoAmI(msgspec.Struct, frozen=True, rename="camel"):
    """`kind` is environment, key, agent, session, or anonymous at a development server without keys."""

    actor: str
    actor_name: str | None
    kind: str
    scopes: list[str]
    expires_at: datetime | None


class Keys:
    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def page(
        self, state: str = "active", limit: int = 100, offset: int = 0, before: str | None = None
    ) -> Rows[ApiKey]:
        """At most 1000 keys that are active, expired, revoked or all, newest first."""
        params = {"state": state, "limit": limit, "offset": offset, "before": before}
        return await self._transport.page(ApiKey, "keys", KEYS, params)

    def each(self, state: str = "active") -> AsyncIterator[ApiKey]:
        """Yield all of them, fetched page by page."""
        return rows(partial(self.page, state))

    async def get(self, id: UUID | str) -> ApiKey:
        return await self._transport.ask(ApiKey, _path(id))

    async def create(
        self,
        name: str,
        *,
        role: str | None = None,
        scopes: Sequence[str] | None = None,
        expires_at: datetime | None = None,
        rate_per_min: int | None = None,
    ) -> CreatedKey:
        """Create a key with a role or with scopes.

        Raises `KEY_LOST`, with the id in `extra`, if the key exists but the response that showed it was lost.
        """
        fields = {"role": role, "scopes": scopes, "expiresAt": iso_or_none(expires_at), "ratePerMin": rate_per_min}
        return await self._create(KEYS, {"name": name, **fields})

    async def update(
        self, id: UUID | str, *, name: str | UnsetType = UNSET, rate_per_min: int | UnsetType | None = UNSET
    ) -> ApiKey:
        """Change what is given; a `rate_per_min` of None means the limit that every key has."""
        changes = {"name": name, "ratePerMin": rate_per_min}
        body = msgspec.json.encode({member: value for member, value in changes.items() if value is not UNSET})
        call = Call(method="PATCH", path=_path(id), body=body, repeatable=False)
        return (await self._transport.send(call)).read(ApiKey)

    async def rotate(self, id: UUID | str, overlap: timedelta | None = None) -> CreatedKey:
        """Create the key that replaces this one, which ends after the overlap: a day, unless told otherwise.

        Raises `KEY_LOST` as `create` does; rotate the key that it names, without an overlap.
        """
        secs = None if overlap is None else round(overlap.total_seconds())
        return await self._create(f"{_path(id)}/rotate", {"overlapSecs": secs})

    async def revoke(self, id: UUID | str, reason: str | None = None, *, family: bool = False) -> RevokedKeys:
        """Revoke a key, or with `family` every key that rotations have made of it; there is no way back."""
        params = {"reason": reason, "family": True if family else None}
        call = Call(method="DELETE", path=_path(id), params=params)
        return (await self._transport.send(call)).read(RevokedKeys)

    async def _create(self, path: str, fields: Mapping[str, Any]) -> CreatedKey:
        headers = {"Idempotency-Key": str(uuid4())}  # a lost response is asked for again, and makes no second key
        call = Call(method="POST", path=path, headers=headers, body=encode(fields))
        created = (await self._transport.send(call)).read(CreatedKey)
        if not created.key:
            message = f"the key {created.id} was created, but the response that showed it was lost: revoke or rotate it"
            raise ControlPlaneError(KEY_LOST, message, status=201, extra={"id": str(created.id)})
        return created


def _path(id: UUID | str) -> str:
    return f"{KEYS}/{segment(id)}"
