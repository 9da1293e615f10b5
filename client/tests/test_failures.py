"""What the client makes of refusals, silence and other people's answers."""

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


def in_turn(*answers: Answer) -> Callable[[Received], Answer]:
    """One after the other; the last one for ever."""
    left = list(answers)
    return lambda _: left.pop(0) if len(left) > 1 else left[0]


async def test_a_wrong_key(server: Process) -> None:
    async with ControlPlane(server.url, "wrong-canary") as control_plane:
        with pytest.raises(ControlPlaneError) as refused:
            await control_plane.audit.page()
        assert (refused.value.status, refused.value.code) == (401, "INVALID_API_KEY")
        assert refused.value.request_id
        assert refused.value.request_id in str(refused.value)
        assert await control_plane.agents.page() is not None


async def test_the_key_goes_only_where_it_is_needed() -> None:
    async with answered(Answer(body=b'{"agents":[],"entries":[]}')) as (client, there):
        await client.agents.page()
        await client.audit.page()
        assert [one.headers.get("authorization") for one in there.got] == [None, f"Bearer {API_KEY}"]
        assert [one.path for one in there.got] == [
            "/under/a/path/api/registry/agents?limit=200&offset=0",
            "/under/a/path/api/audit?limit=100&offset=0",
        ]
        assert all(one.headers["x-request-id"] for one in there.got)


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
def test_a_key_that_no_header_can_carry(key: str) -> None:
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


async def test_an_answer_of_something_else() -> None:
    for answer in (Answer(200, b"<html>"), Answer(200, b'{"entries":1}'), Answer(403, b'"no"'), Answer(403, b"{}")):
        async with answered(answer) as (client, _):
            with pytest.raises(ControlPlaneError, match="URL right") as refused:
                await client.audit.page()
            assert (refused.value.status, refused.value.code) == (answer.status, "ANSWER_INVALID")


async def test_nobody_is_there() -> None:
    async with ControlPlane(f"http://127.0.0.1:{free_port()}", retries=Retries(times=1)) as client:
        with pytest.raises(ControlPlaneError, match="refused") as failed:
            await client.health()
    assert (failed.value.code, failed.value.status) == ("UNREACHABLE", None)


async def test_silence_ends_and_is_not_asked_again() -> None:
    async with answered(Answer(wait_secs=30), IMPATIENT) as (client, there):
        with pytest.raises(ControlPlaneError) as failed:
            await client.audit.page()
        assert failed.value.code == "TIMED_OUT"
        assert len(there.got) == 1


async def test_what_passes_is_tried_again() -> None:
    passing = in_turn(Answer(503, b"{}", {"Retry-After": "0"}), Answer(drop=True), Answer(502), Answer(body=ENTRIES))
    async with answered(passing) as (client, there):
        assert await client.audit.page() == []
        assert len(there.got) == 4
        assert len({one.headers["x-request-id"] for one in there.got}) == 1


async def test_it_gives_up_in_the_end_and_says_when_to_come_back() -> None:
    async with answered(Answer(429, LIMITED, {"Retry-After": "0"})) as (client, there):
        with pytest.raises(ControlPlaneError) as refused:
            await client.audit.page()
        assert len(there.got) == 4
        assert (refused.value.code, refused.value.retry_after) == ("RATE_LIMITED", 0)
        assert refused.value.extra == {"bucket": "api-key"}
    async with answered(Answer(429, LIMITED, {"Retry-After": "31"})) as (client, there):
        with pytest.raises(ControlPlaneError) as refused:
            await client.audit.page()
        assert (len(there.got), refused.value.retry_after) == (1, 31)


async def test_what_may_have_had_an_effect_is_sent_once() -> None:
    for answer in (Answer(drop=True), Answer(503, b"{}", {"Retry-After": "0"})):
        async with answered(answer) as (client, there):
            for call in (client.webhooks.test, client.webhooks.reset_breaker, client.webhooks.update):
                there.got.clear()
                with pytest.raises(ControlPlaneError):
                    await call("1")
                assert len(there.got) == 1
    async with answered(in_turn(Answer(429, LIMITED, {"Retry-After": "0"}), Answer(200, BREAKER))) as (client, there):
        assert (await client.webhooks.reset_breaker("1")).state == "closed"
        assert len(there.got) == 2


async def test_a_change_that_is_sent_again_carries_its_key() -> None:
    jti = "7d9f1f4e-3c3b-4b5c-9a55-0d6d8f0f2b11"
    done = Answer(201, b'{"jti":"%b","revokedAt":"2025-01-01T00:00:00.000Z","reason":null}' % jti.encode())
    running = Answer(409, b'{"error":"running","code":"IDEMPOTENCY_IN_FLIGHT"}', {"Retry-After": "0"})
    async with answered(in_turn(Answer(drop=True), running, done)) as (client, there):
        await client.revocations.add(jti)
        assert len({one.headers["idempotency-key"] for one in there.got}) == 1
        assert len({one.body for one in there.got}) == 1
        there.got.clear()
        await client.revocations.add(jti, idempotency_key="mine")
        assert there.got[0].headers["idempotency-key"] == "mine"


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


async def test_a_page_is_not_handed_on_as_a_file() -> None:
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


async def test_an_export_that_is_cut_short_is_not_taken_for_a_whole_one() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    raw = head + b'5\r\n{"a":\r\n'
    async with answered(Answer(raw=raw)) as (client, _):
        with pytest.raises(ControlPlaneError) as failed:
            await collected(client.agents.export("aid"))
    assert failed.value.code == "CUT_SHORT"
