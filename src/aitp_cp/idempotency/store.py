"""Statements on idempotency_keys."""

from collections.abc import Mapping, Sequence
from datetime import datetime

import msgspec

from aitp_cp.db import Connection
from aitp_cp.db.sweep import OldRows
from aitp_cp.idempotency.model import ScopedKey, StoredResponse

FIND = """
SELECT stored.scope, stored.key, response_status, response_body, request_sha256
FROM unnest($1::text[], $2::text[]) AS request (scope, key)
JOIN idempotency_keys AS stored ON stored.scope = request.scope AND stored.key = request.key
"""

INSERT = """
INSERT INTO idempotency_keys (scope, key, request_sha256, response_status, response_body, created_at)
SELECT scope, key, request_sha256, response_status, response_body::jsonb, $6
FROM unnest($1::text[], $2::text[], $3::bytea[], $4::int[], $5::text[])
    AS fresh (scope, key, request_sha256, response_status, response_body)
RETURNING scope, key, response_body
"""

OLD = OldRows("idempotency_keys", "created_at")


async def find(conn: Connection, keys: Sequence[ScopedKey]) -> dict[ScopedKey, StoredResponse]:
    rows = await conn.fetch(FIND, [scope for scope, _ in keys], [key for _, key in keys])
    return {
        (row["scope"], row["key"]): StoredResponse(
            row["response_status"], msgspec.Raw(row["response_body"].encode()), row["request_sha256"]
        )
        for row in rows
    }


async def insert(
    conn: Connection, responses: Mapping[ScopedKey, StoredResponse], now: datetime
) -> dict[ScopedKey, msgspec.Raw]:
    """Return the bodies as they will be read again: `jsonb` has its own order of members."""
    rows = await conn.fetch(
        INSERT,
        [scope for scope, _ in responses],
        [key for _, key in responses],
        [response.request_sha256 for response in responses.values()],
        [response.status for response in responses.values()],
        [bytes(response.body).decode() for response in responses.values()],
        now,
    )
    return {(row["scope"], row["key"]): msgspec.Raw(row["response_body"].encode()) for row in rows}
