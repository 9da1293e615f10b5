"""Refusals, timeouts, and responses that are not from a control plane."""

import logging
import traceback
from collections.abc import Callable
from typing import Any

import pytest

from aitp_cp_client import ControlPlane, ControlPlaneError, Retries
from client.tests.support import IMPATIENT, answered, collected
from tests.support.app import API_KEY
from tests.support.process import Process, free_port
from tests.support.receiver import Answer, Received, receiver

pytestmark = pytest.mark.anyio

ENTRIES = b'{"entries":[],"count":0}'
BREAKER = b'{"state":"closed","failures":0,"consecutiveSuccesses":0,"openedAt":null,"nextProbeAt":null}'
LIMITED = b'{"error":"rate limit exceeded","code":"RATE_LIMITED","bucket":"api-key"}'


def in_turn(*responses: Answer) -> Callable[[Received], Answer]:
    """Answer with each in turn, then always with the last."""
    left = list(responses)
    return lambda _: left.pop(0) if len(left) > 1 else left[0]


async def test_a_wrong_key(server: Process) -> None:
    async with ControlPlane(server.url, "wrong-canary") as control_plane:
        with pytest.raises(ControlPlaneError) as refused:
            await control_plane.audit.page()
        assert (refused.value.status, refused.value.code) == (401, "INVALID_API_KEY")
        assert refused.value.request_id
        assert refused.value.request_id in str(refused.value)
        assert await control_plane.agents.page() is not None


async def test_the_key_is_sent_only_to_endpoints_that_need_it() -> None:
    async with answered(Answer(body=b'{"agents":[],"entries":[]}')) as (client, upstream):
        await client.agents.page()
        await client.audit.page()
        assert [request.headers.get("authorization") for request in upstream.got] == [None, f"Bearer {API_KEY}"]
        assert [request.path for request in upstream.got] == [
            "/under/a/path/api/registry/agents?limit=200&offset=0",
            "/under/a/path/api/audit?limit=100&offset=0",
        ]
        assert all(request.headers["x-request-id"] for request in upstream.got)


async def test_the_key_is_shown_nowhere(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    for behave in (
        Answer(drop=True),
        Answer(500, b"<html>"),
        Answer(raw=b"nonsense\r\n\r\n"),
        Answer(raw=b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{}"),
    ):
        async with answered(behave) as (client, _):
            with pytest.raises(ControlPlaneError) as failed:
                await client.audit.page()
            shown = "".join(traceback.format_exception(failed.value))
            assert API_KEY not in shown + repr(failed.value) + repr(client) + repr(vars(failed.value))
            assert (failed.value.__cause__, failed.value.__context__) == (None, None)
    assert API_KEY not in caplog.text


@pytest.mark.parametrize("key", ["two words", "new\nline", "ünicode"])
def test_a_key_that_is_no_header_value(key: str) -> None:
    with pytest.raises(ValueError, match="API key") as refused:
        ControlPlane("http://127.0.0.1:4000", key)
    assert key not in str(refused.value)


async def test_a_redirect_is_not_followed() -> None:
    async with receiver(Answer(body=ENTRIES)) as elsewhere:
        async with answered(Answer(302, headers={"Location": elsewhere.url})) as (client, _):
            with pytest.raises(ControlPlaneError, match="redirect") as refused:
                await client.audit.page()
        assert (refused.value.status, refused.value.code) == (302, "ANSWER_INVALID")
        assert elsewhere.got == []


async def test_a_response_that_is_not_from_a_control_plane() -> None:
    for response in (Answer(200, b"<html>"), Answer(200, b'{"entries":1}'), Answer(403, b'"no"'), Answer(403, b"{}")):
        async with answered(response) as (client, _):
            with pytest.raises(ControlPlaneError, match="URL right") as refused:
                await client.audit.page()
            assert (refused.value.status, refused.value.code) == (response.status, "ANSWER_INVALID")


async def test_an_unreachable_server() -> None:
    async with ControlPlane(f"http://127.0.0.1:{free_port()}", retries=Retries(times=1)) as client:
        with pytest.raises(ControlPlaneError, match="refused") as failed:
            await client.health()
    assert (failed.value.code, failed.value.status) == ("UNREACHABLE", None)


async def test_a_timeout_is_not_retried() -> None:
    async with answered(Answer(wait_secs=30), IMPATIENT) as (client, upstream):
        with pytest.raises(ControlPlaneError) as failed:
            await client.audit.page()
        assert failed.value.code == "TIMED_OUT"
        assert len(upstream.got) == 1


async def test_transient_failures_are_retried() -> None:
    passing = in_turn(Answer(503, b"{}", {"Retry-After": "0"}), Answer(drop=True), Answer(502), Answer(body=ENTRIES))
    async with answered(passing) as (client, upstream):
        assert await client.audit.page() == []
        assert len(upstream.got) == 4
        assert len({request.headers["x-request-id"] for request in upstream.got}) == 1


async def test_retries_end_with_the_servers_retry_after() -> None:
    async with answered(Answer(429, LIMITED, {"Retry-After": "0"})) as (client, upstream):
        with pytest.raises(ControlPlaneError) as refused:
            await client.audit.page()
        assert len(upstream.got) == 4
        assert (refused.value.code, refused.value.retry_after) == ("RATE_LIMITED", 0)
        assert refused.value.extra == {"bucket": "api-key"}
    async with answered(Answer(429, LIMITED, {"Retry-After": "31"})) as (client, upstream):
        with pytest.raises(ControlPlaneError) as refused:
            await client.audit.page()
        assert (len(upstream.got), refused.value.retry_after) == (1, 31)


async def test_a_request_with_a_possible_effect_is_sent_once() -> None:
    for response in (Answer(drop=True), Answer(503, b"{}", {"Retry-After": "0"})):
        async with answered(response) as (client, upstream):
            for call in (client.webhooks.test, client.webhooks.reset_breaker, client.webhooks.update):
                upstream.got.clear()
                with pytest.raises(ControlPlaneError):
                    await call("1")
                assert len(upstream.got) == 1
    async with answered(in_turn(Answer(429, LIMITED, {"Retry-After": "0"}), Answer(200, BREAKER))) as (
        client,
        upstream,
    ):
        assert (await client.webhooks.reset_breaker("1")).state == "closed"
        assert len(upstream.got) == 2


async def test_a_retried_change_keeps_its_idempotency_key() -> None:
    jti = "7d9f1f4e-3c3b-4b5c-9a55-0d6d8f0f2b11"
    done = Answer(201, b'{"jti":"%b","revokedAt":"2025-01-01T00:00:00.000Z","reason":null}' % jti.encode())
    running = Answer(409, b'{"error":"running","code":"IDEMPOTENCY_IN_FLIGHT"}', {"Retry-After": "0"})
    async with answered(in_turn(Answer(drop=True), running, done)) as (client, upstream):
        await client.revocations.add(jti)
        assert len({request.headers["idempotency-key"] for request in upstream.got}) == 1
        assert len({request.body for request in upstream.got}) == 1
        upstream.got.clear()
        await client.revocations.add(jti, idempotency_key="mine")
        assert upstream.got[0].headers["idempotency-key"] == "mine"


async def test_a_rate_limit_of_a_real_server(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    limits: dict[str, Any] = {"RATE_LIMIT_ENABLED": "true", "RATE_LIMIT_API_KEY_PER_MIN": "1"}
    log = tmp_path_factory.mktemp("limited") / "log"
    with Process(database_url, log, **limits, RATE_LIMIT_WINDOW_MS="3600000") as limited:
        async with ControlPlane(limited.url, API_KEY) as control_plane:
            await control_plane.audit.page()
            with pytest.raises(ControlPlaneError) as refused:
                await control_plane.audit.page()
    assert (refused.value.status, refused.value.code) == (429, "RATE_LIMITED")
    assert 3000 < (refused.value.retry_after or 0) <= 3600


async def test_an_html_page_is_no_export() -> None:
    page = Answer(body=b"<html>welcome</html>", headers={"Content-Type": "text/html; charset=utf-8"})
    async with answered(page) as (client, _):
        for file in (
            collected(client.agents.export("aid")),
            collected(client.agents.export("aid", "jsonl")),
            collected(client.sessions.export("session")),
            client.agents.manifest("aid"),
        ):
            with pytest.raises(ControlPlaneError, match="URL right") as refused:
                await file
            assert (refused.value.status, refused.value.code) == (200, "ANSWER_INVALID")


async def test_an_incomplete_export_is_an_error() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    raw = head + b'5\r\n{"a":\r\n'
    async with answered(Answer(raw=raw)) as (client, _):
        with pytest.raises(ControlPlaneError) as failed:
            await collected(client.agents.export("aid"))
    assert failed.value.code == "CUT_SHORT"
