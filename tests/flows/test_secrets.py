"""Every secret is a recognisable string, everything is exercised at LOG_LEVEL=trace, and none comes out anywhere."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import httpx
import pytest

from aitp_cp.app import ENDPOINTS
from tests.support.agents import manifest, new_agent
from tests.support.process import Process
from tests.support.processes import processes
from tests.telemetry.collector import Collector

SEED = "5ec2e7" * 10 + "beef"
API_KEY = "recognisable-api-key"
SECRETS = {
    "seed": SEED,
    "enrollment secret": "recognisable-enrollment-secret-of-some-length",
    "api key": API_KEY,
    "other api key": "recognisable-other-key",
    "database password": "recognisable-database-password",
    "webhook secret": "recognisable-webhook-secret",
    "collector key": "recognisable-collector-key",
    "client secret": "recognisable-client-secret",
}
AUTH = {"Authorization": f"Bearer {API_KEY}"}
# What the database would quote of the row: all of it, with the secret.
REFUSE_ROW = "ALTER TABLE webhooks ADD CONSTRAINT test_refused CHECK (url NOT LIKE '%refused%')"
TABLES = (
    "admin_audit_log",
    "api_keys",
    "audit_events",
    "console_sessions",
    "idempotency_keys",
    "webhook_attempts",
    "webhook_deliveries",
)


async def ask(dsn: str, *statements: str) -> list[str]:
    conn = await asyncpg.connect(dsn)
    try:
        return [str(row) for statement in statements for row in await conn.fetch(statement)]
    finally:
        await conn.close()


def exercise(http: httpx.Client, dsn: str) -> list[str]:
    """Ask everything, well and badly; the answers, without the one that shows a webhook's secret."""
    responses: list[str] = []

    def keep(response: httpx.Response) -> httpx.Response:
        responses.append(f"{response.headers}{response.text}")
        return response

    hook = {"url": "http://127.0.0.1:9/hook", "secret": SECRETS["webhook secret"], "events": ["agent.registered"]}
    created = http.post("/api/webhooks", json=hook, headers={**AUTH, "Idempotency-Key": "once"})
    assert created.status_code == 201
    replayed = keep(http.post("/api/webhooks", json=hook, headers={**AUTH, "Idempotency-Key": "once"}))
    assert replayed.json()["secret"] is None

    asked = {"name": "reporter", "role": "reporter"}
    key = http.post("/api/keys", json=asked, headers={**AUTH, "Idempotency-Key": "key"}).json()
    SECRETS["created key"] = key["key"]
    assert "key" not in keep(http.post("/api/keys", json=asked, headers={**AUTH, "Idempotency-Key": "key"})).json()
    SECRETS["rotated key"] = http.post(f"/api/keys/{key['id']}/rotate", json={}, headers=AUTH).json()["key"]
    for secret in (SECRETS["created key"], SECRETS["rotated key"], SECRETS["rotated key"][:-1] + "_"):
        for path in ("/api/whoami", "/api/audit", f"/api/keys/{key['id']}"):
            keep(http.get(path, headers={"Authorization": f"Bearer {secret}"}))
    keep(http.delete(f"/api/keys/{key['id']}", params={"family": "true"}, headers=AUTH))

    in_the_console(http, keep)
    body = manifest(new_agent())
    token = keep(http.post("/api/registry/enroll", content=body)).json()["token"]
    for credential in (token, token, token[:-2], API_KEY):
        keep(http.post("/api/registry/agents", content=body, headers={"Authorization": f"Bearer {credential}"}))
    keep(http.post("/api/events", json=[{"type": "demo.event", "payload": {"n": 1}}, 7], headers=AUTH))

    asyncio.run(ask(dsn, REFUSE_ROW))
    broken = keep(http.post("/api/webhooks", json={**hook, "url": "http://127.0.0.1:9/refused"}, headers=AUTH))
    assert (broken.status_code, broken.json()["code"]) == (500, "INTERNAL")

    for endpoint in ENDPOINTS:
        if endpoint.streaming:
            continue
        path = endpoint.path.replace("{id}", str(uuid4())).replace("{aid}", "nobody")
        for headers in (AUTH, {"Authorization": f"Bearer {API_KEY[:-1]}"}, {}):
            for content in (b"{}", b'{"x": "\\ud800"}', b"not json"):
                keep(http.request(endpoint.method, path, content=content, headers=headers))
    return responses


def in_the_console(http: httpx.Client, keep: Callable[[httpx.Response], httpx.Response]) -> None:
    """Sign in well and badly, by key and at a provider that is away, and make a key."""
    page = {"Sec-Fetch-Site": "same-origin"}
    for wrong in (API_KEY[:-1], SECRETS["rotated key"]):
        assert keep(http.post("/console/login", data={"key": wrong}, headers=page)).status_code == 401
    assert keep(http.get("/console/login/oidc")).status_code == 503
    signed_in = http.post("/console/login", data={"key": API_KEY}, headers=page)
    SECRETS["session"] = signed_in.cookies["acp-dev"]
    http.cookies.clear()
    page["Cookie"] = f"acp-dev={SECRETS['session']}"
    shown = keep(http.get("/console/keys", headers=page)).text
    once = shown.partition('name="once" value="')[2].partition('"')[0]
    form = {"name": "made in the console", "role": "auditor", "days": "30", "once": once}
    made = http.post("/console/keys", data=form, headers={**page, "Accept-Encoding": "gzip"})
    SECRETS["key of the console"] = made.text.partition('data-copy="')[2].partition('"')[0]
    assert (made.status_code, SECRETS["key of the console"][:4]) == (200, "acp_")
    assert "content-encoding" not in made.headers
    assert "was used before" in keep(http.post("/console/keys", data=form, headers=page)).text
    for path in ("/console/me", "/console/signed-in", "/console/keys?state=all"):
        assert keep(http.get(path, headers=page)).status_code == 200


def commands(pid: int) -> str:
    """The command lines, in full, of the process and whatever it started."""
    return "\n".join(seen.command for seen in processes() if pid in (seen.pid, seen.parent))


def environment(dsn: str, collector: Collector) -> dict[str, Any]:
    return {
        "database_url": dsn.replace("postgres@", f"postgres:{SECRETS['database password']}@", 1),
        "CP_AID_SEED_HEX": SEED,
        "ENROLLMENT_SECRET": SECRETS["enrollment secret"],
        "API_KEYS": f"{API_KEY},{SECRETS['other api key']}",
        "WEBHOOK_ALLOWED_CIDRS": "127.0.0.0/8",
        "LOG_LEVEL": "trace",
        "OTEL_ENABLED": "true",
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OIDC_ISSUER": "http://127.0.0.1:9",
        "OIDC_CLIENT_ID": "acp",
        "OIDC_CLIENT_SECRET": SECRETS["client secret"],
        "OTEL_EXPORTER_OTLP_HEADERS": f"authorization={SECRETS['collector key']}",
    }


@pytest.mark.parametrize("arguments", [(), ("--workers", "2")])
def test_no_secret_comes_out_anywhere(database_url: str, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    with Collector() as collector:
        given = environment(database_url, collector)
        with Process(given.pop("database_url"), tmp_path / "log", *arguments, **given) as server:
            with httpx.Client(base_url=server.url, timeout=30) as http:
                responses = exercise(http, database_url)
            shown = commands(server.running.pid)
            assert "aitp_cp" in shown
            assert server.terminate() == 0
        log = server.log()
        stored = asyncio.run(ask(database_url, *(f"SELECT t::text FROM {table} AS t" for table in TABLES)))
    assert "test_refused" in log  # the failure is there, with its stack
    assert "DETAIL: withheld" in log
    assert collector.spans
    places = {
        "log": log,
        "answers": "\n".join(responses),
        "ps": shown,
        "rows": "\n".join(stored),
        "traces": str(collector.spans) + str(collector.resources),
    }
    found = [
        f"{name} in {place}" for place, text in places.items() for name, secret in SECRETS.items() if secret in text
    ]
    assert found == []
