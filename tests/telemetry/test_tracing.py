"""Traces as a collector receives them from the real command."""

import asyncio
import sys
import time
from pathlib import Path

import httpx
import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from tests.support.app import AUTH
from tests.support.process import Process, free_port
from tests.support.provider import Provider
from tests.support.receiver import Answer, receiver
from tests.telemetry.collector import Collector, attributes

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
PARENT_ID = "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE_ID}-{PARENT_ID}-01"


def test_a_request_its_statements_and_the_jobs(database_url: str, tmp_path: Path) -> None:
    with (
        Collector() as collector,
        Process(
            database_url,
            tmp_path / "log",
            OTEL_ENABLED="true",
            OTEL_EXPORTER_OTLP_ENDPOINT=collector.url + "/",
            OTEL_SERVICE_NAME="cp-under-test",
        ) as server,
    ):
        headers = {**AUTH, "x-request-id": "the-request", "traceparent": TRACEPARENT}
        assert httpx.get(f"{server.url}/api/events/history?aid=aid-of-nobody", headers=headers).status_code == 200
        httpx.get(f"{server.url}/api/registry/agents/nobody")
        assert server.terminate() == 0  # what is waiting is sent on the way out

        assert collector.paths == {"/v1/traces"}
        assert collector.resources[0]["service.name"] == "cp-under-test"
        (request,) = collector.named("GET /api/events/history")
        assert (request.trace_id.hex(), request.parent_span_id.hex()) == (TRACE_ID, PARENT_ID)
        assert attributes(request) == {
            "http.request.method": "GET",
            "http.route": "/api/events/history",
            "http.response.status_code": 200,
            "aitp.request_id": "the-request",
        }
        statements = [span for span in collector.spans if span.parent_span_id == request.span_id]
        (read,) = [span for span in statements if "audit_events" in attributes(span)["db.query.text"]]
        assert read.name == "SELECT"
        assert read.start_time_unix_nano >= request.start_time_unix_nano
        assert read.end_time_unix_nano <= request.end_time_unix_nano
        assert [
            attributes(span)["http.response.status_code"] for span in collector.named("GET /api/registry/agents/:aid")
        ]
        job = collector.named("job retention.sweep")[0]
        swept = [attributes(span)["db.query.text"] for span in collector.spans if span.parent_span_id == job.span_id]
        assert any(text.startswith("DELETE FROM idempotency_keys") for text in swept)
        assert "aid-of-nobody" not in str(collector.spans)


def parent(collector: Collector, span: Span) -> Span:
    (above,) = [one for one in collector.spans if one.span_id == span.parent_span_id]
    return above


@pytest.mark.anyio
async def test_outbound_calls_show_where_they_went_and_never_what_they_carried(
    database_url: str, tmp_path: Path
) -> None:
    async with receiver(Answer(500)) as broken, Provider() as provider:
        provider.say("/undisclosed-path", {"keys": []})
        hook = {"url": f"{broken.url}/undisclosed-path?key=undisclosed-query", "secret": "undisclosed-secret"}
        anchor = {"issuerUrl": "https://issuer.example", "jwksUrl": f"{provider.url}/undisclosed-path"}
        closed = free_port()
        with (
            Collector() as collector,
            Process(
                database_url,
                tmp_path / "log",
                WEBHOOK_ALLOWED_CIDRS="127.0.0.0/8",
                OTEL_ENABLED="true",
                OTEL_EXPORTER_OTLP_ENDPOINT=collector.url,
            ) as server,
        ):
            async with httpx.AsyncClient(base_url=server.url, headers=AUTH) as http:
                for body in (hook, {"url": f"http://127.0.0.1:{closed}/undisclosed-path"}):
                    created = (await http.post("/api/webhooks", json=body)).json()
                    assert (await http.post(f"/api/webhooks/{created['id']}/test")).status_code == 202
                assert (await http.post("/api/trust-anchors", json=anchor)).status_code == 201
            await broken.wait_for(1)
            await provider.asked_for("/undisclosed-path")
            # An attempt in flight is finished, what is waiting is sent.
            assert await asyncio.to_thread(server.terminate) == 0
        posted, fetched = broken.port, provider.port

    calls = {attributes(span)["server.port"]: span for name in ("POST", "GET") for span in collector.named(name)}
    post, get, refused = calls[posted], calls[fetched], calls[closed]
    assert attributes(post) == {
        "http.request.method": "POST",
        "http.response.status_code": 500,
        "server.address": "127.0.0.1",
        "server.port": posted,
    }
    assert attributes(get)["http.response.status_code"] == 200
    assert attributes(refused)["error.type"] == "Unreachable"
    assert {span.kind for span in calls.values()} == {Span.SPAN_KIND_CLIENT}
    failed = [span.status.code == Status.STATUS_CODE_ERROR for span in (post, get, refused)]
    assert failed == [True, False, True]
    assert parent(collector, post).name == "webhook delivery"
    assert parent(collector, get).name == "job truststore.jwks"
    assert "undisclosed" not in str(collector.spans)
    assert not {"traceparent", "tracestate"} & set(broken.got[0].headers)


def test_the_endpoint_for_traces_is_taken_as_it_is(database_url: str, tmp_path: Path) -> None:
    with (
        Collector() as collector,
        Process(
            database_url,
            tmp_path / "log",
            OTEL_ENABLED="true",
            OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:1",
            OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=f"{collector.url}/own/path",
        ),
    ):
        collector.until(lambda: collector.named("GET /api/readyz"))
        assert collector.paths == {"/own/path"}


def test_a_collector_that_is_away_costs_a_few_seconds_at_the_end(database_url: str, tmp_path: Path) -> None:
    nowhere = f"http://127.0.0.1:{free_port()}"
    with Process(database_url, tmp_path / "log", OTEL_ENABLED="true", OTEL_EXPORTER_OTLP_ENDPOINT=nowhere) as server:
        assert httpx.get(f"{server.url}/api/health").status_code == 200
        began = time.monotonic()
        assert server.terminate() == 0
        assert time.monotonic() - began < 8


def test_nothing_of_it_is_loaded_when_off(database_url: str, tmp_path: Path) -> None:
    with Process(database_url, tmp_path / "log") as server:
        loaded = Path(f"/proc/{server.running.pid}/maps")
        if sys.platform == "linux":
            assert "google/_upb" not in loaded.read_text()
        assert httpx.get(f"{server.url}/api/health").status_code == 200
