"""GET /api/metrics (contract, sections 6 and 14)."""

import re

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.app import App, running_app

pytestmark = pytest.mark.anyio

PREFIX = "aitp_control_plane_"


async def scraped(app: App) -> dict[str, list[tuple[dict[str, str], float]]]:
    response = await app.http.get("/api/metrics")
    assert (response.status_code, response.headers["content-type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    samples: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in text_string_to_metric_families(response.text):
        for sample in family.samples:
            samples.setdefault(sample.name, []).append((sample.labels, sample.value))
    return samples


async def test_it_can_be_parsed_and_holds_nothing_that_breaks_a_dashboard(database_url: str) -> None:
    async with running_app(database_url) as app:
        await app.post("/api/events", [{"type": 'odd{}"\\\n type'}])
        await app.http.get("/api/registry/agents/{aid}")
        samples = await scraped(app)
    assert all(name.startswith(PREFIX) for name in samples)
    for name, values in samples.items():
        for labels, value in values:
            assert value == value, name  # no NaN
            assert not [label for label in labels.values() if "}" in label], name


async def test_each_bucket_is_shown_before_its_first_drop(database_url: str) -> None:
    async with running_app(database_url, RATE_LIMIT_ENABLED="true") as app:
        drops = (await scraped(app))[f"{PREFIX}rate_limit_drops"]
    assert sorted((labels["bucket"], value) for labels, value in drops) == [
        ("agent", 0),
        ("agent-auth-ip", 0),
        ("api-key", 0),
        ("caller-reads", 0),
        ("console", 0),
        ("enroll-ip", 0),
        ("login-ip", 0),
        ("login-subject", 0),
        ("public-ip", 0),
    ]


async def test_latency_is_by_template_method_and_class_of_status(database_url: str) -> None:
    async with running_app(database_url) as app:
        for path in ("/api/registry/agents/one", "/api/registry/agents/two", "/no/such/route", "/api/livez"):
            await app.http.get(path)
        await app.http.request("PROPFIND", "/api/livez")
        samples = await scraped(app)
    counted = {
        (labels["route"], labels["method"], labels["status"]): value
        for labels, value in samples[f"{PREFIX}http_request_duration_seconds_count"]
    }
    assert not [route for route, _, _ in counted if re.search("one|two|such", route)]
    assert [value for (route, method, status), value in counted.items() if "agents" in route and status == "4xx"] == [2]
    assert ("unmatched", "other", "4xx") in counted
