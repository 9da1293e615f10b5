"""Lock, effect and stored response in one transaction, so a crash leaves nothing half-done (contract, section 5).

Each step takes any number of requests in a constant number of statements; requests without a key cost nothing.
"""

import hashlib
import re
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime

import msgspec

from aitp_cp.db import Connection, Database, locks
from aitp_cp.errors import RETRIABLE, AppError, IdempotencyInFlight, IdempotencyKeyInvalid, IdempotencyKeyReused
from aitp_cp.idempotency import store
from aitp_cp.idempotency.model import ApiResponse, Once, ScopedKey, StoredResponse

Effect = Callable[[Connection], Awaitable[ApiResponse]]
Claim = ApiResponse | AppError | None

MAX_KEY_CHARACTERS = 255
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
STORED_REFUSALS = frozenset({400, 409, 422})


def check_key(key: str | None) -> str | None:
    """Return the key; raises `IdempotencyKeyInvalid` when it is empty, too long or holds control characters."""
    if key is not None and (not 1 <= len(key) <= MAX_KEY_CHARACTERS or _CONTROL.search(key)):
        raise IdempotencyKeyInvalid
    return key


def once_for(endpoint: str, caller: str, key: str | None, body: bytes) -> Once | None:
    """Return what a request with a key stands for; None without one."""
    if key is None:
        return None
    # A digest of the caller, for the column of the scope has 64 characters.
    scope = f"{endpoint}#{hashlib.sha256(caller.encode()).hexdigest()[:32]}"
    return Once((scope, key), hashlib.sha256(body).digest())


async def run_once(db: Database, once: Once | None, effect: Effect, now: datetime) -> ApiResponse:
    """Run `effect` unless this caller's key was answered before; then give that response again.

    Raises `IdempotencyInFlight` while the first request runs, `IdempotencyKeyReused` for another body, and
    whatever the effect raises. Refusals with status 400, 409 and 422 are stored too, except those that may pass.
    """
    async with db.transaction() as conn:
        if once is None:
            return await effect(conn)
        [claimed] = await claim(conn, [once])
        if isinstance(claimed, AppError):
            raise claimed
        if claimed is not None:
            return claimed
        [response] = await keep(conn, [(once, await _attempt(conn, effect))], now)
        return response


async def _attempt(conn: Connection, effect: Effect) -> ApiResponse:
    try:
        async with conn.transaction():  # a savepoint: a refusal undoes its writes and is still stored
            return await effect(conn)
    except AppError as refused:
        if refused.status not in STORED_REFUSALS or isinstance(refused, RETRIABLE):
            raise
        body = {"error": refused.message, "code": refused.code, **refused.extra}
        return ApiResponse(refused.status, body, refusal=refused)


async def claim(conn: Connection, requests: Sequence[Once | None]) -> list[Claim]:
    """Return for each request its stored response, its refusal, or None when it is to be done now.

    Takes the locks that hold off a second request with the same key until the transaction ends.
    """
    claims: list[Claim] = [None] * len(requests)
    first: dict[ScopedKey, tuple[int, Once]] = {}
    for index, once in enumerate(requests):
        if once is not None and first.setdefault(once.key, (index, once))[0] != index:
            claims[index] = _in_flight()
    if not first:
        return claims
    locked = await locks.try_locks(conn, [locks.idempotency(scope, key) for scope, key in first])
    stored = await store.find(conn, list(first))
    for (index, once), is_ours in zip(first.values(), locked, strict=True):
        claims[index] = _replay(stored.get(once.key), once) if is_ours else _in_flight()
    return claims


async def keep(
    conn: Connection, responses: Sequence[tuple[Once | None, ApiResponse]], now: datetime
) -> list[ApiResponse]:
    """Store fresh responses to claimed requests; return them as every replay will give them, to the byte."""
    rows = {
        once.key: StoredResponse(response.status, _stored_body(response), once.body_sha256)
        for once, response in responses
        if once is not None
    }
    bodies = await store.insert(conn, rows, now) if rows else {}
    return [
        msgspec.structs.replace(response, body=bodies[once.key]) if once and response.stored is None else response
        for once, response in responses
    ]


def _stored_body(response: ApiResponse) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(response.body if response.stored is None else response.stored))


def _replay(stored: StoredResponse | None, once: Once) -> Claim:
    if stored is None:
        return None
    if stored.request_sha256 is not None and stored.request_sha256 != once.body_sha256:
        return IdempotencyKeyReused()
    return ApiResponse(stored.status, stored.body, replayed=True)


def _in_flight() -> IdempotencyInFlight:
    return IdempotencyInFlight(headers={"Retry-After": "1"})
