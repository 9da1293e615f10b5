"""Token buckets as a client meets them (contract, section 4)."""

import time

import httpx
import pytest

from tests.support.app import API_KEY, AUTH, OTHER_KEY, App, running_app

pytestmark = pytest.mark.anyio

LIMITS = {
    "RATE_LIMIT_ENABLED": "true",
    "RATE_LIMIT_ENROLLMENT_PER_IP_MIN": "2",
    "RATE_LIMIT_PUBLIC_PER_IP_MIN": "3",
    "RATE_LIMIT_API_KEY_PER_MIN": "4",
}
AGENTS = "/api/registry/agents"


def assert_refused(response: httpx.Response, bucket: str, limit: int) -> None:
    assert response.status_code == 429
    assert response.json() == {"error": "rate limit exceeded", "code": "RATE_LIMITED", "bucket": bucket}
    assert int(response.headers["retry-after"]) >= 1
    assert (response.headers["x-ratelimit-limit"], response.headers["x-ratelimit-remaining"]) == (str(limit), "0")
    assert time.time() - 1 < int(response.headers["x-ratelimit-reset"]) <= time.time() + 62


async def spend(app: App, times: int, path: str = AGENTS, method: str = "GET", **more: str) -> list[httpx.Response]:
    return [await app.http.request(method, path, headers=more) for _ in range(times)]


async def test_the_public_bucket(shared_database_url: str) -> None:
    async with running_app(shared_database_url, **LIMITS) as app:
        *allowed, refused = await spend(app, 4)
        assert [response.headers["x-ratelimit-remaining"] for response in allowed] == ["2", "1", "0"]
        for response in allowed:
            assert (response.status_code, response.headers["x-ratelimit-limit"]) == (200, "3")
            assert time.time() - 1 < int(response.headers["x-ratelimit-reset"]) <= time.time() + 61
            assert "retry-after" not in response.headers
        assert_refused(refused, "public-ip", 3)
        for path in ("/api/openapi.json", "/api/well-known/aitp-manifest", f"{AGENTS}/x", f"{AGENTS}/x/manifest"):
            assert_refused(await app.http.get(path), "public-ip", 3)
        assert_refused((await spend(app, 1, method="POST"))[0], "public-ip", 3)


async def test_enrolment_has_a_bucket_of_its_own(shared_database_url: str) -> None:
    async with running_app(shared_database_url, **LIMITS) as app:
        first, second, refused = await spend(app, 3, "/api/registry/enroll", "POST")
        assert (first.status_code, second.status_code) == (400, 400)
        assert second.headers["x-ratelimit-remaining"] == "0"
        assert_refused(refused, "enroll-ip", 2)
        assert (await app.http.get(AGENTS)).status_code == 200


async def test_each_key_has_its_own_bucket_wherever_it_comes_from(shared_database_url: str) -> None:
    async with running_app(shared_database_url, **LIMITS, TRUSTED_PROXY_HOPS="1") as app:
        for number in range(4):
            headers = AUTH | {"X-Forwarded-For": f"198.51.100.{number}"}
            response = await app.http.get("/api/audit", headers=headers)
            assert (response.status_code, response.headers["x-ratelimit-limit"]) == (200, "4")
        assert_refused(await app.get("/api/audit"), "api-key", 4)
        other = {"Authorization": f"Bearer {OTHER_KEY}"}
        assert (await app.http.get("/api/audit", headers=other)).headers["x-ratelimit-remaining"] == "3"


async def test_guessing_keys_is_throttled_by_address(shared_database_url: str) -> None:
    async with running_app(shared_database_url, **LIMITS) as app:
        guesses = [await app.http.get("/api/audit", headers={"Authorization": f"Bearer g{n}"}) for n in range(5)]
        assert [guess.status_code for guess in guesses] == [401, 401, 401, 429, 429]
        assert_refused(guesses[3], "public-ip", 3)
        assert_refused(await app.http.get("/api/audit"), "public-ip", 3)
        assert_refused(await app.http.get(AGENTS), "public-ip", 3)
        assert (await app.get("/api/audit")).status_code == 200


async def test_tokens_come_back_evenly(shared_database_url: str) -> None:
    async with running_app(shared_database_url, **LIMITS, RATE_LIMIT_WINDOW_MS="30000") as app:
        refused = (await spend(app, 4))[-1]
        assert refused.headers["retry-after"] == "10"
        app.clock.ahead += app.clock.ahead.resolution * 10_100_000
        assert [response.status_code for response in await spend(app, 2)] == [200, 429]


async def test_probes_well_known_documents_and_preflights_are_exempt(shared_database_url: str) -> None:
    async with running_app(shared_database_url, **LIMITS) as app:
        exempt = (
            "/api/health",
            "/api/livez",
            "/api/readyz",
            "/api/metrics",
            "/.well-known/aitp-manifest",
            "/.well-known/aitp-revocation-list",
        )
        for path in exempt:
            for response in await spend(app, 5, path):
                assert response.status_code == 200
                assert "x-ratelimit-limit" not in response.headers
        assert {response.status_code for response in await spend(app, 10, method="OPTIONS")} == {204}
        assert (await app.http.get(AGENTS)).headers["x-ratelimit-remaining"] == "2"


async def test_zero_disables_a_bucket_and_the_switch_all_of_them(shared_database_url: str) -> None:
    async with running_app(shared_database_url, **LIMITS | {"RATE_LIMIT_PUBLIC_PER_IP_MIN": "0"}) as app:
        responses = await spend(app, 20)
        assert {response.status_code for response in responses} == {200}
        assert "x-ratelimit-limit" not in responses[0].headers
        assert (await app.get("/api/audit")).headers["x-ratelimit-limit"] == "4"
    async with running_app(shared_database_url, **LIMITS | {"RATE_LIMIT_ENABLED": "false"}) as app:
        assert {response.status_code for response in await spend(app, 20)} == {200}


async def test_the_default_limits(shared_database_url: str) -> None:
    async with running_app(shared_database_url, RATE_LIMIT_ENABLED="") as app:
        enrolled = await app.http.post("/api/registry/enroll")
        limits = [response.headers["x-ratelimit-limit"] for response in (enrolled, *await spend(app, 1))]
        assert [*limits, (await app.get("/api/audit")).headers["x-ratelimit-limit"]] == ["5", "60", "600"]


async def test_only_what_the_operator_named_tells_clients_apart(shared_database_url: str) -> None:
    spoofs = [{"X-Forwarded-For": f"10.0.0.{n}", "X-Real-IP": f"10.0.0.{n}"} for n in range(4)]
    async with running_app(shared_database_url, **LIMITS) as app:
        responses = [await app.http.get(AGENTS, headers=spoof) for spoof in spoofs]
        assert [response.status_code for response in responses] == [200, 200, 200, 429]
    async with running_app(shared_database_url, **LIMITS, CLIENT_IP_HEADER="X-Real-IP") as app:
        responses = [await app.http.get(AGENTS, headers=spoof) for spoof in spoofs * 3]
        assert {response.status_code for response in responses} == {200}
    async with running_app(shared_database_url, **LIMITS, TRUSTED_PROXY_HOPS="1") as app:
        behind = [{"X-Forwarded-For": f"{spoof['X-Real-IP']}, 198.51.100.7"} for spoof in spoofs]
        responses = [await app.http.get(AGENTS, headers=spoof) for spoof in behind]
        assert [response.status_code for response in responses] == [200, 200, 200, 429]


async def test_a_refusal_names_no_key_and_is_counted(shared_database_url: str) -> None:
    async with running_app(shared_database_url, **LIMITS) as app:
        for _ in range(6):
            response = await app.get("/api/audit")
        assert API_KEY not in response.text
        scraped = (await app.http.get("/api/metrics")).text
        assert 'aitp_control_plane_rate_limit_drops{bucket="api-key"} 2.0' in scraped
