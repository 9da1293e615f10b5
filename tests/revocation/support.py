"""Revoking, and reading the signed list as a peer does."""

from typing import Any
from uuid import UUID, uuid4

import httpx

from aitp_cp.db import Connection
from tests.support.app import App

ENTRIES = "/api/revocation/entries"
LIST = "/.well-known/aitp-revocation-list"

FILL = """
INSERT INTO revocation_entries (jti, revoked_at, reason)
SELECT gen_random_uuid(), now() - n * interval '1 ms', CASE WHEN n % 2 = 0 THEN 'key compromised' END
FROM generate_series(1, $1) AS n
"""


async def revoke(app: App, jti: UUID | str | None = None, **more: Any) -> str:
    """Revoke a token, a fresh one unless told otherwise; its id."""
    response = await app.post(ENTRIES, {"jti": str(jti or uuid4()), **more})
    assert response.status_code == 201, response.text
    stored: str = response.json()["jti"]
    return stored


def listed(response: httpx.Response) -> list[str]:
    """The ids in a served list, in its order."""
    assert response.status_code == 200, response.text
    return [entry["jti"] for entry in response.json()["revocation_list"]["entries"]]


async def get_list(app: App) -> list[str]:
    return listed(await app.http.get(LIST))


async def fill(conn: Connection, count: int) -> None:
    """Entries that were revoked long ago, as far as any tail is concerned."""
    await conn.execute(FILL, count)
