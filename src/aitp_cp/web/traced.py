"""A span around each request, named by its route template; in place only where traces are exported.

A caller's trace context is followed only with a valid API key: its sampled flag decides whether the span is exported.
A stranger could hide his requests with it, or have all of them exported.
"""

from starlette.datastructures import Headers
from starlette.types import Message, Receive, Scope, Send

from aitp_cp.telemetry.spans import Tracer
from aitp_cp.web.context import CONTEXT, RequestContext
from aitp_cp.web.edge import Edge

TRACE_CONTEXT = ("traceparent", "tracestate")


class Traced:
    """Wraps the whole application."""

    def __init__(self, app: Edge, tracer: Tracer) -> None:
        self._app = app
        self.connections = app.connections
        self._tracer = tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 0

        async def observed(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        with self._tracer.span("HTTP", kind="server", carrier=self._trace_context(Headers(scope=scope))) as span:
            try:
                await self._app(scope, receive, observed)
            finally:
                name, attributes = _described(scope, status)
                span.describe(name, attributes, failed=status >= 500)

    def _trace_context(self, headers: Headers) -> dict[str, str]:
        carrier = {name: headers[name] for name in TRACE_CONTEXT if name in headers}
        return carrier if carrier and self._app.recognises(headers) else {}


def _described(scope: Scope, status: int) -> tuple[str, dict[str, str | int]]:
    context: RequestContext = scope[CONTEXT]
    method = scope["method"] if context.endpoint else "other"
    return f"{method} {context.route}", {
        "http.request.method": method,
        "http.route": context.route,
        "http.response.status_code": status,
        "aitp.request_id": context.request_id,
    }
