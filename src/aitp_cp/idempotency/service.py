"""Lock, effect and stored answer in one transaction, so a crash leaves nothing half-done (contract, section 5)."""

import hashlib
import re
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

import msgspec

from aitp_cp.db import Connection, Database
from aitp_cp.db.locks import lock_key, try_lock
from aitp_cp.errors import RETRIABLE, AppError, IdempotencyInFlight, IdempotencyKeyInvalid, IdempotencyKeyReused
from aitp_cp.idempotency import store
from aitp_cp.idempotency.model import Answer, Once, StoredAnswer

Effect = Callable[[Connection], Awaitable[Answer]]
Encode = Callable[[Any], bytes]

MAX_KEY_CHARACTERS = 255
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
STORED_REFUSALS = frozenset({400, 409, 422})


def check_key(key: str | None) -> str | None:
    """The key as given; raises `IdempotencyKeyInvalid` when it is empty, too long or holds control characters."""
    if key is None:
        return None
    if not 1 <= len(key) <= MAX_KEY_CHARACTERS or _CONTROL.search(key):
        raise IdempotencyKeyInvalid
    return key


async def run_once(db: Database, once: Once, effect: Effect, encode: Encode, now: datetime) -> Answer:
    """Run `effect` unless this caller's key was answered before; then give that answer again.

    Raises `IdempotencyInFlight` while the first request runs, `IdempotencyKeyReused` for another body, and
    whatever the effect raises. Of refusals, 400, 409 and 422 are stored like answers, unless they may pass.
    """
    async with db.transaction() as conn:
        if once.key is None:
            return await effect(conn)
        return await _locked(conn, once, once.key, effect, (encode, now))


async def _locked(conn: Connection, once: Once, key: str, effect: Effect, tools: tuple[Encode, datetime]) -> Answer:
    encode, now = tools
    scope = scope_of(once)
    if not await try_lock(conn, lock_key(f"{scope}\n{key}")):
        raise IdempotencyInFlight(headers={"Retry-After": "1"})
    stored = await store.find(conn, scope, key)
    if stored is not None:
        return replay(stored, once)
    answer = await _attempt(conn, effect)
    kept = answer.body if answer.stored is None else answer.stored
    fresh = StoredAnswer(answer.status, msgspec.Raw(encode(kept)), once.body_sha256)
    stored_body = await store.insert(conn, scope, key, fresh, now)
    # Answered from the row, so that every replay is the same to the byte.
    return answer if answer.stored is not None else msgspec.structs.replace(answer, body=stored_body)


async def _attempt(conn: Connection, effect: Effect) -> Answer:
    try:
        async with conn.transaction():  # a savepoint: a refusal undoes its writes and is still stored
            return await effect(conn)
    except AppError as refused:
        if refused.status not in STORED_REFUSALS or isinstance(refused, RETRIABLE):
            raise
        body = {"error": refused.message, "code": refused.code, **refused.extra}
        return Answer(refused.status, body, refusal=refused)


def replay(stored: StoredAnswer, once: Once) -> Answer:
    """Return the stored answer again; raises `IdempotencyKeyReused` when it is of another body."""
    if stored.request_sha256 is not None and stored.request_sha256 != once.body_sha256:
        raise IdempotencyKeyReused
    return Answer(stored.status, stored.body, replayed=True)


def scope_of(once: Once) -> str:
    """The endpoint and a digest of the caller, within the column's 64 characters."""
    return f"{once.endpoint}#{hashlib.sha256(once.caller.encode()).hexdigest()[:32]}"
