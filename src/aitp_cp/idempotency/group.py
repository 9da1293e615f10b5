"""Many idempotent requests in one transaction, in a constant number of statements (contract, section 5)."""

import hashlib
from collections.abc import Sequence
from datetime import datetime

import msgspec

from aitp_cp.db import Connection
from aitp_cp.db.locks import lock_key
from aitp_cp.errors import AppError, IdempotencyInFlight, IdempotencyKeyReused
from aitp_cp.idempotency import store
from aitp_cp.idempotency.model import Answer, Once, StoredAnswer
from aitp_cp.idempotency.service import replay, scope_of

Claim = Answer | AppError | None


def once_for(endpoint: str, caller: str, key: str | None, body: bytes) -> Once:
    return Once(endpoint, caller, key, hashlib.sha256(body).digest())


async def claim(conn: Connection, requests: Sequence[Once | None]) -> list[Claim]:
    """Return for each request its stored answer, its refusal, or None where it is to be done now.

    Takes the locks that hold off a second request with the same key until the transaction ends. Requests without a key
    cost nothing.
    """
    claims: list[Claim] = [None] * len(requests)
    first: dict[tuple[str, str], int] = {}
    for index, once in enumerate(requests):
        if once is None or once.key is None:
            continue
        if first.setdefault((scope_of(once), once.key), index) != index:
            claims[index] = _in_flight()
    if not first:
        return claims
    locked = await store.try_locks(conn, [lock_key(f"{scope}\n{key}") for scope, key in first])
    stored = await store.find_all(conn, list(first))
    for (place, index), held in zip(first.items(), locked, strict=True):
        once, known = requests[index], stored.get(place)
        assert once is not None
        claims[index] = _settled(once, known) if held else _in_flight()
    return claims


async def keep(conn: Connection, answers: Sequence[tuple[Once | None, Answer]], now: datetime) -> list[Answer]:
    """Store fresh answers of claimed requests; return them as every replay will give them, to the byte."""
    places = [None if once is None or once.key is None else (scope_of(once), once.key) for once, _ in answers]
    rows = [
        (*place, StoredAnswer(answer.status, msgspec.Raw(msgspec.json.encode(answer.body)), once.body_sha256))
        for place, (once, answer) in zip(places, answers, strict=True)
        if place is not None and once is not None
    ]
    bodies = await store.insert_all(conn, rows, now) if rows else {}
    return [
        answer if place is None else msgspec.structs.replace(answer, body=bodies[place])
        for place, (_, answer) in zip(places, answers, strict=True)
    ]


def _settled(once: Once, known: StoredAnswer | None) -> Claim:
    try:
        return None if known is None else replay(known, once)
    except IdempotencyKeyReused as refused:
        return refused


def _in_flight() -> IdempotencyInFlight:
    return IdempotencyInFlight(headers={"Retry-After": "1"})
