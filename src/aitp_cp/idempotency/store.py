"""Statements on idempotency_keys."""

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
