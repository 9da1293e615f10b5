"""The two steps by which an agent gets into the registry."""

from typing import Any

import httpx

from tests.support.app import App


def bearer(token: str, **headers: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}", **headers}


async def token_for(http: httpx.AsyncClient, body: bytes) -> str:
    """An enrollment token for this manifest."""
    response = await http.post("/api/registry/enroll", content=body)
    assert response.status_code == 200, response.text
    token: str = response.json()["token"]
    return token


async def register(http: httpx.AsyncClient, body: bytes, token: str | None = None, **headers: str) -> httpx.Response:
    """Register this manifest with `token`, or with one fetched for it."""
    token = token or await token_for(http, body)
    return await http.post("/api/registry/agents", content=body, headers=bearer(token, **headers))


async def registered(app: App, body: bytes, **headers: str) -> dict[str, Any]:
    """Register this manifest; what was answered."""
    response = await register(app.http, body, **headers)
    assert response.status_code == 201, response.text
    said: dict[str, Any] = response.json()
    return said


async def events_of(app: App, **filters: str) -> list[dict[str, Any]]:
    """The log, oldest first."""
    response = await app.get("/api/events/history", params={"order": "asc", "limit": "1000", **filters})
    events: list[dict[str, Any]] = response.json()["events"]
    return events


async def audit_of(app: App) -> list[dict[str, Any]]:
    """The admin audit, oldest first."""
    response = await app.get("/api/audit", params={"limit": "1000"})
    entries: list[dict[str, Any]] = response.json()["entries"]
    return entries[::-1]
