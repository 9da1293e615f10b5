"""Browsers of other origins (contract, section 2)."""

import httpx
import pytest

from tests.support.app import App, running_app

pytestmark = pytest.mark.anyio

CONSOLE = "https://console.example"
OTHER = "http://localhost:3000"
METHODS = {"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
REQUEST_HEADERS = {
    "authorization",
    "content-type",
    "x-request-id",
    "x-aitp-namespace",
    "idempotency-key",
    "last-event-id",
}
EXPOSED = {
    "x-request-id",
    "retry-after",
    "x-ratelimit-limit",
    "x-ratelimit-remaining",
    "x-ratelimit-reset",
    "idempotency-replayed",
    "etag",
}


def listed(response: httpx.Response, name: str) -> set[str]:
    return {item.strip() for item in response.headers[name].split(",")}


async def preflight(app: App, path: str, origin: str = CONSOLE) -> httpx.Response:
    asked = {"Origin": origin, "Access-Control-Request-Method": "DELETE"}
    return await app.http.options(path, headers=asked)


async def test_without_a_list_every_origin_may_read(app: App) -> None:
    for path in ("/api/livez", "/api/nope", "/api/audit", "/.well-known/aitp-manifest", "/.well-known/nope"):
        response = await app.http.get(path, headers={"Origin": CONSOLE})
        assert response.headers["access-control-allow-origin"] == "*", path
        assert listed(response, "access-control-expose-headers") == EXPOSED
        assert response.headers["vary"] == "Origin"
        assert "access-control-allow-credentials" not in response.headers


async def test_nothing_outside_the_api_is_shared(app: App) -> None:
    for path in ("/", "/nope", "/apiary", "/.well-knownish"):
        response = await app.http.get(path, headers={"Origin": CONSOLE})
        assert "access-control-allow-origin" not in response.headers


async def test_the_matching_origin_of_a_list_is_echoed(shared_database_url: str) -> None:
    async with running_app(shared_database_url, CORS_ORIGIN=f"{CONSOLE}, {OTHER}") as app:
        for origin in (CONSOLE, OTHER):
            for response in (
                await app.http.get("/api/audit", headers={"Origin": origin}),
                await preflight(app, "/api/audit", origin),
            ):
                assert response.headers["access-control-allow-origin"] == origin
                assert response.headers["vary"] == "Origin"


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "https://console.example.evil", "http://console.example", "*", ""]
)
async def test_no_other_origin_is_told_anything(shared_database_url: str, origin: str) -> None:
    async with running_app(shared_database_url, CORS_ORIGIN=f"{CONSOLE},{OTHER}") as app:
        for response in (
            await app.http.get("/api/livez", headers={"Origin": origin}),
            await app.http.get("/api/livez"),
            await preflight(app, "/api/livez", origin),
        ):
            assert not [name for name in response.headers if name.startswith("access-control-")]
            assert response.headers["vary"] == "Origin"


@pytest.mark.parametrize(
    "path", ["/api/audit", "/api/events", "/api/nope", "/api/registry/agents/x", "/.well-known/aitp-manifest"]
)
async def test_a_preflight_reaches_no_handler(app: App, path: str) -> None:
    response = await preflight(app, path)
    assert (response.status_code, response.content) == (204, b"")
    assert response.headers["access-control-allow-origin"] == "*"
    assert listed(response, "access-control-allow-methods") == METHODS
    assert listed(response, "access-control-allow-headers") == REQUEST_HEADERS
    assert int(response.headers["access-control-max-age"]) > 0
    assert response.headers["x-request-id"]


async def test_errors_can_be_read_by_the_console(shared_database_url: str) -> None:
    async with running_app(shared_database_url, CORS_ORIGIN=CONSOLE, RATE_LIMIT_ENABLED="true") as app:
        for _ in range(70):
            response = await app.http.get("/api/registry/agents", headers={"Origin": CONSOLE})
        assert response.status_code == 429
        assert response.headers["access-control-allow-origin"] == CONSOLE
        assert listed(response, "access-control-expose-headers") == EXPOSED
