"""Creating, changing, rotating and revoking keys (contract, part II, section 18).

Needs a connection inside a transaction and nothing else, so the command line uses it too. The row, its audit row and
its event are written together or not at all. The event comes last, as the log demands (`events.service.append`).
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID, uuid4

import msgspec
from msgspec import UNSET

from aitp_cp.audit import service as audit
from aitp_cp.audit.model import Actor, Change
from aitp_cp.audit.service import Action
from aitp_cp.clock import iso_or_none
from aitp_cp.db import Connection
from aitp_cp.db.keyset import Window
from aitp_cp.errors import (
    ApiKeyExpired,
    ApiKeyRevoked,
    BodyInvalid,
    FilterInvalid,
    GrantExceeded,
    KeyNotActive,
    existing,
)
from aitp_cp.events import service as log
from aitp_cp.events.model import NewEvent
from aitp_cp.keys import store
from aitp_cp.keys.model import (
    MAX_REASON,
    ApiKey,
    CreatedKey,
    Grantor,
    KeyFilter,
    KeyList,
    KeyPatch,
    KeyView,
    NewKey,
    RevokedKey,
    view,
    with_secret,
)
from aitp_cp.protocol.bearer_token import SHOWN_CHARACTERS, digest_of, new_token
from aitp_cp.protocol.scopes import ROLES, Scope, in_order
from aitp_cp.protocol.vocabulary import KEY_CREATED, KEY_REVOKED, KEY_ROTATED
from aitp_cp_client.wire import moments


async def list_keys(conn: Connection, state: KeyFilter, window: Window, now: datetime) -> KeyList:
    """List keys, newest first; `count` is the number of keys on this page."""
    keys, page = await store.page(conn, state, window, now)
    return KeyList([view(key, now) for key in keys], len(keys), page.next_before)


async def get(conn: Connection, id: UUID, now: datetime) -> KeyView:
    """Return one key; raises `NotFound`."""
    return view(await _target(conn, id), now)


async def create(
    conn: Connection, new: NewKey, grantor: Grantor, now: datetime, *, adopt: str | None = None
) -> CreatedKey:
    """Create a key, and return it with its secret, which is kept nowhere.

    With `adopt` its family acts as that actor, such as `apikey:<16 hex>` of a key that it replaces. Raises
    `BodyInvalid` and `GrantExceeded`.
    """
    scopes, expires_at = scopes_of(new), _expiry(new.expires_at, now)
    _check_name(new.name)
    id = uuid4()
    key, secret = _with_new_secret(
        ApiKey(
            id=id,
            family=id,
            name=new.name,
            shown="",
            digest=b"",
            scopes=tuple(map(str, scopes)),
            created_by=grantor.actor.id,
            created_at=now,
            expires_at=expires_at,
            rate_per_min=new.rate_per_min,
            adopts=adopt,
        )
    )
    _check_grant(grantor, key)
    await _lock(conn, grantor, now)
    await store.insert(conn, key)
    await _record(conn, "key.create", grantor.actor, [key], now)
    await log.append(conn, [_event(KEY_CREATED, key, now)], now)
    return with_secret(key, secret, now)


async def update(conn: Connection, id: UUID, patch: KeyPatch, grantor: Grantor, now: datetime) -> KeyView:
    """Change the name or the rate. Raises `NotFound`, `BodyInvalid` and `GrantExceeded`."""
    before = await _locked(conn, id, grantor, now)
    changes = {name: value for name, value in msgspec.structs.asdict(patch).items() if value is not UNSET}
    key = msgspec.structs.replace(before, **changes)
    _check_name(key.name)
    _check_grant(grantor, key)
    await store.update(conn, key)
    await _record(conn, "key.update", grantor.actor, [key], now)
    return view(key, now)


async def rotate(conn: Connection, id: UUID, overlap_secs: int, grantor: Grantor, now: datetime) -> CreatedKey:
    """Replace a key by a new one of its family, with its scopes, limits and end; return the new one with its secret.

    The old one ends after the overlap, never later than it would have. Raises `NotFound`, `KeyNotActive` and
    `GrantExceeded`.
    """
    old = await _locked(conn, id, grantor, now)
    if old.state(now) != "active":
        raise KeyNotActive
    _check_grant(grantor, old)
    fresh = msgspec.structs.replace(
        old, id=uuid4(), created_by=grantor.actor.id, created_at=now, replaced_by=None, last_used_at=None
    )
    key, secret = _with_new_secret(msgspec.structs.replace(fresh, last_used_ip=None))
    overlap_ends = now + timedelta(seconds=overlap_secs)
    ends = overlap_ends if old.expires_at is None else min(old.expires_at, overlap_ends)
    await store.insert(conn, key)
    await store.update(conn, msgspec.structs.replace(old, replaced_by=key.id, expires_at=ends))
    details = {**_details(key), "replaces": str(old.id), "overlapSecs": overlap_secs}
    await audit.record(conn, "key.rotate", grantor.actor, str(key.id), details, now)
    await log.append(conn, [_event(KEY_ROTATED, old, now, replacedBy=str(key.id))], now)
    return with_secret(key, secret, now)


async def revoke(
    conn: Connection, id: UUID, reason: str | None, actor: Actor, now: datetime, *, family: bool = False
) -> RevokedKey:
    """Revoke a key, or with `family` all of its family, rotations that run at the same time included.

    What was revoked before stays as it was. Raises `FilterInvalid` and `NotFound`.
    """
    if reason is not None and (len(reason) > MAX_REASON or not reason.isprintable()):
        raise FilterInvalid(f"reason is text of at most {MAX_REASON} characters, without control characters")
    target = await _target(conn, id)
    await store.lock(conn, [target.family, target.id])  # a rotation holds the family's first row, too
    revoked = await store.revoke(conn, target, reason, now, family=family)
    await _record(conn, "key.revoke", actor, revoked, now, reason=reason)
    await log.append(conn, [_event(KEY_REVOKED, key, now) for key in revoked], now)
    return RevokedKey(id, True, [key.id for key in revoked])


async def _target(conn: Connection, id: UUID) -> ApiKey:
    return existing(next(iter(await store.find(conn, [id])), None), "no such key")


async def _locked(conn: Connection, id: UUID, grantor: Grantor, now: datetime) -> ApiKey:
    """Lock the key, the first of its family and the caller's own; return the key as it is from then on."""
    target = await _target(conn, id)
    return (await _lock(conn, grantor, now, target.id, target.family))[id]


async def _lock(conn: Connection, grantor: Grantor, now: datetime, *ids: UUID) -> dict[UUID, ApiKey]:
    """Lock keys; raises `ApiKeyRevoked` or `ApiKeyExpired` when the caller's own is no longer live.

    So a key that leaked makes no successor after its revocation, whatever was under way.
    """
    own = () if grantor.key_id is None else (grantor.key_id,)
    if not (*own, *ids):
        return {}
    locked = await store.lock(conn, [*own, *ids])
    for key_id in own:
        state = "revoked" if key_id not in locked else locked[key_id].state(now)
        if state != "active":
            raise (ApiKeyRevoked if state == "revoked" else ApiKeyExpired)()
    return dict(locked)


def _check_grant(grantor: Grantor, key: ApiKey) -> None:
    """Raise `GrantExceeded` when the key may do more, lives longer or is faster than its grantor."""
    beyond = [scope for scope in key.scopes if scope not in grantor.scopes]
    if beyond:
        raise GrantExceeded(f"the caller lacks the scope {beyond[0]}", extra={"field": "scopes"})
    if grantor.expires_at is not None and (key.expires_at is None or key.expires_at > grantor.expires_at):
        raise GrantExceeded(
            f"the caller itself expires at {iso_or_none(grantor.expires_at)}", extra={"field": "expiresAt"}
        )
    rate = grantor.default_rate if key.rate_per_min is None else key.rate_per_min
    if grantor.rate_per_min is not None and (rate is None or rate > grantor.rate_per_min):
        raise GrantExceeded(
            f"the caller itself has {grantor.rate_per_min} requests a minute", extra={"field": "ratePerMin"}
        )


def scopes_of(new: NewKey) -> list[Scope]:
    """Return what the key may do; raises `BodyInvalid` unless one of role and scopes says so."""
    if (new.role is None) == (new.scopes is None):
        raise BodyInvalid("exactly one of role and scopes is needed")
    return in_order(new.scopes or () if new.role is None else ROLES[new.role])


def _expiry(value: str | int | float | None, now: datetime) -> datetime | None:
    if value is None:
        return None
    expires_at = moments.from_text(value) if isinstance(value, str) else moments.read(value)
    if expires_at is None:
        raise BodyInvalid("expiresAt is not a time up to the year 9999")
    if expires_at <= now:
        raise BodyInvalid("expiresAt is in the past")
    return expires_at


def _check_name(name: str) -> None:
    if not name.isprintable() or not name.strip():
        raise BodyInvalid("name must be text without control characters")


def _with_new_secret(key: ApiKey) -> tuple[ApiKey, str]:
    secret = new_token()
    return msgspec.structs.replace(key, shown=secret[:SHOWN_CHARACTERS], digest=digest_of(secret)), secret


async def _record(
    conn: Connection, action: Action, actor: Actor, keys: Sequence[ApiKey], now: datetime, **more: object
) -> None:
    changes = [Change(actor, str(key.id), {**_details(key), **more}) for key in keys]
    if changes:
        await audit.record_all(conn, action, changes, now)


def _details(key: ApiKey) -> dict[str, object]:
    return {
        "name": key.name,
        "family": str(key.family),
        "shown": key.shown,
        "scopes": key.scopes,
        "expiresAt": iso_or_none(key.expires_at),
        "ratePerMin": key.rate_per_min,
        **({} if key.adopts is None else {"adopts": key.adopts}),
    }


def _event(kind: str, key: ApiKey, now: datetime, **ids: str) -> NewEvent:
    payload = {"id": str(key.id), "family": str(key.family), **ids}
    return NewEvent(id=uuid4(), type=kind, ts=now, payload=msgspec.json.encode(payload).decode())
