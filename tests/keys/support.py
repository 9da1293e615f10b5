"""Keys through the API."""

from typing import Any

import httpx

from tests.support.app import App


async def new_key(app: App, **body: Any) -> dict[str, Any]:
    """Create a key with an environment key; by default an administrator's."""
    given = {"name": "a key", **({} if "scopes" in body else {"role": "admin"}), **body}
    response = await app.post("/api/keys", given)
    assert response.status_code == 201, response.text
    created: dict[str, Any] = response.json()
    return created


def holding(key: dict[str, Any] | str) -> dict[str, str]:
    """The header of a request with this key."""
    return {"Authorization": f"Bearer {key if isinstance(key, str) else key['key']}"}


async def called(app: App, key: dict[str, Any] | str, method: str, path: str, **more: Any) -> httpx.Response:
    return await app.http.request(method, path, headers={**holding(key), **more.pop("headers", {})}, **more)


async def outcome(app: App, key: dict[str, Any] | str, path: str = "/api/whoami") -> tuple[int, str | None]:
    """The status and the code of a GET with this key."""
    response = await called(app, key, "GET", path)
    return response.status_code, response.json().get("code")
