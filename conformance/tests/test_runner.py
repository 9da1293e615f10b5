"""The start of a run, waiting for rate limits, its end and the cleanup."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from aiohttp import web

from aitp_cp_conformance.catalogue import CHECKS, chosen
from aitp_cp_conformance.check import Check
from aitp_cp_conformance.containment import contained
from aitp_cp_conformance.deployment import Deployment
from aitp_cp_conformance.model import SECTIONS, KeyRefused, Options, Report, Skipped, Unreachable
from aitp_cp_conformance.runner import Watcher, run
from aitp_cp_conformance.trust_store import add_anchor
from tests.support.app import API_KEY, AUTH
from tests.support.postgres import migrated_database
from tests.support.process import Process, free_port

# Checks that pass even if every request gets the same response.
INDIFFERENT = {
    "access.open_routes",
    "access.open_twins",
    "access.open_extensions",
    "cors.origin_refused",
    "health.concurrent",
    "rate_limits.probes",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    with migrated_database() as dsn, Process(dsn, tmp_path_factory.mktemp("runner") / "log") as process:
        yield process


@asynccontextmanager
async def stub(respond: Any) -> AsyncIterator[str]:
    """A server that answers every request with `respond(request)`."""

    async def handle(request: web.Request) -> web.Response:
        await request.read()
        response: web.Response = respond(request)
        return response

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def fixed(status: int, body: str, **headers: str) -> Any:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda _: web.Response(status=status, text=body, headers=named, content_type="application/json")


async def against(respond: Any, checks: tuple[Check, ...] = CHECKS, **options: Any) -> Report:
    async with stub(respond) as url:
        return await run(Options(url=url, **{"patience_secs": 0, **options}), checks)


def single_check(body: Any) -> tuple[Check, ...]:
    return (Check("13", "a sentence for this test", body, extension=False),)


def anchors(server: Process) -> list[Any]:
    rows: list[Any] = httpx.get(f"{server.url}/api/trust-anchors", headers=AUTH).json()["trustAnchors"]
    return rows


def test_every_check_has_a_name_and_a_section_of_the_contract() -> None:
    names = [check.name for check in CHECKS]
    assert len(names) == len(set(names)) >= 300
    assert {check.section for check in CHECKS} == set(SECTIONS)
    assert chosen(frozenset()) == CHECKS
    assert {check.section for check in chosen(frozenset({"9", "11"}))} == {"9", "11"}


@pytest.mark.parametrize(("status", "body"), [(200, "{}"), (200, "<html>"), (500, '{"error":"x","code":"INTERNAL"}')])
def test_a_server_with_one_response_for_everything_passes_almost_no_check(status: int, body: str) -> None:
    report = asyncio.run(against(fixed(status, body), api_key="k", origin="https://browser.example"))
    assert {result.name for result in report.results if result.outcome == "passed"} <= INDIFFERENT
    assert report.count("failed") > 300


def test_an_unreachable_deployment_is_not_a_failed_check() -> None:
    with pytest.raises(Unreachable):
        asyncio.run(run(Options(url=f"http://127.0.0.1:{free_port()}"), CHECKS))


def test_a_refused_key_is_reported_before_anything_is_created(server: Process) -> None:
    with pytest.raises(KeyRefused):
        asyncio.run(run(Options(url=server.url, api_key="wrong"), CHECKS))


def test_checks_that_need_a_key_are_skipped_without_one(server: Process) -> None:
    report = asyncio.run(run(Options(url=server.url), chosen(frozenset({"6", "7", "13"}))))
    outcomes = {section: {r.outcome for r in report.results if r.section == section} for section in ("6", "7", "13")}
    assert outcomes == {"6": {"passed"}, "7": {"passed"}, "13": {"skipped"}}


def test_a_limit_that_needs_more_patience_skips_and_never_passes() -> None:
    limited = fixed(429, '{"error":"x","code":"RATE_LIMITED","bucket":"public-ip"}', Retry_After="7")

    def respond(request: web.Request) -> web.Response:
        response: web.Response = (fixed(200, "{}") if request.path == "/api/audit" else limited)(request)
        return response

    report = asyncio.run(against(respond, chosen(frozenset({"6"}))))
    assert {(result.outcome, result.detail) for result in report.results} == {
        ("skipped", "the rate limit public-ip needs more --patience")
    }


def test_a_run_waits_for_the_seconds_of_retry_after() -> None:
    calls: list[str] = []
    waits: list[str] = []

    def respond(request: web.Request) -> web.Response:
        calls.append(request.path)
        if calls.count("/api/livez") == 1 and request.path == "/api/livez":
            return web.Response(status=429, headers={"Retry-After": "1"})
        return web.json_response({"ok": True})

    async def run_livez() -> Report:
        livez = tuple(check for check in CHECKS if check.name == "health.livez")
        async with stub(respond) as url:
            return await run(Options(url=url, patience_secs=1), livez, Watcher(waits=waits.append))

    report = asyncio.run(run_livez())
    assert [result.outcome for result in report.results] == ["passed"]
    assert (calls.count("/api/livez"), len(waits)) == (2, 1)


def test_records_of_a_failed_check_are_deleted(server: Process) -> None:
    seen: list[int] = []

    async def body(cp: Deployment) -> None:
        await add_anchor(cp)
        seen.append(len(anchors(server)))
        raise KeyError("gone wrong")

    report = asyncio.run(run(Options(url=server.url, api_key=API_KEY), single_check(body)))
    assert [result.outcome for result in report.results] == ["failed"]
    assert (seen, anchors(server), report.left) == ([1], [], [])


def test_records_are_deleted_when_the_run_is_cancelled(server: Process) -> None:
    async def body(cp: Deployment) -> None:
        await add_anchor(cp)
        assert len(anchors(server)) == 1
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(run(Options(url=server.url, api_key=API_KEY), single_check(body)))
    assert anchors(server) == []


def test_no_revoke_adds_no_entry_to_the_deny_list(server: Process) -> None:
    checks = tuple(
        check
        for check in CHECKS
        if check.name.startswith(("revocation.", "containment.", "idempotency.replayed_revocation"))
    )
    report = asyncio.run(run(Options(url=server.url, api_key=API_KEY, revoke=False), checks))
    assert report.count("failed") == 0
    assert report.count("skipped") > 5
    assert httpx.get(f"{server.url}/api/revocation/entries", headers=AUTH).json()["count"] == 0


def test_a_skipped_fixture_skips_the_checks_that_use_it(server: Process) -> None:
    async def preparation(cp: Deployment) -> None:
        raise Skipped("not today")

    async def body(cp: Deployment) -> None:
        await cp.shared(preparation)

    report = asyncio.run(run(Options(url=server.url, api_key=API_KEY), single_check(body) * 2))
    assert [(result.outcome, result.detail) for result in report.results] == [("skipped", "not today")] * 2


def test_an_agent_is_released_when_the_run_is_cancelled(server: Process) -> None:
    async def body(cp: Deployment) -> None:
        await cp.shared(contained)
        assert len(open_containments(server)) == 1
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(run(Options(url=server.url, api_key=API_KEY), single_check(body)))
    assert open_containments(server) == []


def open_containments(server: Process) -> list[Any]:
    response = httpx.get(f"{server.url}/api/containments?open=true", headers=AUTH)
    rows: list[Any] = response.json()["containments"]
    return rows
