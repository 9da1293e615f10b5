"""A stranger's headers decide nothing about what operators see (row A14)."""

from pathlib import Path

import httpx
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.support.app import AUTH
from tests.support.process import Process
from tests.telemetry.collector import Collector, attributes

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
PARENT_ID = "b7ad6b7169203331"
STRANGERS: tuple[dict[str, str], ...] = ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic abc"})


def trace(sampled: str) -> dict[str, str]:
    state = ",".join(f"vendor{n}={'v' * 200}" for n in range(30))
    return {"traceparent": f"00-{TRACE_ID}-{PARENT_ID}-{sampled}", "tracestate": state}


def sent(database_url: str, log: Path, sampler: str) -> Collector:
    """What was exported of a stranger's requests and of two of a key holder, each with a trace context."""
    with (
        Collector() as collector,
        Process(
            database_url,
            log,
            OTEL_ENABLED="true",
            OTEL_EXPORTER_OTLP_ENDPOINT=collector.url,
            OTEL_TRACES_SAMPLER=sampler,
        ) as server,
    ):
        for flag in ("00", "01"):
            for headers in STRANGERS:
                for path in ("/api/registry/agents", "/api/audit"):
                    httpx.get(server.url + path, headers={**headers, **trace(flag), "x-request-id": f"stranger-{flag}"})
            headers = {**AUTH, **trace(flag), "x-request-id": f"operator-{flag}"}
            assert httpx.get(f"{server.url}/api/webhooks", headers=headers).status_code == 200
        assert server.terminate() == 0
        return collector


def served(collector: Collector) -> list[Span]:
    return [span for span in collector.spans if span.kind == Span.SPAN_KIND_SERVER]


def requests(spans: list[Span]) -> list[str]:
    return [str(attributes(span)["aitp.request_id"]) for span in spans]


def test_a_stranger_hides_no_span(database_url: str, tmp_path: Path) -> None:
    """Row A14: `traceparent …-00` without a valid key hides nothing; a key holder's counts."""
    spans = served(sent(database_url, tmp_path / "log", "parentbased_always_on"))
    found = requests(spans)
    assert [found.count(f"stranger-{flag}") for flag in ("00", "01")] == [6, 6]
    assert [found.count(f"operator-{flag}") for flag in ("00", "01")] == [0, 1]
    assert requests([span for span in spans if span.trace_id.hex() == TRACE_ID]) == ["operator-01"]
    assert requests([span for span in spans if span.trace_state]) == ["operator-01"]


def test_a_stranger_forces_no_span(database_url: str, tmp_path: Path) -> None:
    """Row A14: `traceparent …-01` without a valid key is sampled like any other request."""
    spans = served(sent(database_url, tmp_path / "log", "parentbased_always_off"))
    assert requests(spans) == ["operator-01"]
