"""The whole kit against the real command: in production behind nginx, in development behind HAProxy."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from aitp_cp_conformance.catalogue import ATTACKS, CHECKS
from aitp_cp_conformance.check import Check
from aitp_cp_conformance.model import Options, Report
from aitp_cp_conformance.runner import run
from tests.support.app import API_KEY, AUTH
from tests.support.gateways import gateway, installed
from tests.support.postgres import migrated_database
from tests.support.process import Process

ORIGIN = "https://console.example"
# High limits, so that nothing waits; the second run has the default limits.
PRODUCTION: dict[str, Any] = {
    "CP_ENV": "production",
    "TRUSTED_PROXY_HOPS": "1",
    "CP_BASE_URL": "https://cp.example",
    "CORS_ORIGIN": f"{ORIGIN},https://other.example",
    "RATE_LIMIT_ENABLED": "true",
    "RATE_LIMIT_ENROLLMENT_PER_IP_MIN": "100000",
    "RATE_LIMIT_PUBLIC_PER_IP_MIN": "100000",
    "RATE_LIMIT_API_KEY_PER_MIN": "100000",
}
# The default limits, with a window of one second instead of one minute.
DEVELOPMENT: dict[str, Any] = {
    "CP_ENV": "development",
    "TRUSTED_PROXY_HOPS": "1",
    "RATE_LIMIT_ENABLED": "true",
    "RATE_LIMIT_WINDOW_MS": "1000",
    "WEBHOOK_ALLOWED_CIDRS": "127.0.0.0/8",
}
# The reference files of deploy/ deny the metrics, and nginx and HAProxy end a chunk at a bare LF.
HIDDEN_BY_A_PROXY = {
    *(check.name for check in CHECKS if check.name.startswith("metrics.")),
    "health.metrics",
    "attacks.bare_line_feeds",
}
# Production allows no local receiver, and no check reaches the high limits.
SKIPPED_IN_PRODUCTION = {
    *(check.name for check in CHECKS if check.name.startswith(("deliveries.", "outages."))),
    "rate_limits.refusal",
    "rate_limits.retry_after",
    "rate_limits.refusal_figures",
    "rate_limits.forged_addresses",
}
SKIPPED_IN_DEVELOPMENT = {"webhooks.plain_url", "enrolment.plain_endpoint"}


@contextmanager
def behind(kind: str, server: Process, folder: Path) -> Iterator[str]:
    """Yield the URL of a proxy that has the reference file of deploy/, in front of the server."""
    if not installed(kind):
        pytest.skip(f"LEFT OUT: conformance behind {kind}, for it is not installed (.ci/setup)")
    with gateway(kind, server.port, folder) as port:
        yield f"http://127.0.0.1:{port}"


def checked(url: str, checks: Sequence[Check] = CHECKS + ATTACKS, **options: Any) -> Report:
    # The address is never connected to: webhooks of these checks are inactive.
    return asyncio.run(run(Options(url=url, api_key=API_KEY, webhook_host="1.1.1.1", **options), checks))


def failures(report: Report) -> list[str]:
    return [f"{result.name}: {result.detail}" for result in report.results if result.outcome == "failed"]


def skipped(report: Report) -> set[str]:
    return {result.name for result in report.results if result.outcome == "skipped"}


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Process, Report]]:
    folder = tmp_path_factory.mktemp("deployed")
    with migrated_database() as dsn, Process(dsn, folder / "log", **PRODUCTION) as server:
        with behind("nginx", server, folder) as url:
            report = checked(url, environment="production", origin=ORIGIN, metrics=False)
        yield server, report
        assert server.terminate() == 0


def test_a_production_deployment_passes_every_check(deployed: tuple[Process, Report]) -> None:
    server, report = deployed
    assert failures(report) == []
    assert skipped(report) == SKIPPED_IN_PRODUCTION | HIDDEN_BY_A_PROXY
    assert len(report.results) == len(CHECKS + ATTACKS)
    assert "Traceback" not in server.log()


def test_a_replica_passes_what_a_proxy_hides(deployed: tuple[Process, Report]) -> None:
    report = checked(deployed[0].url, [check for check in CHECKS + ATTACKS if check.name in HIDDEN_BY_A_PROXY])
    assert {result.outcome for result in report.results} == {"passed"}, failures(report)


def test_nothing_is_left_behind(deployed: tuple[Process, Report]) -> None:
    server, report = deployed
    assert report.left == []
    with httpx.Client(base_url=server.url, headers=AUTH) as http:
        assert http.get("/api/registry/agents").json() == {"agents": []}
        assert http.get("/api/webhooks").json() == {"webhooks": []}
        assert http.get("/api/trust-anchors").json() == {"trustAnchors": []}
        assert http.get("/api/pinned-keys").json() == {"pinnedKeys": []}


def test_a_deployment_without_any_key_passes_what_needs_none(database_url: str, tmp_path: Path) -> None:
    checks = [check for check in CHECKS if check.section in ("8", "22", "25")]
    with Process(database_url, tmp_path / "log", **{**DEVELOPMENT, "API_KEYS": "", "RATE_LIMIT_ENABLED": ""}) as server:
        report = asyncio.run(run(Options(url=server.url, environment="development"), checks))
        assert failures(report) == []
        assert "operators.search" not in skipped(report)


def test_a_development_deployment_passes_the_checks_of_deliveries_and_limits(database_url: str, tmp_path: Path) -> None:
    with Process(database_url, tmp_path / "log", **DEVELOPMENT) as server:
        with behind("haproxy", server, tmp_path) as url:
            report = checked(url, environment="development", receiver_host="127.0.0.1", metrics=False)
        assert failures(report) == []
        assert skipped(report) == SKIPPED_IN_DEVELOPMENT | HIDDEN_BY_A_PROXY
        assert report.left == []
        assert "Traceback" not in server.log()
