"""What is noted of every answered request: its latency, and one line of log."""

from aitp_cp.errors import AppError
from aitp_cp.runtime import Runtime
from aitp_cp.telemetry.logging import RequestLine, log_request
from aitp_cp.web.context import RequestContext


def account(rt: Runtime, context: RequestContext, method: str, status: int, elapsed: float) -> None:
    endpoint = context.endpoint
    route = endpoint.template if endpoint else "unmatched"
    rt.metrics.observe_request(route, method if endpoint else "other", status // 100, elapsed)
    log_request(
        RequestLine(
            method=method,
            route=route,
            status=status,
            ms=round(elapsed * 1000, 2),
            request_id=context.request_id,
            actor=context.actor,
            client_ip=context.client_ip,
            **_named(context.error),
        )
    )


def _named(error: AppError | None) -> dict[str, str]:
    """The code, and the kind of failure behind it, whose text may hold anything."""
    if error is None:
        return {}
    cause = error.__cause__
    return {"code": error.code} if cause is None else {"code": error.code, "reason": type(cause).__name__}
