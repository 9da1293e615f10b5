"""A span around each request, named by its route template; in place only where traces are exported."""

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from aitp_cp.telemetry.spans import Tracer
from aitp_cp.web.context import CONTEXT, RequestContext


class Traced:
    """Wraps the whole application."""

    def __init__(self, app: ASGIApp, tracer: Tracer) -> None:
        self._app = app
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

        headers = Headers(scope=scope)
        carrier = {name: headers[name] for name in ("traceparent", "tracestate") if name in headers}
        with self._tracer.span("HTTP", kind="server", carrier=carrier) as span:
            try:
                await self._app(scope, receive, observed)
            finally:
                name, attributes = _described(scope, status)
                span.describe(name, attributes, failed=status >= 500)


def _described(scope: Scope, status: int) -> tuple[str, dict[str, str | int]]:
    context: RequestContext = scope[CONTEXT]
    route = context.endpoint.template if context.endpoint else "unmatched"
    method = scope["method"] if context.endpoint else "other"
    return f"{method} {route}", {
        "http.request.method": method,
        "http.route": route,
        "http.response.status_code": status,
        "aitp.request_id": context.request_id,
    }
