"""No cache header outlives what it caches (issue 1: near expiry, short settings, an outage)."""

import re
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest

from aitp_cp.web.responses import max_age
from tests.support.agents import manifest, new_agent
from tests.support.app import running_app
from tests.support.enrolment import registered
from tests.support.proxy import Proxy

pytestmark = pytest.mark.anyio

LIST = "/.well-known/aitp-revocation-list"
OWN = "/.well-known/aitp-manifest"


@pytest.fixture
async def proxy(database_url: str) -> AsyncIterator[Proxy]:
    async with Proxy(database_url) as between:
        yield between


def cached_secs(response: httpx.Response) -> int:
    """How long a cache may keep the answer."""
    header = response.headers["cache-control"]
    found = re.search(r"max-age=(\d+)", header)
    assert found or header == "no-store"
    return int(found.group(1)) if found else 0


@pytest.mark.parametrize("left", [86_000, 61, 31, 30, 5, 2, 1])
async def test_a_record_is_cached_no_longer_than_it_is_active(database_url: str, left: int) -> None:
    """The record and the manifest of an agent that expires in 5 s say so for 5 s at most, from memory or not."""
    async with running_app(database_url) as app:
        aid = (await registered(app, manifest(new_agent())))["aid"]
        async with app.rt.db.connection() as conn:
            expires_at: datetime = await conn.fetchval("SELECT manifest_expires_at FROM agents")
        app.clock.ahead += expires_at - app.clock() - timedelta(seconds=left)
        for path, most in ((f"/api/registry/agents/{aid}", 30), (f"/api/registry/agents/{aid}/manifest", 60)):
            for _ in range(8):
                # The time before the request: a cache counts from the answer, which is never earlier.
                left_secs = (expires_at - app.clock()).total_seconds()
                response = await app.http.get(path)
                assert response.status_code == 200
                assert cached_secs(response) <= min(most, left_secs)
            if left > 61:
                assert cached_secs(response) == most


async def test_the_own_manifest_is_renewed_before_caches_hold_it_too_long(database_url: str) -> None:
    """Whatever the hour, what is left of the control plane's manifest is more than its max-age."""
    async with running_app(database_url) as app:
        first = await app.http.get(OWN)
        for minutes in (0, 60 * 22 + 55, 60 * 22 + 59):
            app.clock.ahead = timedelta(minutes=minutes)
            response = await app.http.get(OWN)
            left = response.json()["manifest"]["expires_at"] - app.clock().timestamp()
            assert (response.content, cached_secs(response)) == (first.content, 3600)
            assert left > 3600 - 2
        app.clock.ahead = timedelta(hours=23, seconds=1)
        # The SDK signs by the system's clock, so a manifest of a later hour cannot be looked at here.
        assert (await app.http.get(OWN)).content != first.content


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"REVOCATION_LIST_TTL_SECS": "90"},
        {"REVOCATION_LIST_TTL_SECS": "30"},
        {"REVOCATION_LIST_TTL_SECS": "1"},
        {"REVOCATION_MAX_STALENESS_SECS": "10"},
    ],
)
async def test_the_signed_list_is_cached_no_longer_than_it_is_vouched_for(
    database_url: str, settings: dict[str, Any]
) -> None:
    """A short life of the list or a short bound on its staleness shortens what caches are told; 304 says the same."""
    async with running_app(database_url, **settings) as app:
        response = await app.http.get(LIST)
        left = response.json()["revocation_list"]["expires_at"] - app.clock().timestamp()
        assert cached_secs(response) <= min(left + 1, app.rt.settings.revocation_max_staleness_secs)
        again = await app.http.get(LIST, headers={"If-None-Match": response.headers["etag"]})
        assert again.status_code in {200, 304}
        assert cached_secs(again) <= cached_secs(response)
        if not settings:
            assert response.headers["cache-control"] == "max-age=60"


async def test_an_outage_shortens_what_caches_may_keep(proxy: Proxy) -> None:
    """A list that may be served for 20 s more, for the database is away, may be cached for as long."""
    async with running_app(proxy.dsn) as app:
        assert cached_secs(await app.http.get(LIST)) == 60
        await proxy.stop()
        for age, most in ((100, 60), (230, 60), (280, 20), (299, 1)):
            app.clock.ahead = timedelta(seconds=age)
            response = await app.http.get(LIST)
            assert response.status_code == 200
            assert most - 2 <= cached_secs(response) <= most


@pytest.mark.parametrize(
    ("left", "header"),
    [(1e9, "max-age=60"), (60.9, "max-age=60"), (59.9, "max-age=59"), (0.9, "no-store"), (-1, "no-store")],
)
def test_what_is_left_bounds_the_header(left: float, header: str) -> None:
    """Rounded down, and nothing is cached in the last second."""
    assert max_age(60, left) == header
