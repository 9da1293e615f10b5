"""The control plane's own manifest (contract, section 7)."""

import json
import time
from datetime import timedelta
from typing import Any

import aitp
import pytest

from tests.support.app import ENVIRONMENT, App, running_app

pytestmark = pytest.mark.anyio

WELL_KNOWN = "/.well-known/aitp-manifest"
SEED = ENVIRONMENT["CP_AID_SEED_HEX"]


async def own(app: App) -> dict[str, Any]:
    response = await app.http.get(WELL_KNOWN)
    assert (response.status_code, response.headers["content-type"]) == (200, "application/json")
    aitp.verify_manifest_json(response.text, int(time.time()))
    said: dict[str, Any] = json.loads(response.text)["manifest"]
    return said


async def test_it_is_signed_and_says_what_the_contract_says(database_url: str) -> None:
    async with running_app(database_url, CP_BASE_URL="https://cp.example/") as app:
        said = await own(app)
        assert said["aid"] == aitp.AitpAgent.from_seed(bytes.fromhex(SEED)).aid
        assert said["display_name"] == "aitp-control-plane"
        assert said["handshake_endpoint"] == "https://cp.example/api/aitp/handshake/hello"
        assert said["offered_capabilities"] == []
        assert said["expires_at"] - said["published_at"] == 86_400
        assert said["published_at"] == pytest.approx(time.time(), abs=5)
        assert "https://cp.example/.well-known/aitp-revocation-list" in json.dumps(said)

        response = await app.http.get(WELL_KNOWN)
        assert response.headers["cache-control"] == "max-age=3600"
        alias = await app.http.get("/api/well-known/aitp-manifest")
        assert (alias.content, alias.headers["cache-control"]) == (response.content, "max-age=3600")


async def test_without_tls_no_revocation_list_is_advertised(database_url: str) -> None:
    async with running_app(database_url, CP_BASE_URL="http://cp.example:4000") as app:
        said = await own(app)
        assert said["handshake_endpoint"] == "http://cp.example:4000/api/aitp/handshake/hello"
        assert "revocation" not in json.dumps(said)


async def test_it_is_rebuilt_when_under_an_hour_is_left(database_url: str) -> None:
    async with running_app(database_url) as app:
        first = (await app.http.get(WELL_KNOWN)).content
        app.clock.ahead = timedelta(hours=22, minutes=59)
        assert (await app.http.get(WELL_KNOWN)).content == first
        app.clock.ahead = timedelta(hours=23, minutes=1)
        assert (await app.http.get(WELL_KNOWN)).content != first


async def test_it_never_takes_part_in_a_handshake(database_url: str) -> None:
    async with running_app(database_url) as app:
        for body in (b"", b"{}", b"\0"):
            response = await app.http.post("/api/aitp/handshake/hello", content=body)
            assert (response.status_code, response.json()["code"]) == (501, "HANDSHAKE_UNSUPPORTED")


async def test_without_a_seed_each_start_is_someone_else(database_url: str) -> None:
    aids = set()
    for _ in range(2):
        async with running_app(database_url, CP_AID_SEED_HEX="") as app:
            said = await own(app)
            assert (await app.http.get("/api/health")).json()["aid"] == said["aid"]
            aids.add(said["aid"])
    assert len(aids) == 2


async def test_the_seed_is_in_no_answer(database_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    async with running_app(database_url) as app:
        paths = ("/api/health", "/api/metrics", "/api/openapi.json", WELL_KNOWN, "/api/audit", "/nope", "/api/readyz")
        responses = [(await app.get(path)).text for path in paths]
    shown = "".join(responses) + capsys.readouterr().out
    assert SEED not in shown
    assert SEED[:16] not in shown
