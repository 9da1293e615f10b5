"""What is noted of every answered request: its latency, and one line of log."""

from msgspec import UNSET, UnsetType

from aitp_cp.errors import AppError
from aitp_cp.runtime import Runtime
from aitp_cp.telemetry.logging import RequestLine, log_request
from aitp_cp.web.context import RequestContext

Text = str | UnsetType


def account(rt: Runtime, context: RequestContext, method: str, status: int, elapsed: float) -> None:
    endpoint = context.endpoint
    route = endpoint.template if endpoint else "unmatched"
    rt.metrics.observe_request(route, method if endpoint else "other", status // 100, elapsed)
    code, reason = _named(context.error)
    log_request(
        RequestLine(
            method=method,
            route=route,
            status=status,
            ms=round(elapsed * 1000, 2),
            request_id=context.request_id,
            actor=context.actor,
            client_ip=context.client_ip,
            code=code,
            reason=reason,
        )
    )


def _named(error: AppError | None) -> tuple[Text, Text]:
    """The code, and the kind of failure behind it, whose text may hold anything."""
    if error is None:
        return UNSET, UNSET
    return error.code, UNSET if error.__cause__ is None else type(error.__cause__).__name__
