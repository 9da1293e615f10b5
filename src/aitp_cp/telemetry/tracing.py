"""Traces by OTLP over HTTP (contract, section 15). Imported only if traces are exported."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span as OtelSpan
from opentelemetry.trace import SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from aitp_cp import __version__
from aitp_cp.settings import Settings
from aitp_cp.telemetry.spans import Attributes, Kind, Span, Tracer

DEFAULT_ENDPOINT = "http://localhost:4318"
PATH = "/v1/traces"
# Bounds for an unavailable collector: it must not delay the end of the process or fill its memory.
EXPORT_TIMEOUT_SECS = 3
FLUSH_MS = 4000
MAX_QUEUED_SPANS = 8192
EXPORT_INTERVAL_MS = 1000
STATUS = "http.response.status_code"
KINDS = {"internal": SpanKind.INTERNAL, "server": SpanKind.SERVER}

_w3c = TraceContextTextMapPropagator()


class Tracing(Tracer):
    """The tracer of a process; `OTEL_*` sets samplers, resource attributes and the exporter's headers."""

    def __init__(self, settings: Settings) -> None:
        resource = Resource.create({SERVICE_NAME: settings.otel_service_name, SERVICE_VERSION: __version__})
        general_endpoint = settings.otel_exporter_otlp_endpoint or DEFAULT_ENDPOINT
        endpoint = settings.otel_exporter_otlp_traces_endpoint or general_endpoint.rstrip("/") + PATH
        exporter = OTLPSpanExporter(endpoint=endpoint, timeout=EXPORT_TIMEOUT_SECS)
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(
            BatchSpanProcessor(exporter, max_queue_size=MAX_QUEUED_SPANS, schedule_delay_millis=EXPORT_INTERVAL_MS)
        )
        self._tracer = self._provider.get_tracer("aitp_cp", __version__)

    @contextmanager
    def span(
        self,
        name: str,
        attributes: Attributes | None = None,
        *,
        kind: Kind = "internal",
        carrier: Attributes | None = None,
    ) -> Iterator["_Span"]:
        """Open a span around a block; it keeps only the type of a failure, because the text may hold secrets."""
        context = _w3c.extract(carrier) if carrier else None
        with self._tracer.start_as_current_span(
            name,
            context,
            KINDS[kind],
            dict(attributes or {}),
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            try:
                yield _Span(span)
            except BaseException as failure:
                _failed(span, failure)
                raise

    def statement(self, sql: str, secs: float, failure: BaseException | None) -> None:
        """Record a statement that has just ended; its text holds no values."""
        text = " ".join(sql.split())
        name = text.partition(" ")[0].rstrip(";") or "SQL"
        self._record(name, {"db.system.name": "postgresql", "db.query.text": text}, secs, failure)

    def call(self, method: str, attributes: Attributes, secs: float, failure: BaseException | None) -> None:
        """Record an outbound request that has just ended; the trace is not propagated to the receiver."""
        self._record(method, {"http.request.method": method, **attributes}, secs, failure)

    def _record(self, name: str, attributes: Attributes, secs: float, failure: BaseException | None) -> None:
        end = time.time_ns()
        span = self._tracer.start_span(
            name, kind=SpanKind.CLIENT, attributes=dict(attributes), start_time=end - int(secs * 1e9)
        )
        if failure is not None:
            _failed(span, failure)
        elif int(attributes.get(STATUS, 0)) >= 400:
            span.set_status(StatusCode.ERROR)
        span.end(end)

    def close(self) -> None:
        """Export the queued spans, for a few seconds at most."""
        self._provider.force_flush(FLUSH_MS)
        self._provider.shutdown()


class _Span(Span):
    def __init__(self, span: OtelSpan) -> None:
        self._span = span

    def describe(self, name: str, attributes: Attributes, *, failed: bool = False) -> None:
        self._span.update_name(name)
        self._span.set_attributes(dict(attributes))
        if failed:
            self._span.set_status(StatusCode.ERROR)


def _failed(span: Any, failure: BaseException) -> None:
    span.set_attribute("error.type", type(failure).__name__)
    span.set_status(StatusCode.ERROR)
