"""Statements on idempotency_keys."""

from collections.abc import Sequence
from datetime import datetime

import msgspec

from aitp_cp.db import Connection
from aitp_cp.idempotency.model import StoredAnswer

FIND = """
SELECT response_status, response_body, request_sha256
FROM idempotency_keys WHERE scope = $1 AND key = $2
"""

INSERT = """
INSERT INTO idempotency_keys (scope, key, request_sha256, response_status, response_body, created_at)
VALUES ($1, $2, $3, $4, $5::jsonb, $6)
RETURNING response_body
"""

# The subquery keeps the locks in the order of the keys, so that each answer belongs to its key.
TRY_LOCKS = """
SELECT pg_try_advisory_xact_lock(lock_key) AS held
FROM (SELECT lock_key FROM unnest($1::bigint[]) WITH ORDINALITY AS asked (lock_key, place) ORDER BY place) AS ordered
"""

FIND_ALL = """
SELECT stored.scope, stored.key, response_status, response_body, request_sha256
FROM unnest($1::text[], $2::text[]) AS asked (scope, key)
JOIN idempotency_keys AS stored ON stored.scope = asked.scope AND stored.key = asked.key
"""

INSERT_ALL = """
INSERT INTO idempotency_keys (scope, key, request_sha256, response_status, response_body, created_at)
SELECT scope, key, request_sha256, response_status, response_body::jsonb, $6
FROM unnest($1::text[], $2::text[], $3::bytea[], $4::int[], $5::text[])
    AS fresh (scope, key, request_sha256, response_status, response_body)
RETURNING scope, key, response_body
"""

Place = tuple[str, str]  # scope and key


async def find(conn: Connection, scope: str, key: str) -> StoredAnswer | None:
    row = await conn.fetchrow(FIND, scope, key)
    if row is None:
        return None
    return StoredAnswer(row["response_status"], msgspec.Raw(row["response_body"].encode()), row["request_sha256"])


async def insert(conn: Connection, scope: str, key: str, answer: StoredAnswer, now: datetime) -> msgspec.Raw:
    """The body as it will be read again: `jsonb` has an order of members of its own."""
    text = bytes(answer.body).decode()
    stored: str = await conn.fetchval(INSERT, scope, key, answer.request_sha256, answer.status, text, now)
    return msgspec.Raw(stored.encode())


async def try_locks(conn: Connection, keys: Sequence[int]) -> list[bool]:
    """Take each advisory lock to the end of the transaction; whether it was free, in the order of `keys`."""
    return [row["held"] for row in await conn.fetch(TRY_LOCKS, keys)]


async def find_all(conn: Connection, places: Sequence[Place]) -> dict[Place, StoredAnswer]:
    rows = await conn.fetch(FIND_ALL, [scope for scope, _ in places], [key for _, key in places])
    return {
        (row["scope"], row["key"]): StoredAnswer(
            row["response_status"], msgspec.Raw(row["response_body"].encode()), row["request_sha256"]
        )
        for row in rows
    }


async def insert_all(
    conn: Connection, rows: Sequence[tuple[str, str, StoredAnswer]], now: datetime
) -> dict[Place, msgspec.Raw]:
    """The bodies as they will be read again: `jsonb` has an order of members of its own."""
    inserted = await conn.fetch(
        INSERT_ALL,
        [scope for scope, _, _ in rows],
        [key for _, key, _ in rows],
        [answer.request_sha256 for _, _, answer in rows],
        [answer.status for _, _, answer in rows],
        [bytes(answer.body).decode() for _, _, answer in rows],
        now,
    )
    return {(row["scope"], row["key"]): msgspec.Raw(row["response_body"].encode()) for row in inserted}
