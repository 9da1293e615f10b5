"""Who may call what (contract, section 3)."""

import hashlib
from uuid import uuid4

import httpx
import pytest

from aitp_cp.app import ENDPOINTS
from aitp_cp.web.endpoint import Endpoint, Gate
from tests.support.app import API_KEY, AUTH, OTHER_KEY, App, running_app

pytestmark = pytest.mark.anyio

NEEDS_NOTHING = {
    "GET /api/health",
    "GET /api/livez",
    "GET /api/readyz",
    "GET /api/metrics",
    "GET /api/openapi.json",
    "GET /.well-known/aitp-manifest",
    "GET /api/well-known/aitp-manifest",
    "GET /.well-known/aitp-revocation-list",
    "GET /api/well-known/aitp-revocation-list",
    "GET /api/registry/agents",
    "POST /api/agent-auth/challenge",
    "POST /api/agent-auth/token",
    "GET /api/registry/agents/{aid}",
    "GET /api/registry/agents/{aid}/manifest",
    "POST /api/registry/enroll",
    "POST /api/aitp/handshake/hello",
}
NEEDS_A_TOKEN = {"POST /api/registry/agents"}
GATED = [endpoint for endpoint in ENDPOINTS if endpoint.gate is Gate.API_KEY]

# Whoever answers these has not been stopped by the gate.
WRONG_CREDENTIALS = [
    None,
    "",
    "Bearer",
    "Bearer ",
    "Bearer wrong",
    f"Bearer {API_KEY}x",
    f"Bearer {API_KEY[:-1]}",
    f"Bearer {API_KEY.upper()}",
    f"Bearer {API_KEY},{OTHER_KEY}",
    f"Basic {API_KEY}",
    f"Token {API_KEY}",
    API_KEY,
    b"Bearer \xff\xfe",
    "Bearer " + "k" * 4000,
]


async def call(http: httpx.AsyncClient, endpoint: Endpoint, authorization: str | bytes | None = None) -> httpx.Response:
    path = endpoint.path.replace("{aid}", "aid%3Apubkey%3Ax").replace("{", "").replace("}", "")
    return await http.request(endpoint.method, path, headers=claiming(authorization))


def claiming(authorization: str | bytes | None) -> dict[bytes, bytes]:
    if authorization is None:
        return {}
    return {b"Authorization": authorization.encode() if isinstance(authorization, str) else authorization}


def test_everything_but_the_contracts_list_needs_a_key() -> None:
    by_gate = {gate: {f"{e.method} {e.path}" for e in ENDPOINTS if e.gate is gate} for gate in Gate}
    assert by_gate[Gate.OPEN] == NEEDS_NOTHING
    assert by_gate[Gate.ENROLLMENT_TOKEN] == NEEDS_A_TOKEN
    assert {"POST /api/events", "GET /api/audit", "DELETE /api/registry/agents/{aid}"} < by_gate[Gate.API_KEY]


@pytest.mark.parametrize("authorization", WRONG_CREDENTIALS)
async def test_a_missing_or_wrong_key(app: App, authorization: str | bytes | None) -> None:
    response = await app.http.get("/api/audit", headers=claiming(authorization))
    assert (response.status_code, response.json()["code"]) == (401, "INVALID_API_KEY")
    assert response.headers["www-authenticate"] == "Bearer"


async def test_no_gated_route_is_forgotten(app: App) -> None:
    for endpoint in GATED:
        response = await call(app.http, endpoint, "Bearer wrong")
        assert (response.status_code, response.json()["code"]) == (401, "INVALID_API_KEY"), endpoint.path
        assert response.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(
    "authorization", [f"Bearer {API_KEY}", f"Bearer {OTHER_KEY}", f"bearer {API_KEY}", f"BEARER  {API_KEY} "]
)
async def test_any_of_the_keys_opens_the_gate(app: App, authorization: str) -> None:
    assert (await app.http.get("/api/audit", headers={"Authorization": authorization})).status_code == 200


async def test_a_key_outside_ascii(shared_database_url: str) -> None:
    async with running_app(shared_database_url, API_KEYS="schlüssel-✓") as app:
        assert (await app.http.get("/api/audit", headers=claiming("Bearer schlüssel-✓"))).status_code == 200


async def test_the_gate_comes_before_the_body(app: App) -> None:
    response = await app.http.post("/api/events", content=b"x" * 300_000)
    assert (response.status_code, response.json()["code"]) == (401, "INVALID_API_KEY")


async def test_the_log_and_the_audit_know_a_key_by_its_digest_only(
    app: App, capsys: pytest.CaptureFixture[str]
) -> None:
    await app.get("/api/audit")
    line = capsys.readouterr().out
    assert "apikey:" + hashlib.sha256(API_KEY.encode()).hexdigest()[:16] in line
    assert API_KEY not in line


@pytest.mark.parametrize("environment", [{"CP_ENV": "production"}, {"NODE_ENV": "production"}, {"CP_ENV": ""}])
async def test_production_without_keys_closes_every_gated_route(
    shared_database_url: str, environment: dict[str, str]
) -> None:
    async with running_app(shared_database_url, API_KEYS="", RATE_LIMIT_ENABLED="true", **environment) as app:
        for endpoint in GATED:
            for authorization in (None, f"Bearer {API_KEY}"):
                response = await call(app.http, endpoint, authorization)
                assert (response.status_code, response.json()["code"]) == (503, "SERVER_MISCONFIGURED"), endpoint.path
        assert (await app.http.get("/api/registry/agents")).status_code == 200
        assert (await app.http.get("/api/readyz")).status_code == 200


async def test_development_without_keys_is_open(shared_database_url: str) -> None:
    async with running_app(shared_database_url, API_KEYS="") as app:
        for authorization in ({}, {"Authorization": "Bearer anything"}):
            assert (await app.http.get("/api/audit", headers=authorization)).status_code == 200


@pytest.mark.parametrize("prefix", ["sha256:", "SHA256:"])
async def test_a_key_may_be_configured_by_its_digest(shared_database_url: str, prefix: str) -> None:
    key = "schlüssel-in-der-umgebung-\u00e0"  # its UTF-8 ends in 0xA0, which Unicode takes for white space
    digest = hashlib.sha256(key.encode()).hexdigest()
    async with running_app(shared_database_url, API_KEYS=f"{OTHER_KEY},{prefix}{digest.upper()}") as app:
        response = await app.http.get("/api/whoami", headers=claiming(f"Bearer {key}"))
        assert (response.status_code, response.json()["actor"]) == (200, f"apikey:{digest[:16]}")
        assert (await app.http.get("/api/whoami", headers=claiming(f"Bearer sha256:{digest}"))).status_code == 401


async def test_an_id_that_must_be_a_uuid_and_is_not(app: App) -> None:
    """In every path that has one, whatever the id holds; and the gate comes first."""
    checked = 0
    for endpoint in ENDPOINTS:
        if not endpoint.uuids or endpoint.of_console:
            continue
        checked += 1
        for id in ("x", "a%00b", "%00", str(uuid4()) + "%00", "%ff"):
            path = endpoint.path.replace("{id}", id).replace("{deliveryId}", str(uuid4()))
            assert (await app.http.request(endpoint.method, path)).status_code == 401
            response = await app.http.request(endpoint.method, path, headers=AUTH, content=b"{}")
            assert (response.status_code, response.json()["code"]) == (400, "ID_INVALID"), path
    assert checked > 10
