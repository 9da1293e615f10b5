"""Single sign-on by OpenID Connect: against a provider that is not ours, and against one that lies (section 18)."""

import hashlib
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from joserfc import jwk, jwt

from aitp_cp.accounts.service import subject_of
from tests.support.app import App, running_app
from tests.support.console import Browser, browsing
from tests.support.process import free_port
from tests.support.provider import Provider
from tests.support.rows import value

pytestmark = pytest.mark.anyio

CLIENT = {"OIDC_CLIENT_ID": "acp", "OIDC_CLIENT_SECRET": "recognisable-client-secret"}
ROLES = {"OIDC_ROLE_MAP": "sre=operator, audit-team=auditor"}
LOCAL = {"WEBHOOK_ALLOWED_CIDRS": "127.0.0.0/8"}
USERS = (
    {"sub": "ana", "email": "ana@example", "groups": ["staff", "sre"]},
    {"sub": "bo", "email": "bo@example", "groups": ["staff", "<b>cafe\u202e</b>"]},
)


@pytest.fixture(scope="module")
def issuer() -> Iterator[str]:
    """oidc-provider-mock, in a process of its own."""
    port = free_port()
    users = [argument for user in USERS for argument in ("--user-claims", json.dumps(user))]
    program = [sys.executable, "-W", "ignore", "-m", "oidc_provider_mock"]
    command = [*program, "--port", str(port), "--require-nonce", *users]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        url = f"http://127.0.0.1:{port}"
        try:
            _wait_for(f"{url}/.well-known/openid-configuration")
            yield url
        finally:
            process.kill()


def _wait_for(url: str) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            httpx.get(url, timeout=2).raise_for_status()
            return
        except httpx.TransportError:
            time.sleep(0.05)
    raise AssertionError("the provider does not start")


@asynccontextmanager
async def signing_on(database_url: str, issuer: str, **more: str) -> AsyncIterator[tuple[App, Browser]]:
    settings = {"OIDC_ISSUER": issuer, **CLIENT, **ROLES, **LOCAL, **more}
    async with running_app(database_url, **settings) as app, browsing(app) as browser:
        yield app, browser


async def begin(browser: Browser, query: str = "") -> str:
    response = await browser.get(f"/console/login/oidc{query}")
    assert response.status_code == 303, response.text
    return response.headers["location"]


async def consent(address: str, sub: str) -> str:
    """Sign in at the provider; return where it sends the browser, as path and query."""
    async with httpx.AsyncClient() as http:
        response = await http.post(address, data={"sub": sub})
    back = urlsplit(response.headers["location"])
    assert f"{back.scheme}://{back.netloc}{back.path}" == "http://localhost:4000/console/login/oidc/callback"
    return f"{back.path}?{back.query}"


async def test_a_person_signs_in(database_url: str, issuer: str) -> None:
    async with signing_on(database_url, issuer) as (app, browser):
        assert 'href="/console/login/oidc?to=' in (await browser.get("/console/login")).text
        address = await begin(browser, "?to=/console/events")
        asked = parse_qs(urlsplit(address).query)
        assert asked["response_type"] == ["code"]
        assert asked["code_challenge_method"] == ["S256"]
        assert asked["scope"] == ["openid email profile groups"]
        assert {"state", "nonce", "code_challenge"} <= asked.keys()
        assert "acp-dev-oidc" in browser.cookies
        response = await browser.get(await consent(address, "ana"))
        assert (response.status_code, response.headers["location"]) == (303, "/console/events")
        assert list(browser.cookies) == ["acp-dev"]
        page = (await browser.get("/console/me")).text
        assert "ana@example" in page
        assert "agents:contain" in page
        assert "keys:admin" not in page
        row = (await app.get("/api/audit")).json()["entries"][0]
        assert (row["action"], row["actorId"]) == ("console.login", f"user:{issuer}#ana")
        assert row["actorName"] == "ana@example"
        assert row["details"]["method"] == "oidc"
        assert await value(app, "SELECT count(*) FROM console_sessions WHERE key_family IS NULL") == 1


async def test_who_has_no_role_is_refused_and_told_the_groups(database_url: str, issuer: str) -> None:
    async with signing_on(database_url, issuer) as (app, browser):
        response = await browser.get(await consent(await begin(browser), "bo"))
        assert (response.status_code, browser.cookies) == (403, {})
        assert "staff" in response.text
        assert "⟨U+202E⟩" in response.text
        assert "<b>cafe" not in response.text
        row = (await app.get("/api/audit")).json()["entries"][0]
        assert (row["action"], row["details"]["reason"]) == ("console.login-failed", "no role")


async def test_an_attempt_counts_once_in_its_browser_and_for_ten_minutes(database_url: str, issuer: str) -> None:
    async with signing_on(database_url, issuer) as (app, browser):
        path = await consent(await begin(browser), "ana")
        async with browsing(app) as other:
            assert (await other.get(path)).status_code == 401
            await begin(other)
            assert (await other.get(path)).status_code == 401
            assert other.session is None
        cookie = browser.cookies["acp-dev-oidc"]
        app.clock.ahead = timedelta(minutes=11)
        assert (await browser.get(path)).status_code == 401
        app.clock.ahead = timedelta(0)
        browser.cookies["acp-dev-oidc"] = cookie
        forged = path.replace("state=", "state=A")
        assert (await browser.get(forged)).status_code == 401
        browser.cookies["acp-dev-oidc"] = cookie
        assert (await browser.get(path)).status_code == 303
        browser.cookies["acp-dev-oidc"] = cookie
        assert (await browser.get(path)).status_code == 401  # the provider takes a code once


async def test_a_denial_is_a_page(database_url: str, issuer: str) -> None:
    async with signing_on(database_url, issuer) as (_, browser):
        state = parse_qs(urlsplit(await begin(browser)).query)["state"][0]
        response = await browser.get(f"/console/login/oidc/callback?error=access_denied&state={state}")
        assert (response.status_code, "did not confirm who you are" in response.text) == (401, True)


async def test_a_provider_that_is_away_is_a_page_and_keys_still_work(database_url: str) -> None:
    nowhere = f"http://127.0.0.1:{free_port()}"
    async with signing_on(database_url, nowhere) as (app, browser):
        response = await browser.get("/console/login/oidc")
        assert (response.status_code, "cannot be reached" in response.text) == (503, True)
        assert 'method="oidc",result="unavailable"} 1.0' in (await app.http.get("/api/metrics")).text


async def test_without_the_setting_there_is_no_single_sign_on(database_url: str) -> None:
    async with running_app(database_url) as app, browsing(app) as browser:
        assert "single sign-on" not in (await browser.get("/console/login")).text
        assert (await browser.get("/console/login/oidc")).status_code == 404


def test_a_long_subject_is_a_digest() -> None:
    assert subject_of("https://idp.example", "ana") == "user:https://idp.example#ana"
    long = "s" * 255
    whole = f"user:https://idp.example#{long}"
    assert subject_of("https://idp.example", long) == f"user:sha256:{hashlib.sha256(whole.encode()).hexdigest()}"


# -- a provider that says what a test wants ---------------------------------------------------------

KEY = jwk.RSAKey.generate_key(2048, {"kid": "one"})
OTHER_KEY = jwk.RSAKey.generate_key(2048, {"kid": "one"})
SECRET_KEY = jwk.OctKey.import_key("recognisable-client-secret", {"kid": "one"})


@pytest.fixture
async def liar(database_url: str) -> AsyncIterator[tuple[Provider, App, Browser]]:
    async with Provider() as provider:
        provider.say(
            "/.well-known/openid-configuration",
            {
                "issuer": provider.url,
                "authorization_endpoint": f"{provider.url}/authorize",
                "token_endpoint": f"{provider.url}/token",
                "jwks_uri": f"{provider.url}/keys",
                "userinfo_endpoint": f"{provider.url}/me",
                "id_token_signing_alg_values_supported": ["RS256", "HS256", "none"],
            },
        )
        provider.say("/keys", {"keys": [KEY.as_dict(private=False), {"kty": "unheard-of", "kid": "two"}]})
        async with signing_on(database_url, provider.url) as (app, browser):
            yield provider, app, browser


async def told(
    liar: tuple[Provider, App, Browser], claims: dict[str, Any], *, key: Any = KEY, alg: str = "RS256", query: str = ""
) -> httpx.Response:
    """Begin, have the provider give this ID token, and come back."""
    provider, _, browser = liar
    asked = parse_qs(urlsplit(await begin(browser, query)).query)
    now = int(time.time())
    whole = {
        "iss": provider.url,
        "sub": "ana",
        "aud": "acp",
        "iat": now,
        "exp": now + 60,
        "nonce": asked["nonce"][0],
        "groups": ["sre"],
        **claims,
    }
    given = {name: value for name, value in whole.items() if value is not None}
    token = jwt.encode({"alg": alg, "kid": "one"}, given, key, algorithms=[alg])
    provider.say("/token", {"id_token": token, "access_token": "an-access-token", "token_type": "Bearer"})
    return await browser.get(f"/console/login/oidc/callback?code=c&state={asked['state'][0]}")


async def test_what_a_token_must_say(liar: tuple[Provider, App, Browser]) -> None:
    assert (await told(liar, {})).status_code == 303
    refused: tuple[dict[str, Any], ...] = (
        {"iss": "https://other.example"},
        {"iss": None},
        {"aud": "someone-else"},
        {"aud": None},
        {"aud": 7},
        {"aud": ["acp", "someone-else"]},
        {"aud": ["acp", "someone-else"], "azp": "someone-else"},
        {"azp": "someone-else"},
        {"nonce": "another"},
        {"nonce": None},
        {"exp": int(time.time()) - 120},
        {"exp": None},
        {"iat": int(time.time()) + 600},
        {"nbf": int(time.time()) + 600},
        {"sub": None},
        {"sub": ""},
        {"sub": "a\u0000b"},
        {"sub": "s" * 256},
        {"sub": ["ana"]},
        {"auth_time": "yesterday"},
        {"at_hash": "wrong"},
        {"groups": None},
    )
    for claims in refused:
        response = await told(liar, claims)
        assert response.status_code in (401, 403, 503), claims
    assert (await told(liar, {}, key=OTHER_KEY)).status_code == 401
    assert (await told(liar, {}, key=SECRET_KEY, alg="HS256")).status_code == 401
    assert (await told(liar, {"aud": ["acp", "someone-else"], "azp": "acp"})).status_code == 303
    _, app, _ = liar
    assert await value(app, "SELECT count(DISTINCT id) FROM console_sessions") == 1  # the same person, again


async def test_groups_may_come_with_the_user_info(liar: tuple[Provider, App, Browser]) -> None:
    provider, _, browser = liar
    provider.say("/me", {"sub": "ana", "groups": "sre", "email": "ana@example"})
    assert (await told(liar, {"groups": None})).status_code == 303
    assert "ana@example" in (await browser.get("/console/me")).text
    provider.say("/me", {"sub": "bo", "groups": ["sre"]})
    assert (await told(liar, {"groups": None})).status_code == 401


async def test_a_step_up_needs_a_fresh_proof(liar: tuple[Provider, App, Browser]) -> None:
    _, app, browser = liar
    old = int(time.time()) - 3600
    assert (await told(liar, {"auth_time": old})).status_code == 303
    response = await browser.post("/console/login/oidc", {})
    assert response.status_code == 405
    assert "older than five minutes" in (await browser.get("/console/me")).text
    before = browser.session
    asked = parse_qs(urlsplit(await begin(browser, "?again=1")).query)
    assert (asked["prompt"], asked["max_age"]) == (["login"], ["0"])
    for stale in (None, old, 0):
        assert (await told(liar, {"auth_time": stale}, query="?again=1")).status_code == 401
        assert browser.session == before
    assert (await told(liar, {"auth_time": int(time.time())}, query="?again=1&to=/console/me")).status_code == 303
    assert browser.session != before
    assert "older than five minutes" not in (await browser.get("/console/me")).text
    assert await value(app, "SELECT count(*) FROM admin_audit_log WHERE action = 'console.step-up'") == 1


async def test_a_role_that_is_taken_away_counts_at_once(liar: tuple[Provider, App, Browser], database_url: str) -> None:
    provider, _, browser = liar
    assert (await told(liar, {})).status_code == 303
    async with signing_on(database_url, provider.url, OIDC_ROLE_MAP="sre=auditor") as (_, twin):
        twin.cookies = dict(browser.cookies)
        page = (await twin.get("/console/me")).text
        assert "agents:read" in page
        assert "agents:contain" not in page
    async with signing_on(database_url, provider.url, OIDC_ROLE_MAP="") as (_, twin):
        twin.cookies = dict(browser.cookies)
        assert (await twin.get("/console/me")).status_code == 303


async def test_the_provider_ends_its_sessions_here(liar: tuple[Provider, App, Browser]) -> None:
    provider, _, browser = liar

    async def logout(claims: dict[str, Any], key: Any = KEY) -> int:
        whole = {
            "iss": provider.url,
            "aud": "acp",
            "iat": int(time.time()),
            "jti": "j",
            "events": {"http://schemas.openid.net/event/backchannel-logout": {}},
            **claims,
        }
        token = jwt.encode({"alg": "RS256", "kid": "one"}, whole, key)
        response = await browser.http.post("/console/login/oidc/ended", data={"logout_token": token})
        return response.status_code

    assert (await told(liar, {"sid": "provider-session"})).status_code == 303
    assert await logout({"sid": "another"}) == 204
    assert await logout({"sid": "provider-session"}, OTHER_KEY) == 400
    assert await logout({"sid": "provider-session", "nonce": "n"}) == 400
    assert await logout({"sid": "provider-session", "aud": "someone-else"}) == 400
    assert await logout({"sid": "provider-session", "events": {}}) == 400
    assert await logout({}) == 400
    assert (await browser.get("/console/me")).status_code == 200
    assert await logout({"sid": "provider-session"}) == 204
    assert (await browser.get("/console/me")).status_code == 303
    assert (await told(liar, {})).status_code == 303
    assert await logout({"sub": "ana"}) == 204
    assert (await browser.get("/console/me")).status_code == 303
