"""One line per request, and on a refused one why."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from tests.support.app import AUTH, App, running_app
from tests.support.proxy import Proxy

pytestmark = pytest.mark.anyio

ALWAYS = {"event", "log_level", "method", "route", "status", "ms", "request_id", "actor", "client_ip"}


@pytest.fixture
def lines() -> Iterator[list[Any]]:
    with structlog.testing.capture_logs() as captured:
        yield captured


async def line_of(lines: list[Any], app: App, path: str, **headers: str) -> dict[str, Any]:
    await app.http.get(path, headers={**headers, "x-request-id": "the-request"})
    (line,) = [one for one in lines if one["event"] == "request"]
    lines.clear()
    assert line["request_id"] == "the-request"
    return dict(line)


async def test_an_answered_request(app: App, lines: list[Any]) -> None:
    line = await line_of(lines, app, "/api/webhooks/7c9e6679-7425-40de-944b-e07fc1f90ae7", **AUTH)
    assert set(line) == {*ALWAYS, "code"}
    assert (line["method"], line["route"], line["status"], line["code"]) == (
        "GET",
        "/api/webhooks/:id",
        404,
        "NOT_FOUND",
    )
    assert set(await line_of(lines, app, "/api/events/history", **AUTH)) == ALWAYS


async def test_a_refused_one_names_its_code(app: App, lines: list[Any]) -> None:
    line = await line_of(lines, app, "/api/audit")
    assert (line["status"], line["code"], line["actor"]) == (401, "INVALID_API_KEY", "anonymous")


async def test_a_refused_one_names_its_code_also_with_an_idempotency_key(app: App, lines: list[Any]) -> None:
    for keyed in ({}, {"Idempotency-Key": "the-key"}):
        await app.post("/api/trust-anchors", {"issuerUrl": "nonsense"}, headers=keyed)
    asked = [line for line in lines if line["event"] == "request"]
    assert [(line["status"], line.get("code")) for line in asked] == [(400, "BODY_INVALID")] * 2


async def test_one_that_the_database_failed_names_the_kind_of_failure(database_url: str, lines: list[Any]) -> None:
    async with Proxy(database_url) as proxy, running_app(proxy.dsn) as app:
        await proxy.stop()
        async with asyncio.timeout(10):
            # Connections that were there break first; afterwards new ones are refused.
            while (line := await line_of(lines, app, "/api/audit", **AUTH)).get("reason") != "ConnectionRefusedError":
                assert (line["status"], line.get("code")) in {(200, None), (503, "DATABASE_UNAVAILABLE")}
        assert (line["status"], line["code"]) == (503, "DATABASE_UNAVAILABLE")
