"""What the trust store's tests ask for again and again."""

from datetime import timedelta
from typing import Any

import httpx

from tests.support.app import AUTH, App

ANCHORS = "/api/trust-anchors"
PINNED = "/api/pinned-keys"
ISSUER = "https://issuer.example"


async def create(app: App, issuer: str = ISSUER, **more: Any) -> dict[str, Any]:
    response = await app.post(ANCHORS, {"issuerUrl": issuer, **more})
    assert response.status_code == 201, response.text
    record: dict[str, Any] = response.json()
    return record


async def patch(app: App, id: str, change: dict[str, Any]) -> httpx.Response:
    return await app.http.patch(f"{ANCHORS}/{id}", json=change, headers=AUTH)


async def later(app: App, secs: float) -> None:
    """Let every key set be due that much sooner: only the database's clock counts."""
    async with app.rt.db.connection() as conn:
        await conn.execute("UPDATE trust_anchors SET jwks_due_at = jwks_due_at - $1::interval", timedelta(seconds=secs))


async def audited(app: App) -> list[dict[str, Any]]:
    """Newest first."""
    entries: list[dict[str, Any]] = (await app.get("/api/audit")).json()["entries"]
    return entries
