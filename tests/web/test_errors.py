"""Every answer has the shape of contract section 2, also the unhappy ones."""

import asyncio

import asyncpg
import pytest

from aitp_cp import errors
from tests.support.app import App, running_app
from tests.support.postgres import drop_database

pytestmark = pytest.mark.anyio


async def test_an_unknown_route(app: App) -> None:
    for path in ("/", "/api", "/api/", "/api/nope", "/api/health/", "/API/HEALTH", "/.well-known/nope", "/x/y/z"):
        response = await app.http.get(path)
        assert (response.status_code, response.json()["code"]) == (404, "NOT_FOUND"), path
        assert set(response.json()) == {"error", "code"}


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/api/health", {"GET", "HEAD", "OPTIONS"}),
        ("DELETE", "/api/registry/agents", {"GET", "HEAD", "OPTIONS", "POST"}),
        ("PUT", "/api/registry/agents/aid%3Apubkey%3Ax", {"GET", "HEAD", "OPTIONS", "PATCH", "DELETE"}),
        ("GET", "/api/registry/enroll", {"OPTIONS", "POST"}),
        ("PUT", "/.well-known/aitp-manifest", {"GET", "HEAD", "OPTIONS"}),
        ("TRACE", "/api/audit", {"GET", "HEAD", "OPTIONS"}),
    ],
)
async def test_another_method(app: App, method: str, path: str, allowed: set[str]) -> None:
    response = await app.http.request(method, path)
    assert (response.status_code, response.json()["code"]) == (405, "METHOD_NOT_ALLOWED")
    assert set(response.headers["allow"].split(", ")) == allowed


async def test_head_is_get_without_its_body(app: App) -> None:
    for path in ("/api/livez", "/api/registry/agents", "/.well-known/aitp-manifest"):
        assert (await app.http.head(path)).status_code == 200
    assert (await app.http.head("/api/registry/enroll")).status_code == 405
    endless = await app.http.head("/api/events/stream")
    assert (endless.status_code, endless.headers["allow"]) == (405, "GET, OPTIONS")


async def test_every_answer_forbids_sniffing_and_storing(app: App) -> None:
    for path in ("/api/livez", "/api/openapi.json", "/api/metrics", "/api/registry/agents", "/api/audit", "/nope"):
        response = await app.http.get(path)
        assert response.headers["x-content-type-options"] == "nosniff", path
        assert response.headers["cache-control"] == "no-store", path


def test_every_401_has_a_challenge() -> None:
    """RFC 9110, section 15.5.2; also where the credential is a token, a proof or a signature."""
    refusals = [kind for kind in vars(errors).values() if getattr(kind, "status", 0) == 401]
    assert len(refusals) > 5
    for kind in refusals:
        refusal = kind("/") if kind is errors.StepUpRequired else kind()
        assert refusal.headers == {"WWW-Authenticate": "Bearer"}


async def test_an_unexpected_failure_says_nothing_about_itself(database_url: str) -> None:
    async with running_app(database_url) as app:
        conn = await asyncpg.connect(database_url)
        await conn.execute("DROP TABLE admin_audit_log")
        await conn.close()
        response = await app.get("/api/audit")
        assert (response.status_code, response.json()) == (500, {"error": "unexpected failure", "code": "INTERNAL"})
        assert response.headers["content-type"] == "application/json"
        assert response.headers["x-content-type-options"] == "nosniff"
        assert len(response.headers["x-request-id"]) == 36
        assert (await app.get("/api/events/history")).status_code == 200


async def test_a_database_that_is_gone(database_url: str) -> None:
    async with running_app(database_url) as app:
        await asyncio.to_thread(drop_database, database_url)
        for path in ("/api/audit", "/api/registry/agents", "/api/events/history"):
            response = await app.get(path)
            assert (response.status_code, response.json()["code"]) == (503, "DATABASE_UNAVAILABLE"), path
            assert int(response.headers["retry-after"]) >= 1
            assert set(response.json()) == {"error", "code"}
            assert not {"postgres", "sql", "test_", "asyncpg"} & set(response.json()["error"].lower().split())


async def test_a_path_or_query_that_is_too_long(app: App) -> None:
    for path in ("/api/registry/agents?capability=" + "x" * 20_000, "/api/" + "x" * 20_000):
        response = await app.http.get(path)
        assert (response.status_code, response.json()["code"]) == (414, "URI_TOO_LONG")


async def test_too_many_header_bytes(app: App) -> None:
    response = await app.http.get("/api/livez", headers={"X-Large": "x" * 10_240})
    assert (response.status_code, response.json()["code"]) == (431, "HEADERS_TOO_LARGE")
    assert (await app.http.get("/api/livez", headers={"X-Large": "x" * 7000})).status_code == 200


async def test_an_upgrade_to_a_web_socket_is_ignored(app: App) -> None:
    response = await app.http.get("/api/livez", headers={"Upgrade": "websocket", "Connection": "Upgrade"})
    assert response.status_code == 200
